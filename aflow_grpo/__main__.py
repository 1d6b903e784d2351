"""The command line: `aflow-grpo fit | validate | test | warmstart`.

Light on purpose: the first line appears, and `--help` answers, before torch is imported. The
trainer verbs are in `cli.py` (a LightningCLI), the others in `commands/`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

__all__ = ["main"]

_TRAINER_VERBS = ("fit", "validate", "test")
_USAGE = """usage: aflow-grpo VERB [options]

  fit        train a policy             aflow-grpo fit --config configs/quickstart.yaml
  validate   judge it on data.val       aflow-grpo validate --config … --ckpt_path last
  test       judge it on data.test      aflow-grpo test --config … --ckpt_path last
  warmstart  make the tiny policy anew  aflow-grpo warmstart --output_dir DIR

aflow-grpo VERB --help lists every option of a verb."""

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_TERMINATED = 0, 1, 2, 130, 143


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code.

    0 done, 1 failed, 2 wrong usage or settings, 130 interrupted (Ctrl-C), 143 terminated (SIGTERM).
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE)
        return EXIT_OK if arguments else EXIT_USAGE
    if arguments[0] == "--version":
        from aflow_grpo import __version__

        print(__version__)
        return EXIT_OK
    try:
        return _run(arguments[0], arguments)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _run(verb: str, arguments: list[str]) -> int:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    if verb in _TRAINER_VERBS:
        if sys.stdout.isatty() or verb == "fit":
            print(f"aflow-grpo {verb}: loading …", flush=True)
        from aflow_grpo.cli import run_trainer_verb

        return run_trainer_verb(arguments)
    if verb == "warmstart":
        from aflow_grpo.commands.warmstart import run_warmstart

        return run_warmstart(arguments[1:])
    print(f"aflow-grpo: there is no verb {verb!r}.\n\n{_USAGE}", file=sys.stderr)
    return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
