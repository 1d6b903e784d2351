"""`aflow-grpo doctor`: is this machine ready for a run with these settings?

Looks and reports; ends no process. What is looked at: `workbench.doctor`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace

from aflow_grpo.commands.parsing import VerbParser
from aflow_grpo.errors import AFlowError, ConfigError
from aflow_grpo.exits import Exit
from aflow_grpo.terminal import complain, console, verbosity
from aflow_grpo.training.interrupts import unwind_from_here

__all__ = ["make_parser", "run_doctor"]

_PROTECTED = "AFLOW_GRPO_PROTECTED_PIDS"
_FORCE = ("--force-clean", "--force_clean")
_REFUSED = (
    "{} is not offered: this program ends no process. It could not give back the work that is lost "
    "with it, and a process id may belong to another program by the time the signal arrives. "
    "`aflow-grpo doctor` shows whose processes are on the GPUs. Ask their owner, end your own "
    "with `kill PID`, or take other GPUs with CUDA_VISIBLE_DEVICES."
)


def make_parser() -> VerbParser:
    """Which settings, which GPUs, how to answer."""
    parser = VerbParser(
        prog="aflow-grpo doctor",
        description="`aflow-grpo doctor --config configs/llm/openai.yaml` says whether this "
        "machine is ready for such a run: every line is ok, a warning or a failure with its fix. "
        "Exit code 1 when there is a failure. It changes nothing and ends no process.",
    )
    parser.add_argument(
        "--config",
        type=str,
        action="append",
        default=[],
        metavar="FILE",
        help="The run's YAML layers, in order; may be repeated. Default: configs/base.yaml alone.",
    )
    parser.add_argument(
        "--trainer.default_root_dir",
        type=Path | None,
        default=None,
        metavar="DIR",
        help="The run's directory; default: that of the settings.",
    )
    parser.add_argument(
        "--gpus",
        type=int,
        nargs="+",
        default=None,
        metavar="INDEX",
        help="GPUs by nvidia-smi's index; default: those that CUDA_VISIBLE_DEVICES leaves.",
    )
    parser.add_argument(
        "--require_free",
        action="store_true",
        help="A GPU in use is a failure: exit code 1 says that the run should not start.",
    )
    parser.add_argument(
        "--protected_pids",
        type=int,
        nargs="+",
        default=[],
        metavar="PID",
        help=f"Processes that are marked as protected; {_PROTECTED} adds more, by commas.",
    )
    parser.add_argument(
        "--probe",
        action="store_true",
        help="Ask every tier for one token (really paid, about 0.000002 USD) and MLflow's server.",
    )
    _add_output_options(parser)
    return parser


def _add_output_options(parser: VerbParser) -> None:
    parser.add_argument(
        "--monitor",
        type=float,
        nargs="?",
        const=2.0,
        default=None,
        metavar="SECONDS",
        help="Watch the GPUs, again every so many seconds (2), until Ctrl-C.",
    )
    parser.add_argument(
        "--times",
        type=int | None,
        default=None,
        metavar="N",
        help="With --monitor: end after so many looks.",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="One JSON document; with --monitor one per look and line.",
    )


def run_doctor(arguments: Sequence[str]) -> int:
    """Run the verb; returns 0 without a failure, 1 with one, 2 for wrong settings."""
    for argument in arguments:
        if argument.partition("=")[0] in _FORCE:
            print(f"aflow-grpo doctor: {_REFUSED.format(argument)}", file=sys.stderr)
            return Exit.USAGE
    given = make_parser().parse_args(list(arguments))
    try:
        protected = (*given.protected_pids, *_protected_by_environment())
        if given.monitor is not None:
            return _monitor(given, protected)
        if given.times is not None:
            raise ConfigError("--times is for --monitor only.")
        return _examine(given, protected)
    except AFlowError as error:
        complain("aflow-grpo doctor", error)
        return Exit.USAGE


def _examine(given: Namespace, protected: Sequence[int]) -> int:
    from aflow_grpo.workbench.doctor import doctor, worst
    from aflow_grpo.workbench.doctor.showing import show_checks

    if given.probe:
        print("asking every tier for one token, which is paid for", file=sys.stderr)
    checks = doctor(
        given.config,
        root=given["trainer.default_root_dir"],
        gpus=given.gpus,
        protected_pids=protected,
        require_free=given.require_free,
        probe=given.probe,
    )
    status = worst(checks)
    if given.json:
        print(json.dumps({"status": status, "checks": [check.as_dict() for check in checks]}))
    else:
        show_checks(checks, console(), quiet=verbosity() == "quiet")
    return Exit.FAILED if status == "failure" else Exit.DONE


def _monitor(given: Namespace, protected: Sequence[int]) -> int:
    from aflow_grpo.workbench.doctor.monitor import MonitorSettings, monitor

    settings = MonitorSettings(
        given.monitor,
        given.times,
        None if given.gpus is None else tuple(given.gpus),
        tuple(protected),
    )
    unwind_from_here()  # Ctrl-C gives the cursor back and leaves no nvidia-smi behind
    well = monitor(settings, console(), as_json=given.json)
    return Exit.DONE if well else Exit.FAILED


def _protected_by_environment() -> tuple[int, ...]:
    value = os.environ.get(_PROTECTED, "")
    parts = value.replace(",", " ").split()
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ConfigError(f"{_PROTECTED}={value!r}: expected process ids, e.g. 1234,5678.")
    return tuple(map(int, parts))
