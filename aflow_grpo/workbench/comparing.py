"""Runs beside each other: `compare`, against the first one, with intervals and a verdict.

What is compared are the rollouts of each run's last full evaluation, as the journal has them. Where
one has none, the logged metrics stand in, and nothing can be said about noise. Figures and
verdicts only; how they are shown is `commands.compare`'s.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aflow_grpo.errors import ConfigError
from aflow_grpo.evaluation.paired import Difference, difference_of_means, holm
from aflow_grpo.records import DOMAINS
from aflow_grpo.training.metrics import HEADLINE, REWARD_PARTS
from aflow_grpo.workbench.figures import Figure
from aflow_grpo.workbench.judged import ALL, Decoding, Judged, Side, has_evaluation
from aflow_grpo.workbench.runs import Run, read_run

__all__ = [
    "ALL",
    "LESS_IS_BETTER",
    "By",
    "Comparison",
    "Decoding",
    "Line",
    "RunComparison",
    "Side",
    "Split",
    "compare",
    "compare_sides",
]

Split = Literal["val", "test"]
By = Literal["all", "domain", "dataset"]
Verdict = Literal["better", "worse", "within noise", "not known"]
DEFAULT_METRICS = (
    "accuracy", "direct_execution_rate", "reward", "fallback_rate", "cost_usd_per_problem",
)  # fmt: skip
LESS_IS_BETTER = (
    "fallback_rate", "validation_failure_rate", "repaired_execution_rate", "cost_usd_per_problem",
)  # fmt: skip
_SIGNIFICANT = 0.05
_OWN_PLACE = ("trainer.default_root_dir", "llm.journal_dir", "ckpt_path", "config")
"""Settings that differ between any two runs and say nothing."""
_DECIDE_REWARDS = ("rollout.reward.", "rollout.scoring.")


@dataclass(frozen=True)
class Comparison:
    """One run's figure against the first run's."""

    difference: float
    low: float | None
    """Of the 95 % interval of the difference; None where it is not known."""
    high: float | None
    p: float | None
    """Two-sided, by permutation; of this comparison alone."""
    p_holm: float | None
    """The same, corrected for all comparisons of the call."""
    problems: int
    """Pairs; where not paired, the smaller of both numbers."""
    paired: bool
    spread: bool
    """False where the difference is the same on every problem."""
    verdict: Verdict
    """After the correction: `better` and `worse` hold together for all comparisons at 5 %."""


@dataclass(frozen=True)
class Line:
    """One figure of every run."""

    metric: str
    """Name of the metric without its split, e.g. ``accuracy``, ``reward/format``."""
    decoding: Decoding
    group: str
    """``all``, a domain or a data set."""
    figures: tuple[Figure | None, ...]
    """One for each run; None where it has none."""
    comparisons: tuple[Comparison | None, ...]
    """One for each run but the first."""


@dataclass(frozen=True)
class RunComparison:
    """Everything that `compare` found."""

    split: Split
    sides: tuple[Side, ...]
    settings: Mapping[str, tuple[str | None, ...]]
    """The settings that differ, one value for each run; None where it has none."""
    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    """What a reader should know before he believes it."""


def compare(
    runs: Sequence[Run | str | Path],
    *,
    split: Split | None = None,
    by: By = "all",
    metrics: Sequence[str] = (),
    decoding: Decoding | None = None,
    tracking_uri: str | None = None,
) -> RunComparison:
    """The last full evaluations of several runs, each against the first.

    Args:
        runs: At least two; what `read_run` takes, or what it gave.
        split: Which evaluation; default is ``test`` where all have one, else ``val``.
        by: Also for each domain or each data set.
        metrics: Names without split, e.g. ``accuracy``; default is the headline.
        decoding: Only greedy or only sampled workflows; default is both.
        tracking_uri: Where runs that are given by id are tracked.

    Raises:
        ConfigError: Too few runs, one that cannot be read or has no evaluation, no such metric.
    """
    if len(runs) < 2:
        raise ConfigError(f"{len(runs)} run given; expected at least two.")
    read = [r if isinstance(r, Run) else read_run(r, tracking_uri=tracking_uri) for r in runs]
    found = _choose_split(read, split)
    judged = [Judged.of(run, found) for run in read]
    chosen = _known_metrics(metrics, judged, found)
    lines = compare_sides(judged, by, chosen, (decoding,) if decoding else ("greedy", "sampled"))
    settings = _different_settings(read)
    notes = _notes(judged, lines, settings)
    sides = tuple(each.side(chr(ord("A") + i)) for i, each in enumerate(judged))
    return RunComparison(found, sides, settings, tuple(lines), tuple(notes))


# What is compared


def compare_sides(
    sides: Sequence[Judged],
    by: By = "all",
    metrics: Sequence[str] = DEFAULT_METRICS,
    decodings: Sequence[Decoding] = ("greedy", "sampled"),
) -> list[Line]:
    """Every figure of the sides, each against the first one's; those that no side has are left out.

    Args:
        sides: What is compared: runs, or one run's policy before and after training.
        by: Also for each domain or each data set.
        metrics: Names without split.
        decodings: Which workflows.
    """
    lines = []
    for group in _groups(sides, by):
        for metric in metrics:
            for decoding in decodings:
                means = [side.means(metric, decoding, group) for side in sides]
                figures = tuple(side.figure(metric, decoding, group) for side in sides)
                if any(figures):
                    compared = tuple(
                        _comparison(figures[0], figures[i], means[0], means[i])
                        for i in range(1, len(sides))
                    )
                    lines.append(Line(metric, decoding, group, figures, compared))
    return list(_with_verdicts(lines))


def _choose_split(runs: Sequence[Run], split: Split | None) -> Split:
    have = [{s for s in ("val", "test") if has_evaluation(run, s)} for run in runs]
    told: dict[str, str] = {}
    for wanted in [split] if split else ("test", "val"):
        without = [run for run, there in zip(runs, have, strict=True) if wanted not in there]
        if not without:
            return wanted
        told[wanted] = ", ".join(run.name for run in without)
    missing = "; ".join(f"no full evaluation of {s}: {names}" for s, names in told.items())
    verbs = " or ".join(
        "`aflow-grpo validate`" if s == "val" else "`aflow-grpo test`" for s in told
    )
    raise ConfigError(
        f"{missing}. Judge the policy with {verbs}, with the run's own config files and "
        "--ckpt_path last."
    )


def _known_metrics(wanted: Sequence[str], judged: Sequence[Judged], split: str) -> Sequence[str]:
    if not wanted:
        return DEFAULT_METRICS
    prefix = len(split) + 1
    logged = {name[prefix:].replace("_greedy", "") for j in judged for name in j.metrics}
    measures = {
        f"score/{measure}"
        for j in judged
        for rollout in j.all_rollouts
        for measure in rollout.score.measures
    }
    known = {*HEADLINE, *(f"reward/{part}" for part in REWARD_PARTS), *measures, *logged}
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(HEADLINE)}."
            raise ConfigError(f"--metric={name}: no such metric. {hint}")
    return wanted


def _groups(judged: Sequence[Judged], by: By) -> list[str]:
    """``all``, and the domains or data sets that any run was judged on."""
    problems = [problem for j in judged for problem in j.problems.values()]
    if by == "domain":
        there = {problem.domain for problem in problems}
        logged = {name.rpartition("/")[2] for j in judged for name in j.metrics}
        return [ALL, *(d for d in DOMAINS if d in there or d in logged)]
    datasets = sorted({problem.dataset for problem in problems}) if by == "dataset" else []
    return [ALL, *(datasets if len(datasets) > 1 else ())]


# Verdicts


def _comparison(
    first: Figure | None,
    other: Figure | None,
    first_means: Mapping[str, float],
    other_means: Mapping[str, float],
) -> Comparison | None:
    if first is None or other is None:
        return None
    found = difference_of_means(first_means, other_means)
    if found is None:
        gap = other.value - first.value
        return Comparison(gap, None, None, None, None, 0, False, True, "not known")
    return _of_difference(found)


def _of_difference(found: Difference) -> Comparison:
    bounded = found.problems > 1
    return Comparison(
        found.value,
        found.low if bounded else None,
        found.high if bounded else None,
        found.p,
        None,
        found.problems,
        found.paired,
        found.spread,
        "not known",
    )


def _with_verdicts(lines: Sequence[Line]) -> Iterator[Line]:
    ps = [c.p for line in lines for c in line.comparisons if c is not None and c.p is not None]
    corrected = iter(holm(ps))
    for line in lines:
        compared = tuple(
            c
            if c is None or c.p is None
            else _judge(c, next(corrected), line.metric in LESS_IS_BETTER)
            for c in line.comparisons
        )
        yield Line(line.metric, line.decoding, line.group, line.figures, compared)


def _judge(found: Comparison, p_holm: float, less_is_better: bool) -> Comparison:
    verdict: Verdict = "within noise"
    apart = found.low is not None and found.high is not None and not found.low <= 0 <= found.high
    if apart and p_holm < _SIGNIFICANT:
        verdict = "better" if (found.difference > 0) != less_is_better else "worse"
    return Comparison(**{**vars(found), "p_holm": p_holm, "verdict": verdict})


# What else a reader should know


def _different_settings(runs: Sequence[Run]) -> dict[str, tuple[str | None, ...]]:
    keys = dict.fromkeys(key for run in runs for key in run.params)
    found = {key: tuple(run.params.get(key) for run in runs) for key in keys}
    return {
        key: values
        for key, values in found.items()
        if len(set(values)) > 1 and key not in _OWN_PLACE and any(run.params for run in runs)
    }


def _notes(
    judged: Sequence[Judged],
    lines: Sequence[Line],
    settings: Mapping[str, tuple[str | None, ...]],
) -> Iterator[str]:
    bare = [j.run.name for j in judged if j.evaluation is None]
    if bare:
        yield (
            f"No stored rollouts of this evaluation: {', '.join(bare)}. Its logged metrics stand "
            "in, without intervals; llm.store_rollouts=true keeps rollouts."
        )
    known = [c for line in lines for c in line.comparisons if c is not None and c.p is not None]
    if any(not c.paired for c in known):
        yield (
            "Not paired: the runs were judged on different problems, so that these intervals also "
            "hold the luck of which problems each had."
        )
    fewer = [
        c.problems
        for line in lines
        for figure, c in zip(line.figures[1:], line.comparisons, strict=True)
        if c is not None and c.paired and figure is not None and line.figures[0] is not None
        and c.problems < max(figure.problems, line.figures[0].problems)
    ]  # fmt: skip
    if fewer:
        yield (
            "Some problems have a figure in one run alone. A run's own figure holds all of its "
            f"problems, a difference only the pairs, at the fewest {min(fewer)}: it may differ "
            "from what the figures suggest."
        )
    texts = [{problem.id: key for key, problem in j.problems.items()} for j in judged]
    changed = {
        key for other in texts[1:] for key in other if texts[0].get(key, other[key]) != other[key]
    }
    if changed:
        yield f"{len(changed)} problems have the same id in both and another text: not paired."
    unnamed = [j.run.name for j in judged if not j.run.params]
    if unnamed:
        yield f"No lab book, so its settings are not known: {', '.join(unnamed)}."
    decided = [key for key in settings if key.startswith(_DECIDE_REWARDS)]
    if decided:
        yield (
            f"Rewards and scores are by each run's own settings, which differ ({decided[0]}"
            f"{', …' if len(decided) > 1 else ''}): `aflow-grpo rescore` puts both under one."
        )
