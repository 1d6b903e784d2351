"""The figures of a simulated dataset beside the recorded ones, row by row.

Both sides go through the same estimators. Where a figure hangs on how hard the problems are, the
simulated ones are also weighted to the recorded subset, by one anchor workflow's accuracy, and that
value counts. Not here: running the simulation (`calibration`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aflow_grpo.evaluation.families import ONE_CALL_WORKFLOW, SHORT_ONE_CALL
from aflow_grpo.evaluation.headroom import headroom
from aflow_grpo.evaluation.published import AGREEMENT, ONE_CALL, contrasts_of
from aflow_grpo.evaluation.recorded import Recorded
from aflow_grpo.evaluation.recorded_figures import NEAR_BEST, contrast_figures, family
from aflow_grpo.evaluation.scores import ScoreTable, bootstrap, tilt_to
from aflow_grpo.evaluation.simulate import Outcomes
from aflow_grpo.evaluation.structure import agreement, latent_parts, noise

__all__ = [
    "Row",
    "agreement_rows",
    "contrast_rows",
    "cost_rows",
    "headroom_rows",
    "level_rows",
    "misses",
    "noise_rows",
    "render",
]

_ANCHORS = {
    "GSM8K": "io", "MATH": "io", "HumanEval": "io", "MBPP": "io", "DROP": "2", "HotpotQA": "3",
}  # fmt: skip
"""The workflow whose recorded accuracy the weighted problems have."""
_RECORDED_ANCHORS = {
    **{name: ONE_CALL[name].raw for name in ("GSM8K", "MATH", "HumanEval", "MBPP")},
    "DROP": 0.740,
    "HotpotQA": 0.615,
}


_TITLES = {
    "level": "One-call accuracy",
    "contrast": "Contrasts",
    "headroom": "Headroom",
    "noise": "Noise, for information",
    "agreement": "What agreement tells",
    "cost": "Tokens and USD, for information",
    "visibility": "Visibility",
}


@dataclass(frozen=True)
class Row:
    """One figure, recorded and simulated."""

    dataset: str
    kind: str
    figure: str
    recorded: float
    simulated: float
    """On all simulated problems."""
    weighted: float | None = None
    """On problems weighted to the recorded subset's difficulty; then this one counts."""
    tolerance: float | None = None
    """Most that the two may differ by; None: for information."""
    half_width: float | None = None
    """Half of the 95 % interval of the simulated value that counts, over problems."""

    @property
    def difference(self) -> float:
        """Simulated minus recorded."""
        counted = self.simulated if self.weighted is None else self.weighted
        return counted - self.recorded

    @property
    def missed(self) -> bool:
        """Whether it is out of tolerance."""
        return self.tolerance is not None and not abs(self.difference) <= self.tolerance


def _tilted(table: ScoreTable, anchors: NDArray[np.float64], wanted: float) -> NDArray[np.intp]:
    abilities = table.within(NEAR_BEST).scores_PWR.mean((1, 2))
    return tilt_to(abilities, anchors, wanted)


def _to_recorded(dataset: str, table: ScoreTable) -> ScoreTable:
    """The problems weighted to the recorded anchor."""
    anchor = _ANCHORS[dataset]
    wanted = _RECORDED_ANCHORS[dataset]
    return table.take(_tilted(table, table.of(anchor).mean(1), wanted))


def level_rows(dataset: str, wide: Outcomes) -> list[Row]:
    table, told = wide.table, ONE_CALL[dataset]
    asked = SHORT_ONE_CALL if SHORT_ONE_CALL in table.workflows else ONE_CALL_WORKFLOW
    rows = [_level(table, asked, "one call", told.published, 0.02)]
    if asked == SHORT_ONE_CALL:
        label = "one call, empty instruction"
        rows.append(_level(table, ONE_CALL_WORKFLOW, label, told.raw, 0.03))
    return rows


def _level(table: ScoreTable, name: str, label: str, told: float, tolerance: float) -> Row:
    scores_P = table.of(name).mean(1)
    figure = bootstrap(lambda rows: float(scores_P[rows].mean()), len(scores_P))
    half = (figure.high - figure.low) / 2
    return Row(table.dataset, "level", label, told, figure.value, None, tolerance, half)


def contrast_rows(dataset: str, recorded: Recorded, wide: Outcomes) -> list[Row]:
    weighted = _to_recorded(dataset, wide.table)
    rows = []
    for figure, raw, near in zip(
        contrast_figures(recorded.table),
        contrast_figures(wide.table),
        contrast_figures(weighted),
        strict=True,
    ):
        rows.append(
            Row(
                dataset,
                "contrast",
                figure.name,
                figure.difference.value,
                raw.difference.value,
                near.difference.value,
                0.03,
                (near.difference.high - near.difference.low) / 2,
            )
        )
    return rows


def headroom_rows(dataset: str, recorded: Recorded, deep: Outcomes) -> list[Row]:
    names = deep.table.workflows
    rounds = [i for i, name in enumerate(names) if name in recorded.table.workflows]
    table = deep.table.select(rounds)
    told, raw = headroom(recorded.table), headroom(table)
    near = headroom(_to_recorded(dataset, deep.table).select(rounds))
    rows = []
    for name, label, tolerance in (
        ("best_mean", "best single workflow", None),
        ("gain_top3", "gain of choosing among the top 3", 0.02),
        ("gain_all", "gain of choosing among all", 0.02),
        ("saved", "share of USD saved by the cheapest as good", None),
    ):
        a, b, c = (float(getattr(each, name)) for each in (told, raw, near))
        rows.append(Row(dataset, "headroom", label, a, b, c, tolerance))
    a, b, c = (each.thrifty - each.best for each in (told, raw, near))
    rows.append(Row(dataset, "headroom", "accuracy change with it", a, b, c))
    return rows


def noise_rows(dataset: str, recorded: Recorded, deep: Outcomes) -> list[Row]:
    near = _to_recorded(dataset, deep.table)
    tables = [table.within(NEAR_BEST) for table in (recorded.table, deep.table, near)]
    noises = [noise(table) for table in tables]
    rows = []
    for name, label in (
        ("always_right", "always right"),
        ("always_wrong", "always wrong"),
        ("agreement", "repeats agree on right or wrong"),
        ("icc", "intraclass correlation"),
    ):
        values = [float(getattr(each, name)) for each in noises]
        rows.append(Row(dataset, "noise", label, *values))
    parts = [
        latent_parts(table, {name: family(recorded.operators.get(name, ("custom",)))
                             for name in table.workflows})
        for table in tables
    ]  # fmt: skip
    for name in ("problem", "interaction", "residual"):
        values = [float(getattr(each, name)) for each in parts]
        rows.append(Row(dataset, "noise", f"latent variance: {name}", *values))
    return rows


def agreement_rows(dataset: str, deep: Outcomes) -> list[Row]:
    told = AGREEMENT.get(dataset)
    if told is None:
        return []
    near_best = deep.table.within(NEAR_BEST)
    kept = [deep.table.workflows.index(name) for name in near_best.workflows]
    scores, forms = near_best.scores_PWR, deep.forms_PWR[:, kept]
    raw = agreement(scores, forms)
    medians = np.median(scores.mean(2), axis=1)
    rows_P = tilt_to(scores.mean((1, 2)), medians, told.right)
    near = agreement(scores[rows_P], forms[rows_P])
    labels = {
        "agree": "same answer twice",
        "right_if_agree": "right when the same",
        "right_if_differ": "right when not",
    }
    return [
        Row(
            dataset,
            "agreement",
            label,
            float(getattr(told, name)),
            float(getattr(raw, name)),
            float(getattr(near, name)),
            0.03,
        )
        for name, label in labels.items()
    ]


def cost_rows(dataset: str, recorded: Recorded, wide: Outcomes, deep: Outcomes) -> list[Row]:
    told, one = ONE_CALL[dataset], ONE_CALL_WORKFLOW
    rows = [
        Row(dataset, "cost", "prompt tokens of one call", told.prompt_tokens,
            wide.prompt_tokens[one]),
        Row(dataset, "cost", "completion tokens of one call", told.completion_tokens,
            wide.completion_tokens[one]),
        Row(dataset, "cost", "1000 x USD of one call", 1e3 * told.usd, 1e3 * wide.table.usd(one)),
    ]  # fmt: skip
    named = {name for each in contrasts_of(dataset) for name in (*each.parents, *each.children)}
    rounds = [
        name
        for name in deep.table.workflows
        if name in recorded.table.workflows and deep.table.usd(name) and name != ONE_CALL_WORKFLOW
    ]
    for name in rounds:
        if name in named:
            usd = 1e3 * recorded.table.usd(name), 1e3 * deep.table.usd(name)
            rows.append(Row(dataset, "cost", f"1000 x USD of round {name}", *usd))
    ratios = [deep.table.usd(name) / recorded.table.usd(name) for name in rounds]
    label = "USD by recorded USD, median over rounds"
    return [*rows, Row(dataset, "cost", label, 1.0, float(np.median(ratios)))]


def render(rows: Sequence[Row]) -> str:
    """The rows as Markdown tables, one per kind."""
    lines: list[str] = []
    for kind in dict.fromkeys(row.kind for row in rows):
        lines += [
            f"\n### {_TITLES.get(kind, kind)}\n",
            "| set | figure | recorded | simulated | weighted | difference | ± | allowed |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for row in (row for row in rows if row.kind == kind):
            weighted = "" if row.weighted is None else f"{row.weighted:.3f}"
            allowed = "" if row.tolerance is None else f"{row.tolerance:g}"
            width = "" if row.half_width is None else f"{row.half_width:.3f}"
            mark = " **missed**" if row.missed else ""
            lines.append(
                f"| {row.dataset} | {row.figure} | {row.recorded:.3f} | {row.simulated:.3f} | "
                f"{weighted} | {row.difference:+.3f}{mark} | {width} | {allowed} |"
            )
    return "\n".join(lines)


def misses(rows: Sequence[Row]) -> list[Row]:
    """The rows that are out of tolerance."""
    return [row for row in rows if row.missed]
