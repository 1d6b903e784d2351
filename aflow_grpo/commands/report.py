"""`aflow-grpo report RUN`: a run as one HTML page that needs no network; `workbench.reporting`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from aflow_grpo.commands.parsing import VerbParser
from aflow_grpo.errors import AFlowError
from aflow_grpo.terminal import complain

__all__ = ["make_parser", "run_report"]


def run_report(arguments: Sequence[str]) -> int:
    """Run the verb and return the exit code: 0 done, 2 wrong settings or an unreadable run."""
    options = make_parser().parse_args(list(arguments))
    # Here, not above: numpy and plotly take longer to import than `--help` may take to answer.
    from aflow_grpo.workbench.reporting import write_report

    try:
        written = write_report(
            options.run,
            options.output,
            overwrite=options.overwrite,
            tracking_uri=options.tracking_uri,
        )
    except AFlowError as error:
        complain("aflow-grpo report", error)
        return 2
    if options.json:
        told = {"path": str(written.path.resolve()), "size_bytes": written.size_bytes}
        print(json.dumps({**told, "missing": written.missing}))
        return 0
    print(f"{written.path.resolve()} ({written.size_bytes / 1e6:.1f} MB; opens in any browser)")
    for line in written.missing:
        print(f"  {line}")
    return 0


def make_parser() -> VerbParser:
    """The verb's options."""
    parser = VerbParser(
        prog="aflow-grpo report",
        description="aflow-grpo report runs/quickstart. One HTML page about a run, finished or "
        "not; it needs no network and may be sent to others.",
    )
    parser.add_argument(
        "run",
        type=str,
        help="The run's directory, DIRECTORY:RUN_ID, or the id of an MLflow run with "
        "--tracking_uri.",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=None,
        help="The file; default: report.html in the run's directory.",
    )
    parser.add_argument(
        "--overwrite",
        type=bool,
        nargs="?",
        const=True,
        default=False,
        help="Replace a file that is no report; a report is always replaced.",
    )
    parser.add_argument(
        "--tracking_uri", type=str, default=None, help="Where a run given by its id is tracked."
    )
    parser.add_argument("--json", action="store_true", help="Print path and size as JSON.")
    return parser
