"""The command line: `aflow-grpo fit | validate | test | warmstart`.

Light on purpose: the first line appears, and `--help` answers, before torch is imported. The
trainer verbs are in `cli.py` (a LightningCLI), the others in `commands/`.
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

from aflow_grpo.training.interrupts import Terminated, stop_signals
from aflow_grpo.training.launched import is_first_rank

__all__ = ["main"]

_TRAINER_VERBS = ("fit", "validate", "test")
_COMMANDS = {
    "data": ("data", "run_data"),
    "describe": ("describe", "run_describe"),
    "journal": ("journal", "run_journal"),
    "rescore": ("rescore", "run_rescore"),
    "score": ("score", "run_score"),
    "simulate": ("simulate", "run_simulate"),
    "warmstart": ("warmstart", "run_warmstart"),
}
"""Verb -> module in `commands/`, imported when it is asked for, and its entrance."""
_USAGE = """usage: aflow-grpo VERB [options]

  fit        train a policy             aflow-grpo fit --config configs/quickstart.yaml
             try one step, forecast     aflow-grpo fit --config … --preflight
  validate   judge it on data.val       aflow-grpo validate --config … --ckpt_path last
  test       judge it on data.test      aflow-grpo test --config … --ckpt_path last
  data       get data sets, check them  aflow-grpo data prepare gsm8k --source hub
             sample, check, describe    aflow-grpo data describe gsm8k
  describe   what a preset stands for   aflow-grpo describe loss dapo
  score      judge recorded outputs,    aflow-grpo score outputs.jsonl --profile aflow
             compare with their labels
  journal    a run's calls, tokens      aflow-grpo journal RUN --by tier
             and USD; export them       aflow-grpo journal RUN --parquet FOLDER
  rescore    a run by other rewards,    aflow-grpo rescore RUN --reward.preset additive
             without an API call
  simulate   serve the simulated LLM    aflow-grpo simulate --port 8000
             to any OpenAI client
  warmstart  make the tiny policy anew  aflow-grpo warmstart --output_dir DIR

aflow-grpo VERB --help lists every option of a verb."""

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

EXIT_OK, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_TERMINATED = 0, 2, 130, 143


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code.

    0 done, 1 failed, 2 wrong usage or settings, 3 ended by a limit, 4 training has gone wrong, 130
    interrupted (Ctrl-C), 143 terminated (SIGTERM).
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE)
        return EXIT_OK if arguments else EXIT_USAGE
    if arguments[0] == "--version":
        from aflow_grpo import __version__

        print(__version__)
        return EXIT_OK
    verb = arguments[0]
    try:
        with stop_signals(verb):
            return _run(verb, arguments)
    except KeyboardInterrupt:
        return _stopped(verb, "interrupted", EXIT_INTERRUPTED)
    except Terminated:
        return _stopped(verb, "terminated", EXIT_TERMINATED)


def _stopped(verb: str, how: str, code: int) -> int:
    if is_first_rank():
        print(f"\naflow-grpo {verb}: {how}.", file=sys.stderr)
    return code


def _run(verb: str, arguments: list[str]) -> int:
    for name, value in _DEFAULTS.items():
        # `data prepare --source hub` is the user's wish to download.
        if (verb, name) != ("data", "HF_HUB_OFFLINE"):
            os.environ.setdefault(name, value)
    # On import it deplores a package that would be of no use here.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # What torch and MLflow leave behind takes seconds to collect, for nothing: the process ends.
    atexit.register(gc.freeze)
    if verb in _TRAINER_VERBS:
        if is_first_rank() and (sys.stdout.isatty() or verb == "fit"):
            print(f"aflow-grpo {verb}: loading …", flush=True)
        started = time.perf_counter()
        # On some processors it says, when imported, that it will not fetch a kernel from the hub.
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
        from aflow_grpo.cli import run_trainer_verb

        return run_trainer_verb(arguments, started)
    if verb in _COMMANDS:
        module, function = _COMMANDS[verb]
        command = getattr(importlib.import_module(f"aflow_grpo.commands.{module}"), function)
        return int(command(arguments[1:]))
    print(f"aflow-grpo: there is no verb {verb!r}.\n\n{_USAGE}", file=sys.stderr)
    return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
