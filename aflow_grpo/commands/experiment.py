"""`aflow-grpo experiment NAME`: repeat one of the experiments, or one of your own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aflow_grpo.commands.parsing import VerbParser
from aflow_grpo.errors import AFlowError
from aflow_grpo.terminal import complain

__all__ = ["make_parser", "run_experiment"]


def make_parser() -> VerbParser:
    """The verb's options."""
    parser = VerbParser(
        prog="aflow-grpo experiment",
        description="aflow-grpo experiment direct_execution --short. Makes every run of an "
        "experiment, judges it on new problems, and prints the table; what is done is not done "
        "again.",
    )
    parser.add_argument(
        "experiment",
        type=str,
        help="A name in the folder experiments, or a folder or file of your own.",
    )
    parser.add_argument(
        "--short",
        action="store_true",
        help="The smallest version that makes every part once, in a development world.",
    )
    parser.add_argument(
        "--development",
        action="store_true",
        help="In the worlds for trying things out; the others are for recipes that are settled.",
    )
    parser.add_argument(
        "--variant",
        type=str,
        default=None,
        help="Under other conditions, by their name under variants in the experiment's file.",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=None,
        help="Folder of the runs; default: runs/NAME, or runs/NAME-VARIANT.",
    )
    parser.add_argument("--workers", type=int, default=2, help="Runs at the same time.")
    return parser


def run_experiment(arguments: Sequence[str]) -> int:
    """Run the verb and return the exit code: 0 done, 1 a run failed, 2 wrong settings."""
    options = make_parser().parse_args(list(arguments))
    # Here, not above: it brings torch, numpy and mlflow.
    from aflow_grpo.training.interrupts import unwind_from_here
    from aflow_grpo.workbench.experiments.conducting import conduct
    from aflow_grpo.workbench.experiments.running import ExperimentFailed

    unwind_from_here()
    try:
        table = conduct(
            options.experiment,
            output=options.output,
            kind="development" if options.development or options.short else "sealed",
            short=options.short,
            variant=options.variant,
            workers=options.workers,
        )
    except ExperimentFailed as error:
        complain("aflow-grpo experiment", error)
        return 1
    except AFlowError as error:
        complain("aflow-grpo experiment", error)
        return 2
    except OSError as error:  # of --output: full, not ours to write, a file
        told = AFlowError(f"{error.filename or 'a file'}: {error.strerror}.")
        complain("aflow-grpo experiment", told)
        return 1
    print(table)
    return 0
