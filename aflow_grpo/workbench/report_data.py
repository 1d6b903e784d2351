"""What a report tells of a run: figures before and after, curves, counts; no HTML, no plots.

The curves are the run's metrics. Where it was logged elsewhere than in MLflow they are computed
again from the stored rollouts, under the same names. Not here: which workflows are shown and how
(`report_cards`), the charts (`report_charts`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from aflow_grpo.records import Rollout
from aflow_grpo.terminal import progress
from aflow_grpo.training.metrics import rollout_metrics
from aflow_grpo.workbench.comparing import Line, compare_sides
from aflow_grpo.workbench.journal_figures import Tally
from aflow_grpo.workbench.judged import Judged, has_evaluation
from aflow_grpo.workbench.runs import Points, Run

__all__ = ["Headline", "OperatorUse", "ReportData", "gather"]


@dataclass(frozen=True)
class Headline:
    """One split's figures, after training and, where it was judged before too, the change."""

    split: str
    sides: tuple[Judged, ...]
    """Before and after, or only after."""
    lines: tuple[Line, ...]
    """In total and for each domain."""

    @property
    def step(self) -> int:
        """Completed iterations of the policy that the last figures are of."""
        return self.sides[-1].side("").step

    @property
    def answered(self) -> Counter[str]:
        """Which layer gave the user's answer, after training -> rollouts."""
        return Counter(r.execution.answered_by for r in self.sides[-1].all_rollouts)


@dataclass(frozen=True)
class OperatorUse:
    """Sums over an operator's calls in the stored rollouts."""

    calls: int = 0
    executor_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    failed: int = 0


@dataclass
class ReportData:
    """Everything that the page is made of."""

    run: Run
    headlines: list[Headline] = field(default_factory=list)
    curves: Mapping[str, Points] = field(default_factory=dict)
    """``train/…`` and ``val/…`` by step."""
    computed: bool = False
    """Whether the curves were computed from the rollouts, for want of a lab book."""
    rules: dict[str, Points] = field(default_factory=dict)
    """Rule, or where none is named the kind of fault -> (step, findings per workflow)."""
    operators: dict[str, OperatorUse] = field(default_factory=dict)
    """Of the policy's own workflows, in every part."""
    tiers: dict[str, Tally] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    """Why a tier gave no reply -> calls."""
    rollouts: int = 0
    billed_usd: float = 0.0
    cost_usd: float = 0.0
    last_train: list[Rollout] = field(default_factory=list)
    """The rollouts of the last step, for a run that was never judged."""
    missing: list[str] = field(default_factory=list)
    """What the page cannot show, and why."""


def gather(run: Run) -> ReportData:
    """Read everything a report needs.

    Raises:
        ConfigError: The journal cannot be read.
        DataError: A stored rollout cannot.
    """
    data = ReportData(run, curves=run.metrics)
    data.headlines = [h for h in (_headline(run, s) for s in ("val", "test")) if h]
    _read_rollouts(data, compute=not any(name.startswith("train/") for name in run.metrics))
    for figures in run.figures("tier"):
        for tier, tally in figures.groups.items():
            data.tiers.setdefault(tier, Tally()).add(tally)
        data.faults.update(figures.faults)
        data.billed_usd += figures.total.billed_usd
        data.cost_usd += figures.total.cost_usd
    data.missing = list(_missing(data))
    return data


def _headline(run: Run, split: str) -> Headline | None:
    if not has_evaluation(run, split):
        return None
    after = Judged.of(run, split)
    before = _before(run, after)
    sides = (before, after) if before is not None else (after,)
    return Headline(split, sides, tuple(compare_sides(sides, "domain")))


def _before(run: Run, after: Judged) -> Judged | None:
    """The same run judged for the first time, where that was at an earlier step."""
    if after.evaluation is not None:
        first = run.evaluations_of(after.split)[0]
        return replace(after, evaluation=first) if first.step < after.evaluation.step else None
    first_points = {
        name: points[0]
        for name, points in run.metrics.items()
        if name in after.metrics and points[0][0] < after.metrics[name][0]
    }
    return replace(after, metrics=first_points) if first_points else None


def _read_rollouts(data: ReportData, *, compute: bool) -> None:
    """One pass over all stored rollouts, a step at a time: a long run does not fit in memory."""
    rules: dict[str, dict[int, float]] = {}
    steps: list[int] = []
    curves: dict[str, dict[int, float]] = {}
    for part, step, rollouts in _by_step(data.run):
        data.rollouts += len(rollouts)
        _count(data, rollouts)
        split, _, kind = part.partition("/")
        if compute and kind in ("", "greedy"):
            for name, value in rollout_metrics(rollouts, split, greedy=bool(kind)).items():
                curves.setdefault(name, {})[step] = value
        if part == "train":
            steps.append(step)
            for rule, found in _findings(rollouts).items():
                rules.setdefault(rule, {})[step] = found / len(rollouts)
            data.last_train = rollouts
    data.rules = {
        rule: tuple((step, at.get(step, 0.0)) for step in steps) for rule, at in rules.items()
    }
    if curves:
        data.computed = True
        data.curves = {name: tuple(sorted(at.items())) for name, at in curves.items()}


def _by_step(run: Run) -> Iterator[tuple[str, int, list[Rollout]]]:
    counts = (run.journal_parts or {}).items()
    total = sum(n for (name, _), n in counts if name in run.journal_runs)
    with progress("reading rollouts", total) as reading:
        for (_, part, step), members in groupby(
            run.rollouts(), key=lambda stored: (stored.run, stored.part, stored.step)
        ):
            rollouts = [member.rollout for member in members]
            reading.advance(len(rollouts))
            yield part, step, rollouts


def _findings(rollouts: Sequence[Rollout]) -> Counter[str]:
    return Counter(
        finding.rule or finding.kind.value
        for rollout in rollouts
        for finding in rollout.execution.findings
        if finding.severity == "reject"
    )


def _count(data: ReportData, rollouts: Sequence[Rollout]) -> None:
    for rollout in rollouts:
        for call in rollout.execution.calls:
            known = data.operators.get(call.operator, OperatorUse())
            data.operators[call.operator] = OperatorUse(
                known.calls + 1,
                known.executor_calls + call.usage.calls,
                known.prompt_tokens + call.usage.prompt_tokens,
                known.completion_tokens + call.usage.completion_tokens,
                known.cost_usd + call.usage.cost_usd,
                known.failed + (call.fault_kind is not None),
            )


def _missing(data: ReportData) -> Iterator[str]:
    run = data.run
    if run.tracked is None:
        yield (
            "No lab book: the run was logged elsewhere than in MLflow, so settings, environment "
            "and the update's figures are not here. Curves are computed from the rollouts."
        )
    if not run.journals:
        yield "No journal (llm.journal=false): no workflows, operators, findings or tiers."
    elif not run.journal_parts:
        yield "No stored rollouts (llm.store_rollouts=false): no workflows, no intervals."
    if not any(name.startswith("train/") for name in data.curves):
        yield "No training step was logged: no curves."
    if not data.headlines:
        yield (
            "Never judged fully: no figures before and after. model.evaluation.at_start and at_end "
            "do so, or `aflow-grpo validate`."
        )
    elif all(len(headline.sides) == 1 for headline in data.headlines):
        yield "Judged only once, so there is no before and after."
