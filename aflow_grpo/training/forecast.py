"""What one training step says about the run it belongs to: figures, forecast, warnings.

Pure functions over records and settings. A forecast has two ends: *as measured*, and *if every
workflow ran*, since an untrained policy's workflows seldom run and only those that do cost time
and money. Not here: how the step is made and what is printed (`preflight`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from aflow_grpo.records import Rollout
from aflow_grpo.rewards import RewardSettings, one_call_cost
from aflow_grpo.training.settings import EvaluationSettings

__all__ = [
    "ASSUMED_CALLS",
    "ForecastRange",
    "Phases",
    "Plan",
    "StepFigures",
    "forecast",
    "plan_run",
    "quantile",
    "setting_warnings",
    "step_figures",
    "step_warnings",
]

ASSUMED_CALLS = 3
"""Executor calls of a workflow, where none of the step's workflows made one to be measured."""
MANY = 0.1
"""Share of cut completions or shortened contexts above which it is a fault of the settings."""


@dataclass(frozen=True)
class StepFigures:
    """What the rollouts of one iteration show."""

    workflows: int
    counted: int
    """Workflows that were judged; the rest is masked: the executor was unavailable."""
    direct: int
    correct: int
    statuses: Mapping[str, int]
    """Status -> workflows, the most frequent first."""
    prompt_tokens: tuple[int, ...]
    """Of each problem."""
    completion_tokens: tuple[int, ...]
    """Of each workflow."""
    cut: int
    """Completions that hit their length limit."""
    shortened: int
    """Problems whose context did not fit into the prompt whole."""
    groups: int
    """Groups with at least one judged workflow."""
    signals: int
    """Groups with unequal rewards: only these teach something."""
    ran: int
    """Workflows that called the executor."""
    ran_s: float
    """Mean seconds of such a workflow."""
    ran_usd: float
    """Mean list cost of such a workflow; where there is none, an assumption: `ASSUMED_CALLS` times
    the one-call cost."""
    total_usd: float
    """List cost of the whole step, fallbacks included."""


@dataclass(frozen=True)
class Phases:
    """Seconds of one iteration's phases, and of everything before the first."""

    load_s: float
    sample_s: float
    execute_s: float
    """Waiting for executions after the last workflow was sampled."""
    update_s: float


@dataclass(frozen=True)
class Plan:
    """What is left of a run to do."""

    iterations: int
    trained: int
    """Workflows of these iterations."""
    judged: int
    """Workflows that evaluations execute."""
    answered: int
    """Those of them in whose place the fixed workflow runs when they do not."""
    checked: int
    """Workflows that are sampled and not executed: by quick validations, and to explore."""
    explored: int = 0
    """Valid workflows that are executed before the first iteration."""


@dataclass(frozen=True)
class ForecastRange:
    """The two ends of a forecast: as measured, and if every workflow ran."""

    low_s: float
    high_s: float
    low_usd: float
    high_usd: float


def quantile(values: Sequence[int], q: float) -> int:
    """The smallest value that a share `q` of the values does not exceed; 0 without values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)] if ordered else 0


def step_figures(rollouts: Sequence[Rollout], reward: RewardSettings) -> StepFigures:
    """The figures of one iteration's rollouts, masked ones included; at least one rollout."""
    counted = [r for r in rollouts if not r.masked]
    rewards: dict[int, set[float]] = {}
    for rollout in counted:
        rewards.setdefault(rollout.group, set()).add(rollout.reward.total)
    first_of_group = {r.group: r for r in reversed(rollouts)}.values()
    ran = [r.execution for r in rollouts if r.execution.usage.calls]
    assumed_usd = ASSUMED_CALLS * fmean(one_call_cost(r.problem, reward) for r in rollouts)
    return StepFigures(
        workflows=len(rollouts),
        counted=len(counted),
        direct=sum(r.execution.direct for r in counted),
        correct=sum(r.score.correct for r in counted),
        statuses=dict(Counter(str(r.execution.status) for r in rollouts).most_common()),
        prompt_tokens=tuple(r.completion.prompt_length for r in first_of_group),
        completion_tokens=tuple(r.completion.length for r in rollouts),
        cut=sum(not r.completion.finished for r in rollouts),
        shortened=sum(r.completion.context_cut for r in first_of_group),
        groups=len(rewards),
        signals=sum(len(values) > 1 for values in rewards.values()),
        ran=len(ran),
        ran_s=fmean(e.seconds for e in ran) if ran else 0.0,
        ran_usd=fmean(e.usage.cost_usd for e in ran) if ran else assumed_usd,
        total_usd=sum(
            r.execution.usage.cost_usd + r.execution.fallback_usage.cost_usd for r in rollouts
        ),
    )


def plan_run(
    *,
    first_iteration: int,
    iterations: int,
    workflows_per_iteration: int,
    evaluation: EvaluationSettings,
    val_problems: int,
    quick_problems: int,
    quick_every: float,
    fallback: bool,
) -> Plan:
    """Count the workflows of the `iterations` after `first_iteration` and of their evaluations.

    Args:
        first_iteration: Iterations already done; with none a full evaluation may come first.
        iterations: Iterations to come.
        workflows_per_iteration: Problems times group size.
        evaluation: What the evaluations do.
        val_problems: Problems of a full evaluation.
        quick_problems: Problems of a quick validation.
        quick_every: Iterations from one quick validation to the next; infinite for none.
        fallback: Whether the fixed workflow answers where a greedy one does not run.
    """
    full = (evaluation.at_start and first_iteration == 0) + evaluation.at_end
    earlier = int(first_iteration // quick_every)
    quick = int((first_iteration + iterations) // quick_every) - earlier
    every = evaluation.execute_every
    executed = (earlier + quick) // every - earlier // every if every else 0
    greedy = full * val_problems + executed * quick_problems
    return Plan(
        iterations=iterations,
        trained=iterations * workflows_per_iteration,
        judged=greedy + full * val_problems * evaluation.samples,
        answered=greedy if fallback else 0,
        checked=(quick - executed) * quick_problems,
    )


def forecast(figures: StepFigures, phases: Phases, plan: Plan, concurrency: int) -> ForecastRange:
    """Seconds and list cost in USD of `plan`, at the pace and the prices of one step.

    Every workflow takes the measured share of sampling, every executed one that of execution (if
    every workflow ran: at least its own seconds over the `concurrency` that shares them), every
    iteration its update. In place of an evaluation's greedy workflow that does not run the fixed
    one does, so that these always cost what a workflow that ran costs.
    """
    executed = plan.trained + plan.judged
    sampling_s = phases.sample_s / figures.workflows * (executed + plan.checked)
    execute_s = phases.execute_s / figures.workflows
    fixed_s = phases.load_s + sampling_s + plan.iterations * phases.update_s
    low_usd = (executed - plan.answered) * figures.total_usd / figures.workflows
    low_usd += (plan.answered + plan.explored) * figures.ran_usd
    fixed_s += plan.explored * max(execute_s, figures.ran_s / concurrency)
    return ForecastRange(
        low_s=fixed_s + executed * execute_s,
        high_s=fixed_s + executed * max(execute_s, figures.ran_s / concurrency),
        low_usd=low_usd,
        high_usd=max(low_usd, (executed + plan.explored) * figures.ran_usd),
    )


def setting_warnings(
    *, preset: str, group_size: int, temperature: float, learning_rate: float, lora: bool
) -> list[str]:
    """Settings that are known to fail: each with the reason and the remedy."""
    found = []
    if preset == "literal":
        found.append(
            "rollout.reward.preset=literal: an invalid workflow (-3) beats one that runs and "
            "answers wrong (about -8), so that the policy learns to write invalid ones: in trials "
            "with a tiny policy 0 % and 63 % ran in the end, against 92 % to 98 % with ordered. "
            "Set rollout.reward.preset: ordered."
        )
    if group_size < 4:
        found.append(
            f"model.grpo.group_size={group_size}: rewards are compared within a group only, and so "
            "few are often equal, or differ by chance. Set model.grpo.group_size: 8 (at least 4)."
        )
    if temperature <= 0.3:
        found.append(
            f"model.policy.sampling.temperature={temperature:g}: the workflows of a group become "
            "nearly the same, so that their rewards do too and nothing better is ever found. Set "
            "model.policy.sampling.temperature: 1.0."
        )
    if lora and learning_rate < 2e-5:
        found.append(
            f"model.optimizer.learning_rate={learning_rate:g} with model.policy.lora: adapters "
            "want about ten times the rate of full fine-tuning and hardly move at this one. Set "
            "model.optimizer.learning_rate: 5.0e-5 (an adapter of the tiny policy: 3.0e-3)."
        )
    return found


def step_warnings(figures: StepFigures) -> list[str]:
    """What the step itself showed to be wrong: each with the reason and the remedy."""
    found = []
    if figures.counted < figures.workflows:
        found.append(
            f"{figures.workflows - figures.counted} of {figures.workflows} workflows could not be "
            "judged, because the executor was unavailable: they teach nothing, and the figures "
            "above are of the others. Check llm.tiers and the network, and try again."
        )
    if figures.groups and not figures.signals:
        found.append(
            "Equal rewards within every group: this step taught nothing. Raise "
            "model.grpo.group_size or data.batch_size, start from a policy that sometimes "
            "succeeds, or use easier problems."
        )
    if figures.cut > MANY * figures.workflows:
        found.append(
            f"{figures.cut} of {figures.workflows} completions were cut at "
            "model.policy.sampling.max_new_tokens: a cut workflow cannot run. Raise it."
        )
    if figures.shortened > MANY * len(figures.prompt_tokens):
        found.append(
            f"{figures.shortened} of {len(figures.prompt_tokens)} problems lost part of their "
            "context to model.policy.sampling.max_prompt_tokens: what the policy is not shown it "
            "cannot choose by. Raise it."
        )
    return found
