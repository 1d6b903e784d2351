"""Learning curves: what is averaged, and what the picture holds."""

import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.evaluation.curves import draw_curves, smoothed


def test_worked_window() -> None:
    assert smoothed({1: 2.0, 2: 4.0, 5: 9.0}, 2) == {1: 2.0, 2: 3.0, 5: 6.5}


@given(
    st.dictionaries(st.integers(0, 99), st.floats(-9, 9), min_size=1),
    st.integers(1, 20),
)
def test_a_mean_stays_within_and_a_window_of_one_changes_nothing(
    history: dict[int, float], window: int
) -> None:
    found = smoothed(history, window)
    assert found.keys() == history.keys()
    assert min(history.values()) - 1e-9 <= min(found.values())
    assert max(found.values()) <= max(history.values()) + 1e-9
    assert smoothed(history, 1) == history


def drawn(name: str = "full & <quick>") -> str:
    runs = [{1: 0.0, 2: 1.0}, {1: 0.5}, {}]
    return draw_curves({"share": {name: runs}, "reward": {name: runs, "none": [{}]}}, "a <title>")


def test_a_picture_names_its_panels_settings_and_runs() -> None:
    texts = [e.text for e in ElementTree.fromstring(drawn()).iter() if e.tag.endswith("}text")]
    for expected in ("share", "reward", "a <title>", "full & <quick> (2)", "none (0)"):
        assert expected in texts


def test_equal_series_give_equal_bytes() -> None:
    assert drawn() == drawn()
    assert drawn() != drawn("other")


@pytest.mark.parametrize("window", [1, 3])
def test_the_window_is_told(window: int) -> None:
    picture = draw_curves({"share": {"a": [{1: 1.0}]}}, "t", window=window)
    assert ("mean of the last 3" in picture) == (window == 3)
