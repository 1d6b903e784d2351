"""The rows of `recorded_choice` as tables: figures with intervals, and what could be detected.

Datasets count alike (a macro mean), whatever their number of problems. A repetition deals the same
problems to folds anew, so problems and repetitions are crossed: a bootstrap draw takes problems
within each dataset, and repetitions, and uses the same ones for both sides of a difference. The
minimum detectable effect is the difference that a two-sided test at 5 % finds with a power of 80 %:
(z.975 + z.80) standard errors. Not here: what makes rows (`recorded_choice`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BASELINE",
    "ChoiceRow",
    "Estimate",
    "detectable",
    "difference",
    "macro",
    "ratio",
    "table",
    "values_of",
]

BASELINE = "best single by score"
_BY_REWARD = "best single by reward"
_POLICY, _BLIND, _SAMPLED = "policy", "policy without text", "policy sampled"
_DRAWS = 4000
_POWER = NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.80)
Name = Literal["value", "cost_usd", "reward"]
_NAMES: tuple[Name, ...] = ("value", "cost_usd", "reward")
Values = Mapping[str, NDArray[np.float64]]
"""Dataset -> (S, P): one arm's figure per repetition and problem."""


@dataclass(frozen=True)
class ChoiceRow:
    """One problem in one repetition, under one arm's choice; expectations where it is random."""

    arm: str
    replicate: int
    """The fold seed."""
    dataset: str
    problem: str
    value: float
    """Recorded score in [0, 1], mean over the chosen workflow's repeats."""
    reward: float
    """In [-10, 10], the same."""
    cost_usd: float
    """The chosen workflow's mean cost."""
    setting: str = ""
    """Which candidate the inner folds took, where there was one to take."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval over problems and repetitions."""

    value: float
    low: float
    high: float


def values_of(rows: Iterable[ChoiceRow], arm: str, name: Name) -> Values:
    """One arm's figure by dataset, problems in the order of their names."""
    cells: dict[str, dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row.arm == arm:
            cells[row.dataset][row.replicate][row.problem] = getattr(row, name)
    return {
        dataset: np.array([[one[p] for p in sorted(one)] for one in by_replicate.values()])
        for dataset, by_replicate in cells.items()
    }


def macro(values: Values) -> float:
    """The mean over datasets of the mean over problems and repetitions."""
    return float(np.mean([values_SP.mean() for values_SP in values.values()]))


def difference(first: Values, other: Values, *, seed: int = 0) -> Estimate:
    """`other` minus `first`, both of the same problems and repetitions."""
    drawn = _drawn(other, seed) - _drawn(first, seed)
    return _estimate(macro(other) - macro(first), drawn)


def ratio(first: Values, other: Values, *, seed: int = 0) -> Estimate:
    """`other` by `first`."""
    return _estimate(macro(other) / macro(first), _drawn(other, seed) / _drawn(first, seed))


def detectable(differences: Sequence[NDArray[np.float64]]) -> float:
    """The minimum detectable mean of paired differences, every group counting alike.

    Worked number: one group of 471 with a standard deviation of .3 has a standard error of
    .3 / √471 = .0138, times 1.960 + 0.842 it is .0387.

    Args:
        differences: Per group one difference per problem; one group: all problems count alike.
    """
    variance = sum(float(each.var(ddof=1)) / len(each) for each in differences)
    return _POWER * math.sqrt(variance) / len(differences)


def _drawn(values: Values, seed: int) -> NDArray[np.float64]:
    """The macro mean of `_DRAWS` resamples; the same ones for equal shapes and seeds."""
    shapes = [values_SP.shape for values_SP in values.values()]
    weights_DS, by_dataset = _weights(shapes[0][0], tuple(n for _, n in shapes), seed)
    means = [
        np.einsum("ds,sp,dp->d", weights_DS, values_SP, weights_DP, optimize=True)
        for values_SP, weights_DP in zip(values.values(), by_dataset, strict=True)
    ]
    drawn: NDArray[np.float64] = np.mean(means, axis=0)
    return drawn


@lru_cache(maxsize=2)  # every figure of a table takes the same draws
def _weights(
    repetitions: int, problems: tuple[int, ...], seed: int
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """How much each repetition, and each problem of each dataset, counts in each draw."""
    rng = np.random.default_rng(seed)
    even = 1 / repetitions
    counts_DS = rng.multinomial(repetitions, np.full(repetitions, even), _DRAWS)
    weights_DS = counts_DS.astype(np.float64) * even
    if repetitions > 1:
        # k of k repetitions spread by (k - 1)/k of their variance: undone here.
        spread = math.sqrt(repetitions / (repetitions - 1))
        weights_DS = even + (weights_DS - even) * spread
    return weights_DS, [rng.multinomial(n, np.full(n, 1 / n), _DRAWS) / n for n in problems]


def _estimate(value: float, drawn: NDArray[np.float64]) -> Estimate:
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def table(rows: Sequence[ChoiceRow]) -> str:
    """All tables of a run, as Markdown."""
    arms = list(dict.fromkeys(row.arm for row in rows))
    sections = [_arms(rows, arms), _datasets(rows, arms), _sentences(rows, arms), _settings(rows)]
    return "\n\n".join(section for section in sections if section) + "\n"


def _arms(rows: Sequence[ChoiceRow], arms: Sequence[str]) -> str:
    base = {name: values_of(rows, BASELINE, name) for name in _NAMES}
    single = values_of(rows, _BY_REWARD, "reward")
    lines = [
        "| arm | score, % | difference, points | USD / 1,000 | cost, % of the best single "
        "| reward | difference | difference to the best single by reward |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arm in arms:
        own = {name: values_of(rows, arm, name) for name in _NAMES}
        cells = [
            f"{100 * macro(own['value']):.1f}",
            _shown(difference(base["value"], own["value"]), 100, 1),
            f"{1000 * macro(own['cost_usd']):.2f}",
            _shown(ratio(base["cost_usd"], own["cost_usd"]), 100, 0, sign=False),
            f"{macro(own['reward']):.2f}",
            _shown(difference(base["reward"], own["reward"]), 1, 2),
            _shown(difference(single, own["reward"]), 1, 2),
        ]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _shown(estimate: Estimate, scale: float, digits: int, *, sign: bool = True) -> str:
    plus = "+" if sign else ""
    value, low, high = (
        f"{scale * each + 0.0:{plus}.{digits}f}"
        for each in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} [{low}, {high}]"


def _datasets(rows: Sequence[ChoiceRow], arms: Sequence[str]) -> str:
    sizes = {name: each.shape[1] for name, each in values_of(rows, BASELINE, "value").items()}
    lines = [
        f"| score, % @ USD / 1,000 | {' | '.join(f'{d} ({n})' for d, n in sizes.items())} |",
        "|---" * (len(sizes) + 1) + "|",
    ]
    for arm in arms:
        scores, usd = values_of(rows, arm, "value"), values_of(rows, arm, "cost_usd")
        cells = [f"{100 * scores[d].mean():.1f} @ {1000 * usd[d].mean():.2f}" for d in sizes]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _sentences(rows: Sequence[ChoiceRow], arms: Sequence[str]) -> str:
    """What the figures say to the questions that were asked."""
    pairs = [
        (f"Reading wins ({_POLICY} against {_BLIND})", _BLIND, _POLICY),
        (
            "The same where it must be nothing (shuffled texts)",
            _BLIND,
            f"{_POLICY} on shuffled texts",
        ),
        ("Always reading, against not reading", _BLIND, "policy always reading"),
        ("The same on shuffled texts", _BLIND, "policy always reading shuffled texts"),
        ("Policy against the router", "router", _POLICY),
        ("Policy against the mix of equal cost", "cost-matched mix", _POLICY),
    ]
    lines = []
    for words, first, other in pairs:
        if first in arms and other in arms:
            score, _, reward = (
                difference(values_of(rows, first, name), values_of(rows, other, name))
                for name in _NAMES
            )
            found = f"{_shown(score, 100, 1)} points, reward {_shown(reward, 1, 2)}"
            lines.append(f"- {words}: {found}.")
    if _POLICY in arms:
        lines += _power_and_verdict(rows)
    return "\n".join(lines)


def _power_and_verdict(rows: Sequence[ChoiceRow]) -> list[str]:
    first, other = values_of(rows, BASELINE, "value"), values_of(rows, _POLICY, "value")
    paired = [(other[d] - first[d]).mean(0) for d in first]
    together = np.concatenate(paired)
    usd = [values_of(rows, arm, "cost_usd") for arm in (BASELINE, _POLICY)]
    rewards = [values_of(rows, arm, "reward") for arm in (BASELINE, _POLICY)]
    score, cost = difference(first, other), ratio(usd[0], usd[1])
    reward = difference(rewards[0], rewards[1])
    held = {
        "score not more than 1 point lower (lower bound)": score.low >= -0.01,
        "at most 60 % of the cost (upper bound)": cost.high <= 0.6,
        "reward higher (lower bound)": reward.low > 0,
    }
    return [
        f"- Smallest difference in score that could be detected (80 % power, 5 % two-sided): "
        f"{100 * detectable([together]):.1f} points over {len(together)} problems alike (paired "
        f"standard deviation {together.std(ddof=1):.3f}), {100 * detectable(paired):.1f} points "
        "for the mean over datasets.",
        "- Policy against the best single by score: "
        + "; ".join(f"{words}: {'yes' if holds else 'no'}" for words, holds in held.items())
        + ".",
    ]


def _settings(rows: Sequence[ChoiceRow]) -> str:
    """How often the inner folds took which candidate, over problems and repetitions."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in rows:
        if row.setting and row.arm != _SAMPLED:
            counts[row.arm][row.setting] += 1
    lines = []
    for arm, by_setting in counts.items():
        total = sum(by_setting.values())
        common = sorted(by_setting.items(), key=lambda item: -item[1])
        blind = sum(count for name, count in common if " 0 dimensions" in name) / total
        first = ", ".join(f"{name} ({100 * n / total:.0f} %)" for name, n in common[:3])
        lines.append(f"- {arm}: {100 * blind:.0f} % of choices read no text; most often {first}.")
    return "Settings that the inner folds took:\n\n" + "\n".join(lines) if lines else ""
