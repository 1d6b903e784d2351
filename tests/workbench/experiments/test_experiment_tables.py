"""Rows as figures, and figures as Markdown."""

import pytest
from made_rows import made

from aflow_grpo.workbench.experiments.rows import Row
from aflow_grpo.workbench.experiments.tables import (
    METRICS,
    arms_page,
    cells,
    difference,
    figure,
    markdown_table,
    size_of,
)
from aflow_grpo.workbench.experiments.trained_vs_fixed import BEST, table


def row(page: str, *begin: str) -> list[str]:
    """The cells of the only line that begins with these."""
    lines = [[cell.strip() for cell in line.split(" | ")] for line in page.splitlines()]
    lines = [[cell.strip("| ") for cell in line] for line in lines]
    (found,) = [line for line in lines if line[: len(begin)] == list(begin)]
    return found


def arm(name: str, right: str, replicate: int = 0, **told: object) -> list[Row]:
    """A row for each problem, which is solved where `right` has a 1."""
    return [
        made(arm=name, replicate=replicate, problem=str(n), correct=solved == "1", **told)
        for n, solved in enumerate(right)
    ]


def test_samples_of_a_problem_are_averaged_first() -> None:
    rows = [made(correct=True), made(correct=False), made(problem="q", correct=False)]
    assert cells(rows, METRICS["accuracy"]) == {0: {"p": 0.5, "q": 0.0}}
    assert figure(rows, "accuracy").value == 0.25


def test_repetitions_weigh_the_same_and_come_in_order() -> None:
    rows = arm("a", "1111", replicate=7) + arm("a", "00", replicate=0)
    found = figure(rows, "accuracy")
    assert (found.value, found.by_repetition) == (0.5, (0.0, 1.0))
    assert size_of(found) == "2 × 3"
    assert size_of(figure(rows[:-1], "accuracy")) == "2 × 2.5"


def test_a_difference_is_of_shared_problems() -> None:
    first = arm("a", "100") + arm("a", "111", replicate=1)
    found = difference(first, arm("b", "0011"), "accuracy")
    assert (found.repetitions, found.problems) == (1, 3)
    assert found.value == pytest.approx(0.0)


def test_page_of_arms() -> None:
    rows = arm("base", "0011", cost_usd=0.002) + arm("mine", "1111", cost_usd=0.001)
    page = arms_page(rows, "base", ["accuracy", "usd", "calls"])
    assert row(page, "new", "mine", "greedy", "1 × 4") == [
        "new", "mine", "greedy", "1 × 4", "100.0 [100.0, 100.0]", "1.000 [1.000, 1.000]",
        "2.00 [2.00, 2.00]",
    ]  # fmt: skip
    base = row(page, "new", "base", "greedy", "1 × 4")
    assert base[4].startswith("50.0 [")
    beside = row(page, "new", "mine - base")
    assert beside[3] == "1 × 4"
    assert beside[4].startswith("+50.0 [")
    assert beside[5].startswith("-1.000 [")
    assert row(page, "new", "mine", "greedy", "gsm8k")[4:] == ["100.0", "1.000", "2.00"]


def test_shares_stay_between_0_and_100_and_differences_do_not() -> None:
    cut = figure(arm("a", "1110") + arm("a", "1111", replicate=1), "accuracy")
    assert cut.high > 1
    assert METRICS["accuracy"].text(cut).endswith("100.0]")
    assert not METRICS["accuracy"].text(cut, signed=True).endswith(" 100.0]")


def test_arms_that_only_some_replicates_have() -> None:
    rows = arm("base", "01") + arm("few", "11", replicate=1) + arm("none", "00", replicate=5)
    rows += arm("base", "00", replicate=1)
    page = arms_page(rows, "base", ["accuracy"])
    assert row(page, "new", "few - base")[3] == "1 × 2"
    assert row(page, "new", "few - base")[4].startswith("+100.0 [")
    assert row(page, "new", "none - base")[3:] == ["", ""]


@pytest.mark.parametrize("reference", ["", "gone"])
def test_a_page_without_its_reference_has_no_differences(reference: str) -> None:
    assert "Differences" not in arms_page(arm("a", "01"), reference, ["direct"])


def test_sets_are_apart() -> None:
    rows = arm("a", "11") + arm("base", "00", set="other")
    assert "Differences" not in arms_page(rows, "base", ["accuracy"])


def test_domains_stand_for_data_sets_that_are_made() -> None:
    page = arms_page([made(dataset="sample", domain="qa")], "", ["direct"])
    assert row(page, "new", "a", "greedy", "qa")


def test_bars_are_escaped() -> None:
    page = markdown_table(["a|b", "c d"], [["x", "|"]])
    assert page == "| a\\|b | c d |\n|---|---|\n| x | \\| |\n"


def test_trained_beside_fixed() -> None:
    rows = arm(BEST, "0011", cost_usd=0.002, mode="fixed", reward=5.0)
    rows += arm("grpo", "1111", cost_usd=0.001, reward=7.0)
    page = table(rows)
    assert row(page, "grpo", "greedy")[2] == "1 × 4"
    assert row(page, "grpo", "greedy")[6].startswith("+50.0 [")
    assert row(page, "grpo", "greedy")[7:] == ["0.50 [0.50, 0.50]", "+2.00 [2.00, 2.00]", "1 of 1"]
    assert row(page, BEST)[9] == "0 of 1"


def test_what_costs_nothing_has_no_ratio() -> None:
    rows = arm(BEST, "01", mode="fixed") + arm("free", "11", cost_usd=0.0)
    assert row(table(rows), "free")[7] == ""
    assert row(table(rows), "free")[9] == "0 of 1"


def test_what_shares_no_problem_with_the_best_has_nothing_beside_it() -> None:
    rows = arm(BEST, "01", mode="fixed") + arm("elsewhere", "1", replicate=4)
    assert row(table(rows), "elsewhere")[6:] == [""] * 4
    assert row(table(rows[-1:]), "elsewhere")[6:] == [""] * 4
