"""`aflow-grpo warmstart`: make the tiny policy anew by supervised training on made-up workflows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aflow_grpo.commands.parsing import VerbParser
from aflow_grpo.data.jsonl import read_problems
from aflow_grpo.errors import AFlowError
from aflow_grpo.policy.recipe import WarmStartSettings
from aflow_grpo.terminal import complain, progress
from aflow_grpo.training.interrupts import unwind_from_here

if TYPE_CHECKING:
    from aflow_grpo.policy.warmstart import WarmStartReport

__all__ = ["make_parser", "run_warmstart"]


def make_parser() -> VerbParser:
    """Where the policy goes, and its recipe."""
    parser = VerbParser(
        prog="aflow-grpo warmstart",
        description="Make the tiny policy anew; the same bits on the same machine.",
    )
    parser.add_argument("--config", action="config", help="A YAML file with any of these options.")
    parser.add_argument("--output_dir", type=Path, required=True, help="Where the policy goes.")
    parser.add_argument(
        "--problems",
        type=Path,
        default=None,
        help="JSONL file of questions to practise on; default: the shipped ones and fresh ones.",
    )
    parser.add_class_arguments(WarmStartSettings, "recipe")
    return parser


def run_warmstart(arguments: Sequence[str]) -> int:
    """Run the verb and return the exit code: 0 done, 2 wrong settings."""
    parser = make_parser()
    options = parser.parse_args(list(arguments))
    settings: WarmStartSettings = parser.instantiate(options).recipe
    # Here, not above: it brings torch.
    from aflow_grpo.policy.warmstart import warm_start

    unwind_from_here()  # the progress bar has to give the terminal back
    try:
        problems = read_problems(options.problems) if options.problems else None
        with progress("warm start", settings.steps) as shown:
            report = warm_start(
                settings,
                options.output_dir,
                problems=problems,
                on_step=lambda step, loss: shown.advance(1, f"loss {loss:.3f}"),
            )
    except AFlowError as error:
        complain("aflow-grpo warmstart", error)
        return 2
    _show(report, options.output_dir)
    return 0


def _show(report: WarmStartReport, output_dir: Path) -> None:
    rates = report.rates
    if rates is not None:
        print(
            f"valid as written on {rates.problems} validation problems: "
            f"{rates.sampled['all']:.1%} sampled, {rates.greedy['all']:.1%} greedy"
        )
    print(
        f"{report.parameters:,} parameters, loss {report.final_loss:.3f} nats per token, "
        f"{report.cpu_seconds:.0f} CPU seconds\n"
        f"weights sha256 {report.weights_sha256}\n"
        f"Next: aflow-grpo fit --config configs/quickstart.yaml --model.policy.model {output_dir}"
    )
