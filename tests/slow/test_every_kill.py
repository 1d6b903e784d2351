"""`kill -9` at every kind of moment, each alone, under every overlap and update: the same end.

Runs without overlap are compared with those that overlap within a step: these differ in speed only.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
from kill_runs import EVERY_MOMENT, Kill, World, assert_same_end

pytestmark = pytest.mark.slow

UPDATES = {"1-step": False, "4-steps": True}
LIKE = {"none": "group"}
"""Overlaps whose straight run is that of another."""


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool], Path]:
    """(overlap, several passes) -> the uninterrupted run, made once."""

    @functools.cache
    def made(overlap: str, passes: bool) -> Path:
        return World(tmp_path_factory.mktemp("kills"), overlap, passes).run("straight")

    return made


@pytest.mark.parametrize("kill", EVERY_MOMENT, ids=str)
@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("overlap", ["none", "group", "step"])
def test_a_run_killed_once_ends_the_same(
    overlap: str,
    update: str,
    kill: Kill,
    straight: Callable[[str, bool], Path],
    tmp_path: Path,
) -> None:
    passes = UPDATES[update]
    if kill.moment == "stepping" and not passes:
        pytest.skip("one optimiser step has no between")
    if (kill.moment, kill.count) == ("writing", 11) and overlap != "step":
        pytest.skip("nothing is written ahead")
    killed = World(tmp_path, overlap, passes).run("killed", kill)
    assert_same_end(killed, straight(LIKE.get(overlap, overlap), passes))
