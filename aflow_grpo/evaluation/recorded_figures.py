"""The recorded figures that the simulator is calibrated to, computed and written out.

python -m aflow_grpo.evaluation.recorded_figures FOLDER [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aflow_grpo.evaluation.headroom import Headroom, headroom
from aflow_grpo.evaluation.published import ONE_CALL, contrasts_of
from aflow_grpo.evaluation.recorded import Recorded, read_recorded
from aflow_grpo.evaluation.scores import Figure, ScoreTable, bootstrap
from aflow_grpo.evaluation.structure import LatentParts, Noise, latent_parts, noise
from aflow_grpo.evaluation.visibility import (
    TextScale,
    auc,
    cross_validated_auc,
    question_part,
    shrunk,
    text_scale,
    text_score,
    weight_for_auc,
)

__all__ = [
    "NEAR_BEST",
    "SIMPLE",
    "ContrastFigure",
    "DatasetFigures",
    "contrast_figures",
    "family",
    "figures",
    "main",
    "visible_areas",
]

NEAR_BEST = 0.35
"""Workflows further below the best one are disasters of form, with a noise of their own."""
SIMPLE = {
    "GSM8K": "2", "MATH": "8", "HumanEval": "io", "MBPP": "io", "DROP": "2", "HotpotQA": "3",
}  # fmt: skip
"""The workflow nearest to one written answer whose form the scorer takes."""


@dataclass(frozen=True)
class ContrastFigure:
    """A contrast's recorded size."""

    name: str
    parent: float
    child: float
    difference: Figure


@dataclass(frozen=True)
class DatasetFigures:
    """All figures of one dataset."""

    problems: int
    contrasts: tuple[ContrastFigure, ...]
    noise: Noise
    parts: LatentParts
    headroom: Headroom
    usd: dict[str, float]
    """By round."""
    means: dict[str, Figure]
    """By round."""
    auc_fixed: dict[str, Figure]
    """Of the fixed text score, for "simple fails" and "best fails"."""
    auc_surface: dict[str, Figure]
    auc_words: dict[str, Figure]
    scale: TextScale


def family(operators: tuple[str, ...]) -> str:
    """What kind of method a workflow is, by its operators in source order."""
    names = [name.rstrip("*") for name in operators]
    sampled = "sc_ensemble" in names
    if names[0] == "custom_code_generate" or "custom_code_generate" in names:
        head = names[: names.index("test")] if "test" in names else names
        rewritten = head[-1] == "custom" or (len(head) > 1 and not sampled)
        return "+".join(
            ["samples" if sampled else "one", *(["rewrite"] if rewritten else [])]
            + (["test"] if "test" in names else [])
        )
    if "programmer" in names:
        return "program+samples" if sampled else "program"
    return "samples" if sampled else "written"


def figures(recorded: Recorded) -> DatasetFigures:
    """Compute a dataset's figures."""
    table = recorded.table
    near = table.within(NEAR_BEST)
    families = {name: family(recorded.operators[name]) for name in near.workflows}
    scale = text_scale([question_part(text) for text in recorded.questions])
    looks = _looks(recorded)
    best = table.workflows[int(table.means_W.argmax())]
    failing = {
        "simple": table.of(SIMPLE[table.dataset]).mean(1) < 0.5,
        "best": table.of(best).mean(1) < 0.5,
    }
    return DatasetFigures(
        len(table.problems),
        tuple(contrast_figures(table)),
        noise(near),
        latent_parts(near, families),
        headroom(table),
        {name: table.usd(name) for name in table.workflows},
        {name: _mean(table, name) for name in table.workflows},
        {name: auc(fails, looks) for name, fails in failing.items()},
        {
            name: cross_validated_auc(recorded.questions, fails, words=False)
            for name, fails in failing.items()
        },
        {
            name: cross_validated_auc(recorded.questions, fails, words=True)
            for name, fails in failing.items()
        },
        scale,
    )


def visible_areas(recorded: Mapping[str, Recorded]) -> dict[str, float]:
    """The AUC of the fixed text score for "the simple workflow fails", shrunk over datasets."""
    areas = {}
    for name, each in recorded.items():
        areas[name] = auc(each.table.of(SIMPLE[name]).mean(1) < 0.5, _looks(each))
    return shrunk(areas)


def _looks(recorded: Recorded) -> NDArray[np.float64]:
    """The text score of every problem."""
    questions = [question_part(text) for text in recorded.questions]
    scale = text_scale(questions)
    return np.array([text_score(question, scale) for question in questions])


def _mean(table: ScoreTable, name: str) -> Figure:
    scores_P = table.of(name).mean(1)
    return bootstrap(lambda rows: float(scores_P[rows].mean()), len(scores_P))


def contrast_figures(table: ScoreTable) -> list[ContrastFigure]:
    """The sizes of the dataset's contrasts in a table, recorded or simulated."""
    found = []
    for contrast in contrasts_of(table.dataset):
        child_P = np.mean([table.of(name).mean(1) for name in contrast.children], axis=0)
        if not set(contrast.parents) <= set(table.workflows):  # the one call's scores are not kept
            parent_P = np.full(len(child_P), ONE_CALL[table.dataset].raw)
        else:
            parent_P = np.mean([table.of(name).mean(1) for name in contrast.parents], axis=0)
        parent = float(parent_P.mean())
        gain_P = child_P - parent_P
        difference = bootstrap(lambda rows, gain_P=gain_P: float(gain_P[rows].mean()), len(gain_P))  # type: ignore[misc]
        found.append(ContrastFigure(contrast.name, parent, float(child_P.mean()), difference))
    return found


def main(argv: list[str] | None = None) -> None:
    """Print the figures and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder recorded_runs")
    parser.add_argument("--json", type=Path, help="write all figures there")
    given = parser.parse_args(argv)
    read = read_recorded(given.folder)
    computed = {name: figures(recorded) for name, recorded in read.items()}
    for name, found in computed.items():
        print(_rendered(name, found))
    visible = visible_areas(read)
    print("\n## Visibility: AUC of the fixed text score, pulled towards the common mean")
    for name, value in visible.items():
        weight = weight_for_auc(value, ONE_CALL[name].published)
        print(f"{name}: AUC {value:.3f}, correlation with the latent difficulty {weight:.3f}")
    if given.json:
        content = {name: asdict(found) for name, found in computed.items()}
        for fields in content.values():
            between = fields["parts"]["between"]
            fields["parts"]["between"] = {" / ".join(pair): v for pair, v in between.items()}
        content["visible_auc"] = visible
        given.json.write_text(json.dumps(content, indent=1))


def _rendered(name: str, found: DatasetFigures) -> str:
    noise_, parts, head = found.noise, found.parts, found.headroom
    lines = [
        f"\n## {name}: {found.problems} problems, {len(found.means)} workflows",
        "contrasts (parent -> child, difference with 95 % interval):",
        *(f"  {c.name}: {c.parent:.3f} -> {c.child:.3f}, {c.difference}" for c in found.contrasts),
        f"noise: sd of mean over repeats {noise_.deviation:.4f}, always right "
        f"{noise_.always_right:.3f} / wrong {noise_.always_wrong:.3f}, right-wrong agreement "
        f"{noise_.agreement:.3f}, ICC {noise_.icc:.3f}",
        f"  right of 5: {' '.join(f'{share:.3f}' for share in noise_.histogram)}",
        f"latent variance: problem {parts.problem:.3f}, interaction {parts.interaction:.3f}, "
        f"residual {parts.residual:.3f}",
        *(f"  {a} / {b}: {value:.3f}" for (a, b), value in parts.between.items()),
        f"headroom: best {head.best_mean:.3f}; top 3 {head.gain_top3:+.3f}, all "
        f"{head.gain_all:+.3f}; {head.best:.3f} @ ${head.best_usd:.5f} -> {head.thrifty:.3f} @ "
        f"${head.thrifty_usd:.5f}, saved {head.saved:.0%}",
        *(
            f"AUC of '{target} fails': fixed score {found.auc_fixed[target]}, surface CV "
            f"{found.auc_surface[target]}, words CV {found.auc_words[target]}"
            for target in found.auc_fixed
        ),
        f"text scale: {found.scale}",
        "means and USD by round: "
        + ", ".join(f"{w}: {f.value:.3f} ${found.usd[w]:.6f}" for w, f in found.means.items()),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
