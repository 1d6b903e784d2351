"""Tables and pictures of sample workflows, as MLflow reads them back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from lightning.pytorch.loggers import CSVLogger
from logged_runs import artifact, stored
from made_rollouts import call, rollout

from aflow_grpo.records import FaultKind, Finding, Rollout, Status, Usage, WorkflowSource
from aflow_grpo.training.run_logger import RunLogger
from aflow_grpo.training.sample_tables import log_rollout_table

# MLflow's own doing.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload``:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:For backward compatibility, 'str':DeprecationWarning"),
]

COLUMNS = [
    "problem", "domain", "status", "correct", "reward_total", "answer", "gold", "findings",
    "workflow", "question", "completion", "calls", "cost_usd", "fallback_answer",
    "reward_correctness", "reward_efficiency", "reward_simplicity", "reward_format",
    "reward_repetition", "reward_penalty",
]  # fmt: skip


@pytest.fixture(scope="module")
def root(runs_root: Path) -> Path:
    return runs_root


@pytest.fixture
def logger(root: Path) -> Iterator[RunLogger]:
    logger = RunLogger(root, run_name="fit-seed0", tags={"aflow_grpo.verb": "fit"})
    assert logger.run_id
    yield logger
    logger.finalize("success")


def sample_rollouts() -> list[Rollout]:
    right = rollout(
        "qa", total=9.5, correct=True, parts=(65, 15, 10, 5, 0, 0), answer="42",
        calls=(call("custom", cost_usd=1e-4),), usage=Usage(calls=1, cost_usd=1e-4),
    )  # fmt: skip
    invalid = rollout(
        "code", total=-8.0, status=Status.INVALID, fault_kind=FaultKind.NO_WORKFLOW, source=None,
        findings=(Finding(FaultKind.NO_WORKFLOW, "found “nothing”,\nnothing at all"),),
        fallback_answer="def f(): ...",
    )  # fmt: skip
    return [right, invalid]


def read_table(logger: RunLogger, name: str) -> list[dict[str, Any]]:
    """The rows of a table that MLflow would show as one."""
    shown = json.loads(stored(logger).data.tags["mlflow.loggedArtifacts"])
    assert {"path": name, "type": "table"} in shown
    table = json.loads(artifact(logger, name.rpartition("/")[2]).read_text(encoding="utf-8"))
    assert table["columns"] == COLUMNS
    return [dict(zip(COLUMNS, row, strict=True)) for row in table["data"]]


def test_a_table_reads_back_with_every_column(logger: RunLogger) -> None:
    log_rollout_table(logger, sample_rollouts(), 12, "val")
    right, invalid = read_table(logger, "samples/val_000012.json")
    assert (right["problem"], right["domain"], right["correct"]) == ("qa/0", "qa", True)
    assert (right["answer"], str(right["gold"]), right["status"]) == ("42", "42", "ok")
    assert (right["workflow"], right["reward_total"]) == ("class Workflow: ...", 9.5)
    assert right["cost_usd"] == pytest.approx(1e-4)
    (recorded,) = json.loads(right["calls"])
    assert recorded["operator"] == "custom" and recorded["usage"]["calls"] == 1
    assert invalid["findings"] == "no_workflow: found “nothing”,\nnothing at all"
    assert (invalid["workflow"], invalid["answer"]) == ("", "")
    assert invalid["fallback_answer"] == "def f(): ..."


def test_a_repeated_step_replaces_its_table(logger: RunLogger) -> None:
    first, second = sample_rollouts()
    log_rollout_table(logger, [first, second], 5, "quick")
    log_rollout_table(logger, [second], 5, "quick")
    log_rollout_table(logger, [first], 6, "quick")
    for step, problem in (("5", "code/0"), ("6", "qa/0")):
        (row,) = read_table(logger, f"samples/quick_00000{step}.json")
        assert row["problem"] == problem


def test_no_rollouts_make_no_table(root: Path, logger: RunLogger) -> None:
    log_rollout_table(logger, [], 0, "val")
    assert logger.flush()
    assert not list((root / "artifacts").glob(f"{logger.run_id}/**/*.json"))


def test_another_logger_is_left_alone(tmp_path: Path) -> None:
    other = CSVLogger(tmp_path)
    log_rollout_table(other, [rollout()], 0, "val")
    log_rollout_table(None, [rollout()], 0, "val")
    assert list(tmp_path.rglob("*")) == []


# Pictures


def written(code: str, group: int) -> Rollout:
    return rollout(group=group, source=WorkflowSource(code, {}))


def test_each_different_workflow_is_drawn_once(root: Path, logger: RunLogger) -> None:
    one = 'class Workflow:\n    async def __call__(self, problem):\n        return "1", 0.0\n'
    rollouts = [written(one, 0), written(one, 1), written(one.replace("1", "2"), 2)]
    log_rollout_table(logger, rollouts, 7, "train")
    assert logger.flush()
    drawn = sorted((root / "artifacts").glob(f"{logger.run_id}/artifacts/pictures/train_000007/*"))
    assert [path.name for path in drawn] == ["1_math-0.svg", "2_math-2.svg"]
    assert all(ElementTree.parse(path).getroot().tag.endswith("svg") for path in drawn)


def test_no_more_are_drawn_than_asked_for(root: Path, logger: RunLogger) -> None:
    logger.pictures = 1
    log_rollout_table(logger, [written(f"x = {n}", n) for n in range(5)], 8, "train")
    assert logger.flush()
    assert len(list((root / "artifacts").glob(f"{logger.run_id}/**/train_000008/*.svg"))) == 1


def test_a_table_that_cannot_be_made_costs_a_warning(
    logger: RunLogger, caplog: pytest.LogCaptureFixture
) -> None:
    """A call's input may hold anything; nothing of it may end the run."""
    endless: dict[str, Any] = {}
    endless["self"] = endless
    odd = rollout(calls=(replace(call("custom"), arguments=endless),))
    log_rollout_table(logger, [odd], 9, "train")
    (warning,) = caplog.messages
    assert "goes without the table of sample workflows of step 9" in warning
