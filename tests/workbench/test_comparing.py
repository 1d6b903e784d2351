"""`compare` and its verb: worked differences, verdicts, and what a reader is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from run_world import judged, make_run, rejected, solved, store, track

from aflow_grpo.commands.compare import make_parser, run_compare
from aflow_grpo.errors import ConfigError
from aflow_grpo.records import Rollout, Status
from aflow_grpo.workbench.comparing import RunComparison, compare
from aflow_grpo.workbench.figures import figure_of


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`low` has 6 of 30 right, `high` 20, `near` 21; `bare` has metrics only."""
    folder = tmp_path_factory.mktemp("compared")
    made = {name: folder / name for name in ("low", "high", "near", "bare")}
    dapo = {"model.grpo.loss.preset": "dapo", "seed_everything": "0"}
    make_run(made["low"], after=6)
    make_run(made["high"], after=20, params=dapo)
    make_run(made["near"], after=21, params=dapo)
    track(made["bare"], metrics={"val/reward": [(3, 4.0)], "val/accuracy": [(3, 0.5)],
                                 "val/accuracy_greedy": [(3, 0.6)]})  # fmt: skip
    return made


def line(found: RunComparison, metric: str, decoding: str, group: str = "all") -> Any:
    (one,) = [
        x for x in found.lines if (x.metric, x.decoding, x.group) == (metric, decoding, group)
    ]
    return one


def test_worked_numbers(runs: dict[str, Path]) -> None:
    found = compare([runs["low"], runs["high"]])
    assert found.split == "val"
    assert found.settings == {"model.grpo.loss.preset": ("default", "dapo")}
    low, _ = found.sides
    assert (low.letter, low.name, low.step, low.problems, low.samples) == ("A", "low", 3, 30, 2)
    accuracy = line(found, "accuracy", "greedy")
    assert [f.value for f in accuracy.figures] == pytest.approx([0.2, 20 / 30])
    assert accuracy.figures[0].low == pytest.approx(0.095, abs=0.002), "Wilson, 6 of 30"
    (change,) = accuracy.comparisons
    assert change.difference == pytest.approx(14 / 30)
    assert change.paired and change.problems == 30
    assert 0.2 < change.low < 14 / 30 < change.high < 0.7
    assert change.verdict == "better"
    (cost,) = line(found, "cost_usd_per_problem", "sampled").comparisons
    assert cost.verdict == "within noise" and not cost.spread
    (back,) = line(compare([runs["high"], runs["low"]]), "accuracy", "greedy").comparisons
    assert back.verdict == "worse"


def test_one_problem_more_is_noise(runs: dict[str, Path]) -> None:
    found = compare([runs["high"], runs["near"]])
    (change,) = line(found, "accuracy", "greedy").comparisons
    assert change.difference == pytest.approx(1 / 30)
    assert change.verdict == "within noise" and change.p == 1.0


def test_less_is_better_where_it_is(tmp_path: Path) -> None:
    for name, failed in (("a", 15), ("b", 0)):
        greedy = [rejected(n) if n < failed else solved(n) for n in range(30)]
        store(tmp_path / name, "validate", {("val/greedy", 0): greedy})
    found = compare([tmp_path / "a", tmp_path / "b"])
    assert line(found, "fallback_rate", "greedy").comparisons[0].difference == -0.5
    assert line(found, "fallback_rate", "greedy").comparisons[0].verdict == "better"
    # Those that ran cost something.
    assert line(found, "cost_usd_per_problem", "greedy").comparisons[0].verdict == "worse"
    assert any("No lab book" in note for note in found.notes)


def test_by_domain_and_other_metrics(runs: dict[str, Path]) -> None:
    found = compare([runs["low"], runs["high"]], by="domain", metrics=["reward/correctness"])
    assert {x.group for x in found.lines} == {"all", "math", "code", "qa"}
    assert {x.metric for x in found.lines} == {"reward/correctness"}
    math = line(found, "reward/correctness", "sampled", "math")
    assert math.comparisons[0].problems == 10
    only = compare([runs["low"], runs["high"]], metrics=["accuracy"], decoding="greedy")
    assert [(x.metric, x.decoding) for x in only.lines] == [("accuracy", "greedy")]


def test_several_runs_against_the_first_and_holm(runs: dict[str, Path]) -> None:
    found = compare([runs["low"], runs["high"], runs["near"]], metrics=["accuracy"])
    assert [s.letter for s in found.sides] == ["A", "B", "C"]
    compared = [c for x in found.lines for c in x.comparisons]
    assert len(compared) == 4 and all(c.p_holm >= c.p for c in compared)
    assert max(c.p_holm for c in compared) > max(c.p for c in compared) or (
        compared[0].p_holm == pytest.approx(4 * min(c.p for c in compared))
    )


def test_a_difference_that_many_comparisons_explain(tmp_path: Path) -> None:
    """Six of six alone have p = 0.03; among ten figures that is nothing."""
    for name, right in (("a", 0), ("b", 6)):
        store(tmp_path / name, "fit", {("val/greedy", 0): judged(right, 40)[0]})
    alone = compare([tmp_path / "a", tmp_path / "b"], metrics=["accuracy"])
    (change,) = alone.lines[0].comparisons
    assert change.p == pytest.approx(2 / 64) and change.verdict == "better"
    (change,) = line(compare([tmp_path / "a", tmp_path / "b"]), "accuracy", "greedy").comparisons
    assert change.p_holm > 0.05 and change.verdict == "within noise"


def test_masked_rollouts_are_in_no_figure(tmp_path: Path) -> None:
    greedy = [solved(n) for n in range(4)]
    lost = replace(greedy[0].execution, status=Status.UNAVAILABLE, answer=None)
    away = replace(greedy[0], execution=lost, score=replace(greedy[0].score, correct=False))
    store(tmp_path / "a", "fit", {("val/greedy", 1): greedy})
    store(tmp_path / "b", "fit", {("val/greedy", 1): [away, *greedy[1:]]})
    found = compare([tmp_path / "a", tmp_path / "b"])
    accuracy = line(found, "accuracy", "greedy")
    assert (accuracy.figures[1].value, accuracy.figures[1].problems) == (1.0, 3)
    assert accuracy.comparisons[0].problems == 3
    assert [side.masked for side in found.sides] == [0, 1]


def test_the_same_ids_with_other_texts_are_other_problems(tmp_path: Path) -> None:
    def other(rollout: Rollout) -> Rollout:
        return replace(rollout, problem=replace(rollout.problem, question="Another one?"))

    greedy = judged(5, 10)[0]
    store(tmp_path / "a", "fit", {("val/greedy", 1): greedy})
    store(tmp_path / "b", "fit", {("val/greedy", 1): list(map(other, greedy))})
    found = compare([tmp_path / "a", tmp_path / "b"])
    assert not line(found, "accuracy", "greedy").comparisons[0].paired
    assert any("10 problems have the same id" in note for note in found.notes)
    assert any("Not paired" in note for note in found.notes)


def test_metrics_stand_in_without_intervals(runs: dict[str, Path]) -> None:
    found = compare([runs["bare"], runs["high"]])
    accuracy = line(found, "accuracy", "greedy")
    assert (accuracy.figures[0].value, accuracy.figures[0].low) == (0.6, None)
    assert accuracy.comparisons[0].difference == pytest.approx(20 / 30 - 0.6)
    assert accuracy.comparisons[0].verdict == "not known"
    assert any("No stored rollouts of this evaluation: bare" in note for note in found.notes)


def test_the_newest_evaluation_counts_and_test_before_val(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fit = make_run(tmp_path / name)
        for right in (3, 9):
            test = track(tmp_path / name, verb="test", name=f"test-{right}", parent=fit)
            store(tmp_path / name, test, {("test/greedy", 3): judged(right, 10)[0]})
    found = compare([tmp_path / "a", tmp_path / "b"])
    assert found.split == "test"
    assert line(found, "accuracy", "greedy").figures[0].value == 0.9
    assert compare([tmp_path / "a", tmp_path / "b"], split="val").split == "val"


def test_rewards_by_different_settings_are_told(tmp_path: Path) -> None:
    for name in ("ordered", "literal"):
        make_run(tmp_path / name, params={"rollout.reward.preset": name})
    found = compare([tmp_path / "ordered", tmp_path / "literal"])
    assert any("which differ (rollout.reward.preset)" in note for note in found.notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["acuracy"]}, "--metric=acuracy: no such metric. Did you mean accuracy?"),
        ({"split": "test"}, "no full evaluation of test: low, high. Judge .*aflow-grpo test"),
    ],
)
def test_what_there_is_not(runs: dict[str, Path], options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compare([runs["low"], runs["high"]], **options)
    with pytest.raises(ConfigError, match="1 run given; expected at least two"):
        compare([runs["low"]])


def test_a_figure_is_what_the_run_logs() -> None:
    """Two samples of a problem, one of another: the mean is over samples, as in the metrics."""
    rollouts = [solved(0), solved(0, member=1), solved(1, right=False)]
    figure = figure_of(rollouts, "accuracy")
    assert figure is not None and figure.value == pytest.approx(2 / 3) and figure.problems == 2


# The verb


def test_what_a_person_sees(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_compare([str(runs["low"]), str(runs["high"]), "--by=domain"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    assert "A  low  (" in out and "step 3, 30 problems, 2 samples each)" in out
    assert "model.grpo.loss.preset" in out and "dapo" in out
    (row,) = [x for x in out.splitlines() if x.startswith("accuracy, greedy") and " 30 " in x]
    assert row.split()[2:5] == ["20.0%", "66.7%", "+46.7"]
    assert row.split()[-2:] == ["30", "better"]
    assert "\nmath" in out and "hold together for all 40 differences" in " ".join(out.split())


def test_json_is_one_document(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_compare([str(runs["bare"]), str(runs["high"]), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [side["name"] for side in found["sides"]] == ["bare", "high"]
    accuracy = next(x for x in found["lines"] if x["metric"] == "accuracy")
    assert accuracy["figures"][0]["low"] is None
    assert accuracy["comparisons"][0]["verdict"] == "not known"


def test_a_name_cannot_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        odd = f"\x1b[31m[bold]{name}"
        make_run(tmp_path / name, params={"data.note": odd})
    assert run_compare([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "[bold]a" in out


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_compare([str(tmp_path / "x"), str(tmp_path / "y")]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("aflow-grpo compare: ")
    assert captured.err.count("\n") == 1
    with pytest.raises(SystemExit) as left:
        make_parser().parse_args(["a", "b", "--bye=domain"])
    assert left.value.code == 2
    assert "Did you mean by?" in capsys.readouterr().err


def test_pairs_that_tell_another_story_than_the_figures_are_told(tmp_path: Path) -> None:
    first = [solved(n, right=n >= 12) for n in range(40)]
    other = [solved(n, right=n < 12) for n in range(24)]
    store(tmp_path / "a", "fit", {("val/greedy", 1): first})
    store(tmp_path / "b", "fit", {("val/greedy", 1): other})
    found = compare([tmp_path / "a", tmp_path / "b"])
    accuracy = line(found, "accuracy", "greedy")
    assert [f.problems for f in accuracy.figures] == [40, 24]
    assert accuracy.comparisons[0].problems == 24
    assert accuracy.figures[1].value - accuracy.figures[0].value == pytest.approx(-0.2)
    assert accuracy.comparisons[0].difference == 0
    assert any("only the pairs, at the fewest 24" in note for note in found.notes)
    whole = compare([tmp_path / "a", tmp_path / "a"])
    assert not any("only the pairs" in note for note in whole.notes)
