"""Training problems that give a held-out one away, and phrases that do not count."""

import os
from pathlib import Path

import pytest

from aflow_grpo.data.leaks import find_leaks
from aflow_grpo.data.sources import DataSource, load_source
from aflow_grpo.records import Problem

_LONG = (
    "A farmer has seventeen sheep and twelve goats in a green field and sells five sheep on "
    "Monday before noon. How many animals are left in his field?"
)


def _math(name: str, question: str, answer: str = "24") -> Problem:
    return Problem(f"x/{name}", "x", "math", question, answer)


def _code(name: str, question: str, answer: str) -> Problem:
    return Problem(name, "mbpp", "code", question, answer, entry_point="f", hidden_tests=("t",))


@pytest.mark.parametrize(
    "written",
    [
        _LONG.upper(),
        _LONG.replace(" ", "\r\n"),
        _LONG.replace("a", "а"),  # Cyrillic
        _LONG.replace("?", " ?!"),
        _LONG.replace("e", "e\u200b"),
    ],
)
def test_the_same_text_in_other_dress_leaks(written: str) -> None:
    report = find_leaks([_math("t", written)], {"val": [_math("v", _LONG)]})
    (leak,) = report.leaks
    assert (leak.problem, leak.held_out, leak.source, leak.kind) == ("x/t", "x/v", "val", "text")
    assert report.given_away == {"val": 1}
    assert report.leaking == {"x/t"}


def test_a_text_inside_another_leaks_by_its_ngrams() -> None:
    longer = f"Read this carefully please, it is not hard at all. {_LONG} Explain."
    (leak,) = find_leaks([_math("t", longer)], {"val": [_math("v", _LONG)]}).leaks
    assert (leak.kind, leak.share) == ("n-grams", 1.0)


def test_share_by_hand() -> None:
    # 12 words are five 8-grams; the last word differs in one of them.
    one = "a b c d e f g h i j k l"
    other = "a b c d e f g h i j k m"
    (leak,) = find_leaks([_math("t", one)], {"val": [_math("v", other)]}).leaks
    assert leak.share == 0.8
    assert not find_leaks([_math("t", one)], {"val": [_math("v", other)]}, share=0.81).leaks


def test_short_questions_are_compared_whole() -> None:
    held_out = {"val": [_math("v", "What is 3 + 4?")]}
    assert not find_leaks([_math("t", "What is 3 - 4?")], held_out).leaks
    assert find_leaks([_math("t", "what is 3+4")], held_out).leaks


def test_shared_boilerplate_is_no_evidence() -> None:
    phrase = "Write a function in plain Python that takes one list of whole numbers and returns its"
    train = [_math(f"t{n}", f"{phrase} {name}") for n, name in enumerate(["sum"] + ["max"] * 3)]
    others = [_math(f"o{c}", f"{phrase} {c}{c}{c}") for c in "abcdefghijk"]
    held_out = {"val": [_math("v", f"{phrase} median")]}
    assert not find_leaks(train + others, held_out).leaks
    assert find_leaks(train[:1], held_out).leaks  # seen so seldom, it might be the problem itself


def test_a_question_on_a_held_out_passage_leaks_but_gives_nothing_away() -> None:
    train = Problem("t", "drop", "qa", "Who won?", "Bears", context="The Bears won 3-0.")
    held = Problem("v", "drop", "qa", "By how much?", "3", context="the bears won 3-0")
    report = find_leaks([train], {"val": [held]})
    assert [leak.kind for leak in report.leaks] == ["context"]
    assert report.given_away == {"val": 0}
    assert not find_leaks([train], {"val": [held]}, contexts=False).leaks


def test_one_question_on_two_passages_is_no_leak() -> None:
    question = "How many yards was the longest field goal of the first half of the game?"
    train = Problem("t", "drop", "qa", question, "48", context="The Bears won.")
    held = Problem("v", "drop", "qa", question, "48", context="The Lions lost.")
    assert not find_leaks([train], {"val": [held]}).leaks


def test_code_tasks_are_known_by_number_and_by_program() -> None:
    held = {"val": [_code("mbpp/val/17", "Perimeter of a square.", "def f(a):\n  return 4 * a")]}
    renumbered = _code("mbpp/train/99", "Four times a side.", "def f(a):\r\n    return 4*a\r\n")
    reworded = _code("mbpp/train/17", "Something else entirely.", "def f(b):\n  return b * 4")
    other = _code("mbpp/train/18", "Area of a square.", "def f(a):\n  return a * a")
    report = find_leaks([renumbered, reworded, other], held)
    assert [(leak.problem, leak.kind) for leak in report.leaks] == [
        ("mbpp/train/99", "task"),
        ("mbpp/train/17", "task"),
    ]
    assert report.given_away == {"val": 1}


def test_nothing_to_compare() -> None:
    assert find_leaks([], {"val": [_math("v", "x")]}).given_away == {"val": 0}
    assert find_leaks([_math("t", "x")], {}).leaks == ()


@pytest.mark.skipif("AFLOW_GRPO_DATA" not in os.environ, reason="AFLOW_GRPO_DATA is not set")
@pytest.mark.parametrize(
    ("dataset", "pool", "given_away"),
    [
        ("gsm8k", "gsm8k/train.jsonl", 0),
        ("math", "math/math_pool.jsonl.gz", 107),
        ("mbpp", "mbpp/mbpp_pool.jsonl", 86),
        ("drop", "drop/drop_pool.jsonl.gz", 53),
    ],
)
def test_the_known_overlaps_of_the_real_pools(dataset: str, pool: str, given_away: int) -> None:
    folder = Path(os.environ["AFLOW_GRPO_DATA"])
    train = load_source(DataSource(dataset=dataset, path=str(folder / pool)))  # type: ignore[arg-type]
    path = str(folder / f"aflow_format/{dataset}_validate.jsonl")
    held = load_source(DataSource(dataset=dataset, path=path, split="val"))  # type: ignore[arg-type]
    assert find_leaks(train, {"val": held}).given_away == {"val": given_away}
