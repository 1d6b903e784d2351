"""A continued run logs no step twice, unless it came out otherwise."""

import math
from types import SimpleNamespace

from aflow_grpo.training.repeated import RepeatedMetrics

LOGGED = {
    "train/reward": {1: 0.5, 2: -0.25},
    "train/kl": {1: math.nan},
    "time/update_s": {1: 3.0},
}


def test_only_what_is_new_is_left() -> None:
    asked: list[str] = []

    def history(name: str) -> list[SimpleNamespace]:
        asked.append(name)
        rows = LOGGED.get(name, {})
        return [SimpleNamespace(step=step, value=value) for step, value in rows.items()]

    repeated = RepeatedMetrics(history)
    same = {"train/reward": 0.5, "train/kl": math.nan, "time/update_s": 7.0}
    assert repeated.new(same, 1) == {}
    assert repeated.new({**same, "train/new": 1.0}, 1) == {"train/new": 1.0}
    assert repeated.new({"train/reward": 0.5}, 2) == {"train/reward": 0.5}, "it has changed"
    assert repeated.new({"train/reward": 0.5, "time/update_s": 7.0}, 3) == {
        "train/reward": 0.5,
        "time/update_s": 7.0,
    }
    assert len(asked) == len(set(asked)), "the lab book is asked once for each name"
