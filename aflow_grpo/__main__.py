"""The command line: `aflow-grpo VERB [options]`.

Light on purpose: the first line appears, and `--help` answers, before torch is imported. The
trainer verbs are in `cli.py` (a LightningCLI), the others in `commands/`; `verbs.py` lists them.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import logging
import os
import sys
import time
from collections.abc import Sequence

from aflow_grpo.exits import Exit
from aflow_grpo.terminal import VERBOSITY, show_log, verbosity
from aflow_grpo.training.interrupts import Terminated, stop_signals
from aflow_grpo.training.launched import is_first_rank
from aflow_grpo.verbs import TRAINER_VERBS, VERBS, usage, verb_like

__all__ = ["main"]

_NAMES = [verb.name for verb in VERBS]
_DEFAULTS = {
    # Nothing leaves the machine unasked: neither look-ups of files that are here nor statistics.
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # And MLflow says only what a user can do something about.
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""Environment variables that libraries read when they are imported; a user's own settings win."""
_HELP = ("-h", "--help")
_LOUDNESS = {"--quiet": "quiet", "--debug": "debug"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code, one of `exits.Exit`."""
    arguments = _loudness(sys.argv[1:] if argv is None else argv)
    _open_streams()
    try:
        try:
            return _main(arguments)
        finally:
            # A short text is still in the buffer: the interpreter would find out after us.
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has had enough, as `head` has; the interpreter's own flush at the
        # end must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED


def _open_streams() -> None:
    """Streams that take everything: one may be closed (`>&-`), one may know no "…" (Latin-1)."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in _HELP:
        print(usage())
        return Exit.DONE if arguments else Exit.USAGE
    if arguments[0] == "--version":
        from aflow_grpo import __version__

        print(__version__)
        return Exit.DONE
    verb = arguments[0]
    try:
        with stop_signals(verb):
            return _run(verb, arguments)
    except KeyboardInterrupt:
        return _stopped(verb, "interrupted", Exit.INTERRUPTED)
    except Terminated:
        return _stopped(verb, "terminated", Exit.TERMINATED)


def _loudness(arguments: Sequence[str]) -> list[str]:
    """The arguments less `--quiet` and `--debug`, which child processes are to know too."""
    for argument in arguments:
        if argument in _LOUDNESS:
            os.environ[VERBOSITY] = _LOUDNESS[argument]
    return [argument for argument in arguments if argument not in _LOUDNESS]


def _stopped(verb: str, how: str, code: Exit) -> int:
    if is_first_rank():
        print(f"\naflow-grpo {verb}: {how}.", file=sys.stderr)
    return code


def _run(verb: str, arguments: list[str]) -> int:
    for name, value in _DEFAULTS.items():
        # `data prepare --source hub` is the user's wish to download, and `--debug` to hear all.
        wished = (verb == "data" and name == "HF_HUB_OFFLINE") or (
            verbosity() == "debug" and name == "MLFLOW_LOGGING_LEVEL"
        )
        if not wished:
            os.environ.setdefault(name, value)
    show_log()
    # On import it deplores a package that would be of no use here.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # What torch and MLflow leave behind takes seconds to collect, for nothing: the process ends.
    atexit.register(gc.freeze)
    if verb in TRAINER_VERBS:
        return _run_trainer_verb(verb, arguments)
    if verb in _NAMES:
        command = importlib.import_module(f"aflow_grpo.commands.{verb}")
        return int(getattr(command, f"run_{verb}")(arguments[1:]))
    near = verb_like(verb)
    hint = f" Did you mean {near}?" if near else ""
    text = f"aflow-grpo: there is no verb {verb!r}.{hint} `aflow-grpo --help` lists them."
    print(text, file=sys.stderr)
    return Exit.USAGE


def _run_trainer_verb(verb: str, arguments: list[str]) -> int:
    helping = any(argument in _HELP for argument in arguments)
    if helping and arguments[-1] in _HELP:
        from aflow_grpo.trainer_help import short_help

        print(short_help(verb))
        return Exit.DONE
    if verbosity() != "quiet" and is_first_rank() and not helping:
        print(f"aflow-grpo {verb}: loading …", file=sys.stderr, flush=True)
    started = time.perf_counter()
    from aflow_grpo.cli import run_trainer_verb

    return run_trainer_verb(arguments, started)


if __name__ == "__main__":
    sys.exit(main())
