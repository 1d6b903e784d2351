"""`aflow-grpo rescore`: a run's rewards and metrics under other settings, without an API call.

Options overlay the settings that each rollout was stored with. The work: `workbench.rescored`.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rich.table import Table

from aflow_grpo.commands.parsing import VerbParser
from aflow_grpo.errors import AFlowError
from aflow_grpo.rewards import RewardSettings
from aflow_grpo.scoring.settings import ScoringSettings
from aflow_grpo.terminal import complain, console

if TYPE_CHECKING:
    from aflow_grpo.workbench.rescored import RescoredRun

__all__ = ["make_parser", "run_rescore"]


def run_rescore(arguments: Sequence[str]) -> int:
    """Run the verb and return the exit code: 0 done, 2 wrong settings."""
    parser = make_parser()
    options = parser.parse_args(list(arguments))
    # Here, not above: it brings torch.
    from aflow_grpo.workbench.rescored import log_rescored, rescore_runs, write_rescored

    try:
        runs = asyncio.run(
            rescore_runs(
                options.run,
                lambda stored: _overlaid(parser, stored, [str(options.run)]),
                lambda stored: _overlaid(parser, stored, arguments),
                run_id=options.run_id,
                rescore_answers=options.rescore_answers,
                problems=options.problems,
            )
        )
        output = options.output or options.run / "rescored.jsonl"
        write_rescored(runs, output)
        logged = log_rescored(runs, options.run) if options.mlflow else []
    except AFlowError as error:
        complain("aflow-grpo rescore", error)
        return 2
    for rescored in runs:
        _show(rescored)
    print(f"Metrics of {sum(len(r.metrics) for r in runs)} steps: {output}")
    for name in logged:
        print(f"MLflow run: {name}")
    return 0


def make_parser() -> VerbParser:
    """The run, and the settings that overlay its own."""
    parser = VerbParser(
        prog="aflow-grpo rescore",
        description="Rewards and metrics of a run's stored rollouts under other settings. Options "
        "overlay the settings that the run had.",
    )
    parser.add_argument("run", type=Path, help="The run's directory (trainer.default_root_dir).")
    parser.add_argument("--config", action="config", help="A YAML file with any of these options.")
    parser.add_argument(
        "--run_id", type=str, default=None, help="Only this MLflow run; default: every run there."
    )
    parser.add_argument(
        "--rescore_answers",
        type=bool,
        nargs="?",
        const=True,
        default=False,
        help="Judge every answer again, also where the scoring settings are the run's own.",
    )
    parser.add_argument(
        "--problems",
        type=Path,
        default=None,
        help="JSONL file of problems that replace the stored ones of the same id.",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=None,
        help="Where the metrics go, .jsonl or .csv; default: rescored.jsonl in the directory.",
    )
    parser.add_argument(
        "--mlflow",
        type=bool,
        default=True,
        help="Log the metrics to a new MLflow run where the directory has a lab book.",
    )
    parser.add_class_arguments(RewardSettings, "reward")
    parser.add_class_arguments(ScoringSettings, "scoring")
    return parser


def _overlaid(
    parser: VerbParser, stored: Mapping[str, Any], arguments: Sequence[str]
) -> tuple[RewardSettings, ScoringSettings]:
    """Stored settings under the options in `arguments`."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        file.write(json.dumps(stored))
        file.flush()
        options = parser.parse_args([f"--config={file.name}", *arguments])
    made = parser.instantiate(options)
    return made.reward, made.scoring


def _show(rescored: RescoredRun) -> None:
    found = rescored.comparison
    table = Table(title=f"run {rescored.run}", title_justify="left")
    table.add_column("part")
    table.add_column("domain")
    for name in ("rollouts", "masked", "reward", "accuracy", "changed"):
        table.add_column(name, justify="right")
    for part, domain, tally in found.rows:
        n = len(tally.new_rewards)
        reward = accuracy = "-"
        if n:
            reward = f"{fmean(tally.old_rewards):+.3f} → {fmean(tally.new_rewards):+.3f}"
            accuracy = f"{tally.old_right / n:.1%} → {tally.new_right / n:.1%}"
        table.add_row(
            part, domain, str(n + tally.masked), str(tally.masked), reward, accuracy,
            str(tally.changed), end_section=False,
        )  # fmt: skip
    shown = console()
    shown.width = max(100, shown.width)
    shown.print(table)
    print(f"{found.changed} of {found.rollouts} rollouts have another score or reward.")
