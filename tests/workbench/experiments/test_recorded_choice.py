"""Choosing on recorded runs: a made table with a known best choice, and the real files."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from recorded_world import write_told

from aflow_grpo.errors import ConfigError
from aflow_grpo.evaluation.recorded import Recorded, read_recorded
from aflow_grpo.workbench.experiments.plan import read_experiment
from aflow_grpo.workbench.experiments.recorded_choice import choose, main, run_recorded_choice
from aflow_grpo.workbench.experiments.recorded_choice_arms import (
    Candidate,
    cost_matched,
    nested_choice,
    single_arms,
)
from aflow_grpo.workbench.experiments.recorded_choice_data import (
    SURFACE,
    ChoiceWorld,
    Fit,
    choice_world,
    folds,
    text_columns,
)
from aflow_grpo.workbench.experiments.recorded_choice_settings import (
    RecordedChoiceSettings,
    settings_from,
)
from aflow_grpo.workbench.experiments.recorded_choice_table import (
    BASELINE,
    ChoiceRow,
    detectable,
    difference,
    macro,
    ratio,
    table,
    values_of,
)
from aflow_grpo.workbench.experiments.recorded_policy import PolicyRecipe, TrainingSize

# MLflow's own doing.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload``:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:For backward compatibility, 'str':DeprecationWarning"),
]

DATA = os.environ.get("AFLOW_GRPO_DATA", "")
SMALL = RecordedChoiceSettings(
    datasets=("GSM8K",),
    fold_seeds=(0,),
    outer_folds=3,
    inner_folds=2,
    dimensions=(0, 4),
    recipes=(PolicyRecipe(entropy_coef=0.1),),
    training=TrainingSize(checkpoints=(60,)),
    alphas=(10.0,),
)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_told(tmp_path_factory.mktemp("recorded"), 48)


@pytest.fixture(scope="module")
def recorded(told: Path) -> Recorded:
    return read_recorded(told)["GSM8K"]


@pytest.fixture(scope="module")
def rows(recorded: Recorded) -> list[ChoiceRow]:
    return choose(recorded, SMALL, 0)


def score(rows: Sequence[ChoiceRow], arm: str) -> float:
    return macro(values_of(rows, arm, "value"))


def world(scores: Sequence[Sequence[float]], usd: Sequence[float]) -> ChoiceWorld:
    """Scores by problem and workflow, one repeat."""
    names = tuple(f"p{i}" for i in range(len(scores)))
    workflows = tuple(str(w + 2) for w in range(len(usd)))
    cells = np.array(scores, dtype=float)[:, :, None]
    return ChoiceWorld("GSM8K", names, names, workflows, cells, np.array(usd), (1,) * len(usd))


# Choosing


def test_the_policy_finds_the_choice_that_the_text_tells(rows: list[ChoiceRow]) -> None:
    assert score(rows, BASELINE) < 0.6
    assert score(rows, "policy") > 0.95
    assert score(rows, "policy sampled") > 0.75
    assert score(rows, "router") > 0.95
    assert score(rows, "oracle, half of the repeats") == 1.0
    assert score(rows, "policy without text") < 0.65


def test_on_shuffled_texts_nothing_is_won(rows: list[ChoiceRow]) -> None:
    for arm in (
        "policy on shuffled texts",
        "policy always reading shuffled texts",
        "router on shuffled texts",
    ):
        assert score(rows, arm) < 0.65


def test_every_arm_chooses_for_every_problem_once(
    rows: list[ChoiceRow], recorded: Recorded
) -> None:
    for arm in {row.arm for row in rows}:
        assert [r.problem for r in rows if r.arm == arm] == list(recorded.table.problems)


def test_what_is_chosen_never_hangs_on_the_held_out_outcomes(
    rows: list[ChoiceRow], recorded: Recorded
) -> None:
    fits = folds(len(recorded.questions), outer=3, inner=2, seed=0)
    poisoned_P = fits[0].held_P
    scores = recorded.table.scores_PWR.copy()
    scores[poisoned_P] = 1 - scores[poisoned_P]
    table_ = replace(recorded.table, scores_PWR=scores)
    again = choose(replace(recorded, table=table_), SMALL, 0)
    names = {recorded.table.problems[p] for p in np.flatnonzero(poisoned_P)}

    def chosen(of: Sequence[ChoiceRow], held: bool) -> dict[tuple[str, str], tuple[float, str]]:
        # Every workflow has a cost of its own, so the cost names the choice.
        return {
            (row.arm, row.problem): (row.cost_usd, row.setting)
            for row in of
            if (row.problem in names) == held and not row.arm.startswith("oracle")
        }

    assert chosen(again, True) == chosen(rows, True)
    assert chosen(again, False) != chosen(rows, False)  # which learned from the poisoned ones


def test_folds_partition_and_nest() -> None:
    fits = folds(23, outer=5, inner=3, seed=4)
    outer = [fit for fit in fits if fit.inner is None]
    assert np.sum([fit.held_P for fit in outer], axis=0).tolist() == [1] * 23
    for one in outer:
        inside = [fit for fit in fits if fit.outer == one.outer and fit.inner is not None]
        assert np.array_equal(np.any([fit.held_P for fit in inside], axis=0), one.train_P)
        for fit in inside:
            assert not np.any(fit.held_P & fit.train_P)
            assert np.array_equal(fit.held_P | fit.train_P, one.train_P)


def test_words_and_scales_come_from_the_training_texts() -> None:
    texts = ["red one", "red two", "blue one", "blue two", "zebra zebra 7 8 9", "zebra quagga"]
    train_P = np.array([True] * 4 + [False] * 2)
    columns = text_columns(texts, train_P, 3)
    assert columns.shape == (6, SURFACE + 3)
    assert columns[train_P].mean(0) == pytest.approx(np.zeros(SURFACE + 3), abs=1e-9)
    other = text_columns([*texts[:4], "quagga", "gnu 1 2"], train_P, 3)
    assert np.array_equal(columns[:4], other[:4])
    assert columns[4, SURFACE:] == pytest.approx(columns[5, SURFACE:])  # words unknown in training


def test_inner_folds_choose_by_their_own_held_out_problems() -> None:
    def mask(*held: int) -> np.ndarray:
        return np.isin(np.arange(4), held)

    fits = (
        Fit(0, None, mask(1, 2, 3), mask(0)),
        Fit(0, 0, mask(2, 3), mask(1)),
        Fit(1, None, mask(0, 2, 3), mask(1)),
        Fit(1, 0, mask(0, 3), mask(2)),
    )
    worth_PW = np.array([[0.0, 9.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    first = Candidate("first", 0, np.tile([1.0, 0.0], (4, 4, 1)))
    second = Candidate("second", 0, np.tile([0.0, 1.0], (4, 4, 1)))
    # Problem 1 speaks for the first workflow, problem 2 for the second; 0 is only chosen for.
    chosen = nested_choice([first, second], worth_PW, fits)
    assert chosen.labels_P[:2] == ("first", "second")
    assert chosen.utilities_PW[:2].argmax(1).tolist() == [0, 1]


# Arms without text


def test_single_workflows_are_chosen_on_the_training_problems() -> None:
    # Workflows: dear and best, nearly as good, cheap and bad; the held-out problem says otherwise.
    scores = [[1.0, 1.0, 0.0]] * 199 + [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    made = world(scores, [0.0030, 0.0020, 0.0010])
    held_P = np.arange(201) == 200
    fits = (Fit(0, None, ~held_P, held_P),)
    arms = single_arms(made, made.rewards_PWR().mean(2), fits)
    chosen = {name: probs_PW[200].tolist() for name, probs_PW in arms.items()}
    assert chosen == {
        "best single by score": [1, 0, 0],
        "best single by reward": [0, 1, 0],
        "cheapest single within 1 point": [0, 1, 0],
        "random of the top 3": [1 / 3, 1 / 3, 1 / 3],
    }


def test_the_mix_costs_what_the_other_arm_costs() -> None:
    made = world([[0.0, 1.0, 0.4], [0.0, 1.0, 0.4], [1.0, 1.0, 1.0]], [0.001, 0.003, 0.002])
    held_P = np.array([False, False, True])
    like_PW = np.array([[0, 0, 0], [0, 0, 0], [0, 0, 1.0]])
    mix = cost_matched(made, like_PW, (Fit(0, None, ~held_P, held_P),))
    # Half of each end scores .5 in training, the workflow of that cost alone .4.
    assert mix[2].tolist() == pytest.approx([0.5, 0.5, 0.0])
    assert mix[2] @ made.usd_W == pytest.approx(0.002)


# Rewards


def test_rewards_are_those_of_the_package() -> None:
    made = world([[1.0, 1.0], [0.0, 0.0], [0.5, 0.5]], [0.00018, 0.0018])
    rewards_PW = made.rewards_PWR()[:, :, 0]
    # Right at the cost of one call: all points. At ten times that cost a quarter of 15 is left.
    assert rewards_PW[0] == pytest.approx([10.0, 10.0 - 1.5 * 0.75])
    # Wrong: the penalty, and the points for form and repetition.
    assert rewards_PW[1] == pytest.approx([-1.0, -1.0])
    # Half right: half the points and half the penalty, below the ceiling -1 + .5 x 7.5.
    ceiling = -1.0 + 0.5 * 7.5
    assert rewards_PW[2, 0] == pytest.approx(min(4.5 + 1.0 - 1.0, ceiling))
    dear = made.rewards_PWR(30.0)[:, :, 0]
    assert dear[0] == pytest.approx([10.0, 10.0 - 3.0 * 0.75])


def test_calls_in_loops_count_so_often_as_told(recorded: Recorded) -> None:
    assert choice_world(recorded, loop_calls=3).calls_W == (1, 2, 4)
    assert choice_world(recorded, loop_calls=5).calls_W == (1, 2, 6)


# Figures


def test_the_detectable_effect_is_the_worked_number() -> None:
    spread = np.where(np.arange(471) % 2 == 0, 0.3, -0.3)
    spread = (spread - spread.mean()) / spread.std(ddof=1) * 0.3
    assert detectable([spread]) == pytest.approx(0.0387, abs=5e-5)
    # Two groups alike: half the sum of the same two variances.
    assert detectable([spread, spread]) == pytest.approx(0.0387 / 2**0.5, abs=5e-5)


def test_differences_are_paired_by_problem_and_repetition() -> None:
    rng = np.random.default_rng(0)
    first = {"a": rng.random((3, 40)), "b": rng.random((3, 10))}
    other = {name: values + 0.25 for name, values in first.items()}
    found = difference(first, other)
    assert (found.value, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))
    double = ratio(first, {name: 2 * values for name, values in first.items()})
    assert (double.value, double.low, double.high) == pytest.approx((2.0, 2.0, 2.0))


def test_problems_that_repetitions_share_are_not_counted_as_new_ones() -> None:
    one = np.random.default_rng(1).standard_normal((1, 200))
    still = {"a": np.zeros((4, 200))}
    found = difference(still, {"a": np.repeat(one, 4, axis=0)})
    expected = 1.96 * one.std() / 200**0.5
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.1)


def test_datasets_count_alike() -> None:
    assert macro({"a": np.ones((1, 90)), "b": np.zeros((1, 10))}) == 0.5


# Settings


def test_the_experiment_file_says_what_the_defaults_are() -> None:
    path = Path(__file__).parents[3] / "experiments" / "recorded_choice"
    experiment = read_experiment(path)
    assert experiment.analysis == "recorded_choice"
    assert settings_from(experiment.options) == RecordedChoiceSettings()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold_seed": [1]}, "unknown key 'fold_seed'"),
        ({"recipes": [{"lr": 1}]}, "recipes: unknown key 'lr'"),
        ({"recipes": [{"learning_rate": 0}]}, r"recipes\.learning_rate=0: expected above 0"),
        ({"recipes": [{"efficiency_points": 90}]}, "efficiency_points=90: expected 0 to 60"),
        ({"datasets": ["AIME"]}, "'AIME' is not recorded; expected some of GSM8K"),
        ({"dimensions": [4]}, "expected 0, which reads no text"),
        ({"training": {"checkpoints": [9, 3]}}, "expected ascending steps"),
        ({"inner_folds": 1}, "expected 2 or more"),
        ({"alphas": []}, "alphas: expected at least one"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_from(options)


# Runs


def test_a_run_leaves_rows_tables_and_a_summary(told: Path, tmp_path: Path) -> None:
    found = run_recorded_choice(told, SMALL, tmp_path / "out", short=True)
    lines = (tmp_path / "out" / "rows.jsonl").read_text().splitlines()
    assert [ChoiceRow(**json.loads(line)) for line in lines] == found
    text = (tmp_path / "out" / "table.md").read_text()
    assert text == table(found)
    assert f"| policy | {100 * score(found, 'policy'):.1f} | " in text
    assert "GSM8K (48)" in text
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/out/mlflow.db")
    experiment = client.get_experiment_by_name("recorded_choice")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.metrics["score/policy"] == score(found, "policy")
    assert run.data.params["outer_folds"] == "3"


def test_without_the_files_it_says_where_they_belong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AFLOW_GRPO_DATA", str(tmp_path))
    assert main(["--output", str(tmp_path / "out")]) == 1
    assert "problems.jsonl.gz is missing; point AFLOW_GRPO_DATA" in capsys.readouterr().err
    monkeypatch.delenv("AFLOW_GRPO_DATA")
    with pytest.raises(SystemExit):
        main([])
    assert "AFLOW_GRPO_DATA is not set" in capsys.readouterr().err


@pytest.mark.skipif(not DATA, reason="AFLOW_GRPO_DATA names no folder of data sets")
def test_a_short_run_on_the_real_records() -> None:
    real = read_recorded(Path(DATA) / "recorded_runs")["HumanEval"]
    found = choose(real, RecordedChoiceSettings().shortened(), 0)
    assert {len([r for r in found if r.arm == arm]) for arm in {r.arm for r in found}} == {30}
    assert 0.7 < score(found, BASELINE) < 0.96
    assert score(found, "oracle, half of the repeats") > score(found, BASELINE)
    assert all(-10 <= row.reward <= 10 and row.cost_usd > 0 for row in found)
