"""A metric over the rollouts of an evaluation: per problem, and as a mean with its interval.

What `compare` and the report count is the same, and the same as the run's own metrics: masked
rollouts are in no figure. Not here: differences between runs (`comparing`), curves over a run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aflow_grpo.errors import ConfigError
from aflow_grpo.intervals import mean_interval, rate_interval
from aflow_grpo.records import Rollout
from aflow_grpo.training.metrics import HEADLINE, REWARD_PARTS

__all__ = ["Figure", "figure_of", "is_share", "metric_value", "problem_key", "problem_means"]


@dataclass(frozen=True)
class Figure:
    """One run's figure."""

    value: float
    low: float | None
    """Of its 95 % interval over problems; None where the rollouts are not stored."""
    high: float | None
    problems: int
    """0 where the rollouts are not stored."""


def metric_value(name: str) -> Callable[[Rollout], float | None]:
    """What a metric says of one rollout; None where it does not apply to it.

    Raises:
        ConfigError: It is none that a rollout decides.
    """
    if name in HEADLINE:
        return HEADLINE[name]
    group, _, part = name.partition("/")
    if group == "reward" and part in REWARD_PARTS:
        return lambda rollout: float(getattr(rollout.reward, part))
    if group == "score" and part:
        return lambda rollout: rollout.score.measures.get(part)
    raise ConfigError(f"metric {name!r}: no figure of a rollout.")


def problem_means(rollouts: Sequence[Rollout], metric: str) -> dict[str, tuple[float, int]]:
    """Problem -> (mean over its rollouts, how many); masked ones are left out.

    A problem is what it says, not its id alone: data that was made anew may use ids again.
    """
    value = metric_value(metric)
    found: dict[str, list[float]] = {}
    for rollout in rollouts:
        worth = None if rollout.masked else value(rollout)
        if worth is not None:
            found.setdefault(problem_key(rollout), []).append(worth)
    return {key: (sum(values) / len(values), len(values)) for key, values in found.items()}


def figure_of(rollouts: Sequence[Rollout], metric: str) -> Figure | None:
    """A metric's mean over problems with its 95 % interval; None without rollouts that count."""
    means = problem_means(rollouts, metric)
    if not means:
        return None
    sums_P = [mean * n for mean, n in means.values()]
    counts_P = [n for _, n in means.values()]
    value = sum(sums_P) / sum(counts_P)
    if is_share(metric):
        low, high = rate_interval([round(s) for s in sums_P], counts_P)
    else:
        low, high = mean_interval(sums_P, counts_P)
    return Figure(value, low, high, len(means))


def is_share(metric: str) -> bool:
    """Whether a metric counts rollouts."""
    return metric == "accuracy" or metric.endswith("_rate")


def problem_key(rollout: Rollout) -> str:
    """What makes two problems the same one."""
    problem = rollout.problem
    return "\0".join((problem.id, problem.question, problem.context))
