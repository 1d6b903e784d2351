"""System metrics: measured in a thread that ends, counted on by a resumed run."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from trainer_runs import new_root

from aflow_grpo.training.run_logger import RunLogger
from aflow_grpo.training.system_metrics import SystemMetrics


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.02")


class Taken:
    """What was logged, until there is enough of it."""

    def __init__(self, enough: int) -> None:
        self.steps: list[int] = []
        self.names: set[str] = set()
        self._enough = enough
        self.is_enough = threading.Event()

    def __call__(self, metrics: dict[str, float], step: int) -> None:
        self.steps.append(step)
        self.names |= metrics.keys()
        if len(self.steps) >= self._enough:
            self.is_enough.set()


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name == "system metrics"]


def test_they_are_counted_from_where_the_run_is_and_end_with_it() -> None:
    taken = Taken(3)
    metrics = SystemMetrics(taken, first_step=5)  # type: ignore[arg-type]
    assert taken.is_enough.wait(60)
    metrics.close()
    assert threads() == []
    assert taken.steps[:3] == [5, 6, 7]
    assert {"system/cpu_utilization_percentage", "system/disk_usage_percentage"} <= taken.names
    assert all(name.startswith("system/") for name in taken.names)


def test_a_log_that_fails_ends_them_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    def full(metrics: object, step: int) -> None:
        raise OSError("no space left")

    metrics = SystemMetrics(full)
    metrics._thread.join(60)
    metrics.close()
    assert caplog.messages == ["No more system metrics: no space left"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_resumed_run_counts_on(tmp_path: Path) -> None:
    root = new_root(tmp_path / "run")
    steps = []
    run_id = None
    for _ in range(2):
        logger = RunLogger(root, run_id=run_id)
        run_id = logger.run_id
        logger.start_system_metrics()
        before = len(logger.history("system/cpu_utilization_percentage"))
        pause = threading.Event()
        while len(logger.history("system/cpu_utilization_percentage")) < before + 2:
            pause.wait(0.05)
        logger.finalize("success")
        assert threads() == []
        steps.append(sorted(logger.history("system/cpu_utilization_percentage")))
    first, both = steps
    assert first == list(range(len(first))) and both == list(range(len(both)))
    assert len(both) > len(first)
