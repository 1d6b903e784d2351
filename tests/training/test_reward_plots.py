"""The picture of a run's course: drawn from whatever there is, without complaint."""

from __future__ import annotations

import io
import math

import matplotlib.image
import pytest

from aflow_grpo.training.reward_plots import PLOTTED, draw_course


def test_a_full_course_is_drawn() -> None:
    every = {name: {step: step * 0.1 for step in range(1, 6)} for name in PLOTTED}
    assert drawn_pixels(draw_course(every, "a run")) > drawn_pixels(draw_course({}, "a run"))


@pytest.mark.parametrize(
    "values", [{}, {3: 1.0}, {0: math.nan, 1: 1.0}, {2: 1.0, 1: 0.0}, {10**6: -5.0}]
)
def test_few_and_odd_values_are_drawn_too(values: dict[int, float]) -> None:
    course = draw_course({"train/reward": values, "val/accuracy/qa": values}, "$ _{ <b>")
    assert drawn_pixels(course) > 0


def drawn_pixels(png: bytes) -> int:
    """How many are not white."""
    pixels = matplotlib.image.imread(io.BytesIO(png))
    return int((pixels[..., :3] < 1).any(axis=-1).sum())
