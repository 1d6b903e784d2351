"""`fit --preflight`: one real iteration of a run, and what it says about the whole.

The iteration is the run's own next one: same settings, problems, seeds. What the executor answers
is kept in the run's journal, so that the run does not pay for it again; nothing else is kept: no
MLflow run, no checkpoint, no weights, and no evaluation is made. Not here: the arithmetic
(`forecast`), and which of the usual callbacks stay away (`cli`).
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import lightning as L
import torch
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from aflow_grpo.errors import ConfigError
from aflow_grpo.intervals import wilson_interval
from aflow_grpo.records import Usage
from aflow_grpo.training.collect import rollout_callback_of
from aflow_grpo.training.forecast import (
    ASSUMED_CALLS,
    ForecastRange,
    Phases,
    Plan,
    StepFigures,
    forecast,
    quantile,
    setting_warnings,
    step_figures,
    step_warnings,
)
from aflow_grpo.training.ranks import Ranks
from aflow_grpo.training.settings import EvaluationSettings
from aflow_grpo.training.spending import plan_rest

__all__ = ["Memory", "Preflight", "PreflightFindings", "peak_rss_bytes", "preflight_view"]

_GIB = 2**30


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak; None without a GPU."""

    process: int
    gpu: int | None = None
    gpu_total: int | None = None


@dataclass(frozen=True)
class PreflightFindings:
    """All that a preflight has to tell."""

    root: str
    iteration: int
    """The iteration that was made, 1-based."""
    figures: StepFigures
    max_prompt_tokens: int
    max_new_tokens: int
    memory: Memory
    phases: Phases
    usage: Usage
    """Of the step's executor calls, of all ranks."""
    replayed: int
    """Those of them that the journal answered."""
    simulated: bool
    journal: bool
    plan: Plan
    endless: bool
    """`trainer.max_steps` sets no end: the plan is for a number of iterations."""
    forecast: ForecastRange
    warnings: Sequence[str]


def peak_rss_bytes(platform: str = sys.platform) -> int:
    """The largest memory that this process has held so far; child processes have their own."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform == "darwin" else peak * 1024


class Preflight(L.Callback):
    """Lets one iteration happen, measures it, and prints the findings when the fit ends.

    Args:
        started: `time.perf_counter()` when loading began.
    """

    def __init__(self, started: float) -> None:
        self._started = started
        self._load_s = 0.0
        self._steps_done = 0
        self._first_iteration = 0
        self._evaluation = EvaluationSettings()
        self._findings: PreflightFindings | None = None

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        """Note where the run is continued."""
        self._steps_done = int(checkpoint["global_step"])

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Take every evaluation out of this fit.

        Raises:
            ConfigError: The run has no step left.
        """
        if 0 <= trainer.max_steps <= self._steps_done:
            raise ConfigError(
                f"trainer.max_steps={trainer.max_steps}: {self._steps_done} steps are done, so that"
                " none is left to try. Raise trainer.max_steps."
            )
        self._evaluation = pl_module.evaluation
        pl_module.evaluation = replace(self._evaluation, at_start=False, at_end=False)
        trainer.limit_val_batches = 0
        rollouts = rollout_callback_of(trainer)
        if rollouts.overlap == "step":
            rollouts.overlap = "group"  # no iteration follows to be written ahead

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """The clock of loading ends here."""
        self._first_iteration = pl_module.iteration
        _warm_up()
        self._load_s = time.perf_counter() - self._started

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The iteration is done: look at it and stop."""
        self._findings = self._look(trainer, pl_module)
        trainer.should_stop = True

    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Print the findings."""
        if self._findings is not None and trainer.is_global_zero:
            # Paths and keys are printed as they are: "[x]" in one is no markup, ":x:" no emoji.
            console = Console(highlight=False, markup=False, emoji=False)
            console.print(preflight_view(self._findings))

    def _look(self, trainer: L.Trainer, pl_module: Any) -> PreflightFindings:
        rollouts = rollout_callback_of(trainer)
        figures = step_figures(pl_module.rollouts, rollouts.reward)
        policy, times = pl_module.policy, trainer.callback_metrics
        phases = Phases(
            load_s=self._load_s,
            sample_s=float(times["time/sample_s"]),
            execute_s=float(times["time/execute_s"]),
            update_s=float(times["time/update_s"]),
        )
        plan = plan_rest(
            trainer,
            pl_module,
            steps_done=self._steps_done,
            first_iteration=self._first_iteration,
            evaluation=self._evaluation,
            workflows=figures.workflows,
            fallback=rollouts.rollout.fallback == "evaluation",
        )
        ranks = Ranks.of(trainer)
        answered = sum(t.answered for t in rollouts.client.counters.values())
        asked = ranks.gather((rollouts.client.usage, answered))
        usage = sum((theirs for theirs, _ in asked), Usage())
        warnings = setting_warnings(
            preset=rollouts.reward.preset,
            group_size=pl_module.grpo.group_size,
            temperature=policy.sampling.temperature,
            learning_rate=pl_module.optimizer_settings.learning_rate,
            lora=policy.lora is not None,
        )
        return PreflightFindings(
            root=str(trainer.default_root_dir),
            iteration=pl_module.iteration,
            figures=figures,
            max_prompt_tokens=policy.sampling.max_prompt_tokens,
            max_new_tokens=policy.sampling.max_new_tokens,
            memory=_memory(trainer.strategy.root_device),
            phases=phases,
            usage=usage,
            replayed=usage.calls - sum(answered for _, answered in asked),
            simulated=rollouts.llm.simulator is not None,
            journal=rollouts.llm.journal,
            plan=plan,
            endless=trainer.max_steps < 0,
            forecast=forecast(
                figures, phases, plan, rollouts.rollout.concurrency * ranks.world_size
            ),
            warnings=warnings + step_warnings(figures),
        )


def _warm_up() -> None:
    """Import now what the first step of a process would, for seconds that say nothing of a step."""
    import aflow_grpo.llm.endpoint  # noqa: F401

    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    torch.optim.AdamW([weight]).step()


def _memory(device: torch.device) -> Memory:
    if device.type != "cuda":
        return Memory(peak_rss_bytes())
    total = torch.cuda.get_device_properties(device).total_memory
    return Memory(peak_rss_bytes(), torch.cuda.max_memory_allocated(device), total)


def preflight_view(found: PreflightFindings) -> RenderableType:
    """The findings in about a screen of 80 columns."""
    figures = found.figures
    title = (
        f"Preflight of {found.root}: iteration {found.iteration}, {figures.workflows} workflows "
        f"for {len(figures.prompt_tokens)} problems"
    )
    parts: list[RenderableType] = [Text(title, style="bold"), _grid(_step_rows(found))]
    whole = f"Forecast for {found.plan.iterations} iterations and their evaluations"
    if found.endless:
        whole += " (trainer.max_steps=-1 sets no end)"
    parts += [Text(""), Text(whole, style="bold"), _grid(_forecast_rows(found)), Text("")]
    if found.warnings:
        parts += [Text("Warnings", style="bold"), _grid([("!", text) for text in found.warnings])]
    else:
        parts.append(Text("No warnings."))
    return Group(*parts)


def _grid(rows: Sequence[tuple[str, str]] | Iterator[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in rows:
        table.add_row(Text(f"  {label}"), Text(text))
    return table


def _step_rows(found: PreflightFindings) -> Iterator[tuple[str, str]]:
    figures, phases, usage = found.figures, found.phases, found.usage
    n = figures.counted
    yield "direct execution", _share(figures.direct, n)
    yield "accuracy", _share(figures.correct, n)
    yield "statuses", ", ".join(f"{name} {count}" for name, count in figures.statuses.items())
    yield (
        "prompt tokens",
        f"{_lengths(figures.prompt_tokens, found.max_prompt_tokens)}; context shortened "
        f"{figures.shortened} of {len(figures.prompt_tokens)}",
    )
    yield (
        "completion tokens",
        f"{_lengths(figures.completion_tokens, found.max_new_tokens)}; cut {figures.cut} of "
        f"{figures.workflows} ({figures.cut / figures.workflows:.0%})",
    )
    silent = figures.groups - figures.signals
    share = f" ({silent / figures.groups:.0%})" if figures.groups else ""
    yield (
        "groups",
        f"{figures.signals} of {figures.groups} with a signal, {silent}{share} of zero variance",
    )
    yield "memory, peak", _memory_text(found.memory)
    step_s = phases.sample_s + phases.execute_s + phases.update_s
    yield (
        "seconds",
        f"load {_short(phases.load_s)}; step {_short(step_s)}: sample {_short(phases.sample_s)}, "
        f"execute {_short(phases.execute_s)}, update {_short(phases.update_s)}",
    )
    yield (
        "executor",
        f"{usage.calls} calls by {figures.ran} workflows, list cost ${figures.total_usd:.4f}, "
        f"billed {_billed(found)}",
    )


def _forecast_rows(found: PreflightFindings) -> Iterator[tuple[str, str]]:
    figures, plan, run = found.figures, found.plan, found.forecast
    evaluated = f"{plan.judged} in evaluations"
    if plan.checked:
        evaluated += f"; {plan.checked} more only checked"
    yield "workflows", f"{plan.trained} in training, {evaluated}"
    hours = _between(_short(run.low_s / 3600), _short(run.high_s / 3600))
    minutes = _between(f"{run.low_s / 60:.0f}", f"{run.high_s / 60:.0f}")
    yield "time", f"{hours} hours ({minutes} minutes)"
    yield "list cost", f"{_between(f'{run.low_usd:.2f}', f'{run.high_usd:.2f}')} USD"
    upper = f"cost ${figures.ran_usd:.6f}, as the {figures.ran} did that called the executor"
    if not figures.ran:
        upper = f"cost ${figures.ran_usd:.6f} ({ASSUMED_CALLS} calls: assumed, none made any here)"
    yield (
        "",
        f"The first figures are this step's; the second if every workflow ran and {upper}. "
        "Prices are by the list, retries not included. The time changes with the length of the "
        "completions.",
    )
    if found.simulated:
        yield (
            "",
            "The executor is simulated: nothing is billed, costs are those of what it imitates.",
        )
    if found.replayed:
        yield (
            "",
            f"The journal answered {found.replayed} of the {found.usage.calls} calls at once: new "
            "ones will take longer than forecast.",
        )
    elif found.usage.calls and found.journal:
        yield "", "This step's answers are in the journal: the run will not pay for them again."


def _share(hits: int, n: int) -> str:
    if n == 0:
        return "unknown: no workflow could be judged"
    low, high = wilson_interval(hits, n)
    return f"{hits / n:.0%} of {n} (95 % interval {low:.0%} to {high:.0%})"


def _lengths(tokens: Sequence[int], limit: int) -> str:
    p50, p90 = quantile(tokens, 0.5), quantile(tokens, 0.9)
    return f"p50 {p50}, p90 {p90}, max {max(tokens)} of {limit}"


def _memory_text(memory: Memory) -> str:
    text = f"{memory.process / _GIB:.2f} GiB of this process"
    if memory.gpu is not None and memory.gpu_total is not None:
        text += f"; GPU {memory.gpu / _GIB:.2f} of {memory.gpu_total / _GIB:.1f} GiB"
    return text


def _billed(found: PreflightFindings) -> str:
    return "nothing" if found.simulated else f"${found.usage.billed_usd:.4f}"


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _between(low: str, high: str) -> str:
    return f"about {low}" if low == high else f"{low} to {high}"
