"""How the training runs of an experiment went, read from their lab books and drawn.

Not here: the picture itself (`evaluation.curves`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from aflow_grpo.evaluation.curves import History, draw_curves
from aflow_grpo.workbench.experiments.running import Cell
from aflow_grpo.workbench.lab_book import open_lab_book

__all__ = ["PANELS", "draw_histories", "histories_of"]

PANELS: Mapping[str, str] = {
    "train/direct_execution_rate": "direct share of training's samples",
    "train/reward": "reward of training's samples, points",
}
"""Metric -> what its panel is called."""


def histories_of(fit: Path, metrics: Sequence[str]) -> dict[str, History]:
    """Metric -> its history in a training run, over all its resumptions.

    What `rescore` has put beside them is left out.

    Raises:
        ConfigError: The run has no lab book.
    """
    book = open_lab_book(f"sqlite:///{(fit / 'mlflow.db').resolve()}")
    found: dict[str, dict[int, float]] = {metric: {} for metric in metrics}
    for head in book.heads:
        if head.verb not in ("", "fit"):
            continue
        points = book.metrics(head.id)
        for metric in metrics:
            found[metric] |= dict(points.get(metric, ()))
    return dict(found)


def draw_histories(root: Path, cells: Sequence[Cell], title: str) -> str | None:
    """The picture of all runs that trained, by arm, as SVG; None where none did.

    Args:
        root: The experiment's folder.
        cells: Its cells, made.
        title: Of the picture.
    """
    panels: dict[str, dict[str, list[History]]] = {name: {} for name in PANELS.values()}
    for cell in cells:
        if cell.arm.train and not cell.arm.of:
            histories = histories_of(root / cell.name / "fit", list(PANELS))
            for metric, name in PANELS.items():
                panels[name].setdefault(cell.arm.name, []).append(histories[metric])
    if not any(panels.values()):
        return None
    return draw_curves(panels, title)
