"""Two processes: what one would have done, to rounding; and what becomes of both when one fails.

Real processes on gloo. `one` is the run of a single process, `two` the same run on two ranks.
"""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch
from rank_processes import LAUNCHED, fit_on_ranks, left_behind
from trainer_runs import (
    assert_equal_checkpoints,
    checkpoint_of,
    metrics_of,
    new_root,
    paid_calls,
    run_ids,
    run_verb,
    write_settings,
)

from aflow_grpo.llm.journal_files import journal_paths

TESTS = Path(__file__).parents[1]

ROUNDED = {"train/entropy", "train/grad_norm", "train/kl"}
"""Metrics that are sums over tokens in single precision, added up in another order."""


def calls(root: Path) -> list[tuple[object, ...]]:
    """Every paid call of a run's journals, times aside, in order."""
    found: list[tuple[object, ...]] = []
    for path in journal_paths(root):
        with closing(sqlite3.connect(path)) as database:
            found += database.execute("SELECT key, execution, place, reply FROM calls").fetchall()
    return sorted(found, key=repr)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four iterations; every sampled workflow or its fallback calls the executor."""
    return write_settings(
        tmp_path_factory.mktemp("ddp"),
        checkpoint__keep_every_n_iterations=2,
        # Six problems: shares of two and three, then none and one.
        data__eval_batch_size=5,
    )


@pytest.fixture(scope="module")
def one(settings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = new_root(tmp_path_factory.mktemp("one") / "run")
    assert run_verb("fit", f"--config={settings}", f"--trainer.default_root_dir={root}") == 0
    return root


@pytest.fixture(scope="module")
def two(settings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = new_root(tmp_path_factory.mktemp("two") / "run")
    assert fit_on_ranks(settings, root) == [0, 0]
    return root


def test_weights_of_two_ranks_are_those_of_one_process(one: Path, two: Path) -> None:
    mine, theirs = checkpoint_of(one), checkpoint_of(two)
    torch.testing.assert_close(theirs["state_dict"], mine["state_dict"], rtol=1e-5, atol=2e-6)
    assert theirs["aflow_grpo"] == mine["aflow_grpo"] and theirs["global_step"] == 4


def test_metrics_of_two_ranks_are_those_of_one_process(one: Path, two: Path) -> None:
    """All of them, evaluations included; only sums over tokens differ, by rounding."""
    mine, theirs = metrics_of(one), metrics_of(two)
    assert mine.keys() == theirs.keys() and len(mine) > 500
    different = {name for (name, step), value in mine.items() if theirs[name, step] != value}
    assert different <= ROUNDED
    assert theirs == pytest.approx(mine, rel=1e-5)
    assert mine["train/skipped_update", 1] == 0, "otherwise equal weights would show nothing"


def test_every_call_is_made_once_and_each_rank_has_a_journal(one: Path, two: Path) -> None:
    assert [path.name for path in journal_paths(two)] == ["journal.db", "journal-rank1.db"]
    assert calls(two) == calls(one)
    with closing(sqlite3.connect(two / "journal-rank1.db")) as database:
        runs = database.execute("SELECT DISTINCT run FROM rollouts").fetchall()
        assert database.execute("SELECT count(*) FROM calls").fetchone()[0] > 0
    assert runs == [(run_ids(two)[0],)], "the first rank's run, and one only"
    assert len(run_ids(two)) == 1


def callbacks(*specs: str) -> str:
    """A flag that adds callbacks; the first writes down what was paid for."""
    return f"--trainer.callbacks=[{', '.join(['{class_path: trainer_runs.Spending}', *specs])}]"


def failing(rank: int, iteration: int, how: str) -> str:
    """A callback that ends one rank."""
    init = f"{{rank: {rank}, iteration: {iteration}, how: {how}}}"
    return f"{{class_path: rank_processes.Failing, init_args: {init}}}"


def test_a_run_stopped_on_two_ranks_and_continued_equals_one_that_was_not(
    settings: Path, two: Path, tmp_path: Path
) -> None:
    root = new_root(tmp_path / "run")
    codes = fit_on_ranks(settings, root, callbacks(failing(0, 3, "SIGINT")))
    assert codes[0] == 130 and codes[1] not in (0, None)
    assert checkpoint_of(root)["aflow_grpo"]["iteration"] == 3
    assert fit_on_ranks(settings, root, "--ckpt_path=last") == [0, 0]
    assert_equal_checkpoints(root, two)
    assert metrics_of(root) == metrics_of(two)
    assert calls(root) == calls(two)
    assert len(run_ids(root)) == 1


def test_a_checkpoint_of_two_ranks_resumes_on_one_and_nothing_is_paid_twice(
    settings: Path, one: Path, two: Path, tmp_path: Path
) -> None:
    root = tmp_path / "run"
    shutil.copytree(two, root)
    middle = root / "checkpoints" / "step_000002.ckpt"
    arguments = [f"--config={settings}", f"--trainer.default_root_dir={root}", callbacks()]
    assert run_verb("fit", *arguments, f"--ckpt_path={middle}") == 0
    assert paid_calls(root) == [0], "the other rank's journal has answered"
    assert calls(root) == calls(two)
    mine, theirs = checkpoint_of(one), checkpoint_of(root)
    torch.testing.assert_close(theirs["state_dict"], mine["state_dict"], rtol=1e-5, atol=2e-6)
    assert theirs["aflow_grpo"] == mine["aflow_grpo"]


def test_a_policy_is_judged_by_two_ranks_as_by_one(
    settings: Path, two: Path, tmp_path: Path
) -> None:
    """In batches of five and one, of which one rank gets nothing."""
    root = tmp_path / "run"
    shutil.copytree(two, root)
    assert fit_on_ranks(settings, root, "--ckpt_path=last", verb="test") == [0, 0]
    found = metrics_of(root, "test")
    arguments = [f"--config={settings}", f"--trainer.default_root_dir={root}"]
    assert run_verb("test", *arguments, "--ckpt_path=last") == 0
    assert metrics_of(root, "test") == found and ("test/reward", 4) in found
    assert len(run_ids(root, "test")) == 2


def test_what_one_rank_fails_with_ends_all_of_them(settings: Path, tmp_path: Path) -> None:
    """In the middle of its rollouts, of which the others know nothing."""
    root = new_root(tmp_path / "run")
    scorer = "--rollout.scoring.scorers={sample: rank_processes.broken_on_the_second}"
    assert fit_on_ranks(settings, root, scorer) == [2, 2]
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        assert database.execute("SELECT status FROM runs").fetchall() == [("FAILED",)]


def test_a_killed_rank_ends_a_launched_run_in_good_order(settings: Path, tmp_path: Path) -> None:
    """Lightning starts the second process; the first ends the run, says why and leaves nothing."""
    root = new_root(tmp_path / "run")
    arguments = ["fit", f"--config={settings}", f"--trainer.default_root_dir={root}", *LAUNCHED]
    done = subprocess.run(
        [sys.executable, "-m", "aflow_grpo", *arguments, callbacks(failing(1, 1, "SIGKILL"))],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert done.returncode == 1, done.stderr
    assert "aflow-grpo fit: rank 1 was killed by SIGKILL. The same command with" in done.stderr
    assert done.stderr.count("loading") == 1, "only the first rank speaks"
    assert not left_behind(root)
    assert checkpoint_of(root)["aflow_grpo"]["iteration"] == 1
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        assert database.execute("SELECT status FROM runs").fetchall() == [("FAILED",)]
