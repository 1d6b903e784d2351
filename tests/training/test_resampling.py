"""Groups without a signal make place for others: which, how many, and what becomes of them."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from executed_world import CODE, MATH, QA
from hypothesis import given
from hypothesis import strategies as st
from kill_runs import Kill, assert_same_end
from trainer_runs import metrics_of, new_root, run_verb, start_verb, write_settings

from aflow_grpo.records import Problem
from aflow_grpo.training.resampling import substitutes

POOL = [
    replace(problem, id=f"{problem.id}/{n}")
    for n in range(5)
    for problem in (MATH[0], QA[0], CODE[0])
]


@given(
    batch=st.lists(st.sampled_from(POOL), min_size=1, max_size=6),
    seed=st.integers(0, 9),
    iteration=st.integers(0, 9),
)
def test_no_two_places_or_rounds_share_a_problem(
    batch: list[Problem], seed: int, iteration: int
) -> None:
    rounds = [substitutes(POOL, batch, seed, iteration, turn) for turn in range(6)]
    given_out = [p.id for found in rounds for p in found if p is not None]
    assert len(given_out) == len(set(given_out))
    assert not set(given_out) & {p.id for p in batch}
    for found in rounds:
        assert all(p is None or p.domain == old.domain for p, old in zip(found, batch, strict=True))
    assert substitutes(POOL, batch, seed, iteration, 0) == rounds[0]
    # A domain is used up before a place stays empty.
    for domain in {p.domain for p in batch}:
        left = sum(p.domain == domain for p in POOL) - len(
            {p.id for p in batch if p.domain == domain}
        )
        wanted = 6 * sum(p.domain == domain for p in batch)
        assert sum(f"{domain}/" in i for i in given_out) == min(left, wanted)


def test_substitutes_depend_on_seed_and_iteration() -> None:
    found = {
        tuple(p.id for p in substitutes(POOL, POOL[:1], seed, iteration, 0) if p is not None)
        for seed in range(4)
        for iteration in range(4)
    }
    assert len(found) > 1


# Real runs

RESAMPLE = {
    "model.grpo.loss.zero_variance": "resample",
    "model.evaluation.at_end": False,
    "trainer.val_check_interval": 100,
    "trainer.max_steps": 2,
}


def fit(folder: Path, **changes: object) -> Path:
    root = new_root(folder / "run")
    settings = write_settings(folder, **RESAMPLE, **changes)
    assert run_verb("fit", f"--config={settings}", f"--trainer.default_root_dir={root}") == 0
    return root


def stored(root: Path, step: int) -> list[tuple[int, str]]:
    """(group, problem) of the rollouts that the journal keeps of a step."""
    with sqlite3.connect(root / "journal.db") as database:
        return database.execute(
            'select "group", problem_id from rollouts where step = ? order by rowid', (step,)
        ).fetchall()


@pytest.fixture(scope="module")
def hopeless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every workflow is cut after eight tokens, so that all rewards are equal; two rounds."""
    return fit(
        tmp_path_factory.mktemp("hopeless"),
        **{
            "model.policy.init_args.sampling.max_new_tokens": 8,
            "model.grpo.loss.resample_limit": 2,
        },
    )


def test_silent_groups_are_drawn_again_up_to_the_limit(hopeless: Path) -> None:
    found = metrics_of(hopeless)
    for step in (1, 2):
        assert found["train/resampled_groups", step] == 4, "two groups, two rounds"
        assert found["train/skipped_update", step] == 1
        groups = stored(hopeless, step)
        assert len(groups) == 2 * 4 * 3, "two groups of four, drawn three times"
        assert len({problem for _, problem in groups}) == 6
        assert {group for group, _ in groups} == {0, 1}


def test_everything_drawn_counts(hopeless: Path) -> None:
    """Each workflow is cut, and its fallback asks the executor: 48 times in two steps."""
    found = metrics_of(hopeless)
    with sqlite3.connect(hopeless / "journal.db") as database:
        ((cost, calls),) = database.execute(
            "select sum(cost_usd), count(*) from calls where answered = 1"
        ).fetchall()
    assert calls >= 48
    assert found["train/cost_usd_total", 2] >= cost * (1 - 1e-9) > 0
    assert found["train/validation_failure_rate", 2] == 1


def test_only_groups_with_a_signal_are_trained_on_and_a_kill_changes_nothing(
    tmp_path: Path,
) -> None:
    changes = {
        **RESAMPLE,
        "model.grpo.group_size": 2,
        "model.grpo.loss.resample_limit": 4,
        "trainer.max_steps": 3,
        "checkpoint.every_n_iterations": 1,
    }
    settings = write_settings(tmp_path, **changes)
    straight, killed = new_root(tmp_path / "straight"), new_root(tmp_path / "killed")

    def run(root: Path, *more: str) -> int | None:
        process = start_verb(
            "fit", f"--config={settings}", f"--trainer.default_root_dir={root}", *more
        )
        process.join()
        return process.exitcode

    assert run(straight) == 0
    assert run(killed, Kill(2, "writing", 5).flag) == -9, "with the first substitute"
    assert run(killed, "--ckpt_path=last") == 0
    assert_same_end(killed, straight)
    found = metrics_of(straight)
    resampled = [found["train/resampled_groups", step] for step in (1, 2, 3)]
    assert sum(resampled) > resampled[2] > 0
    assert [found["train/zero_variance_groups", step] for step in (1, 2, 3)] == [0, 0, 0]
    assert [found["train/workflows", step] for step in (1, 2, 3)] == [4, 4, 4], "trained on"
