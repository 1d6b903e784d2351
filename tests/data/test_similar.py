"""What counts as the same problem, and that the similarity join misses no pair."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.data.similar import Clusters, clusters_of, exact_key, near_duplicates, ngrams, words
from aflow_grpo.records import Problem

_SETS = st.lists(
    st.frozensets(st.sampled_from([(c,) for c in "abcdefghij"]), max_size=8), max_size=14
)


def _qa(number: int, question: str, context: str = "", answer: str = "5") -> Problem:
    return Problem(f"x/{number}", "x", "qa", question, answer, context=context)


@pytest.mark.parametrize(
    "other",
    [
        "How many apples has Tom, if 1,200 are red?",
        "HOW MANY APPLES HAS TOM IF 1200 ARE RED",
        "How  many\r\napples has\tTom, if 1200 are red?",
        "How many аррlеs has Tоm if 1200 are red?",  # Cyrillic letters
        "How many\u200b apples has T\u00f3m; if \uff11\uff12\uff10\uff10 are red!",
        "“How many apples has Tom — if 1200 are red?”".replace("—", ","),
    ],
)
def test_dress_makes_no_difference(other: str) -> None:
    assert words(other) == words("How many apples has Tom if 1200 are red?")


@pytest.mark.parametrize(
    ("one", "other"),
    [("3 + 4", "3 - 4"), ("1.5 m", "15 m"), ("1,5", "15"), ("x < 2", "x > 2"), ("2*3", "2/3")],
)
def test_numbers_and_signs_make_one(one: str, other: str) -> None:
    assert words(one) != words(other)


def test_a_hyphen_is_no_minus() -> None:
    assert words("a well-known man") == words("a well known man")
    assert words("x = -3") == ("x", "=", "-", "3")


def test_ngrams_by_hand() -> None:
    assert ngrams(("a", "b", "c"), 2) == {("a", "b"), ("b", "c")}
    assert ngrams(("a",), 3) == {("a",)}
    assert ngrams((), 3) == frozenset()


def test_near_duplicates_by_hand() -> None:
    a, b, c = frozenset({("1",), ("2",), ("3",)}), frozenset({("1",), ("2",), ("4",)}), frozenset()
    assert near_duplicates([a, b, c, c], 0.5) == [(0, 1)]  # 2 of 4
    assert near_duplicates([a, b], 0.51) == []
    assert near_duplicates([a, a], 1.0) == [(0, 1)]


@given(_SETS, st.sampled_from([0.1, 1 / 3, 0.5, 0.6, 2 / 3, 0.7, 0.75, 0.9, 1.0]))
def test_the_join_finds_what_comparing_all_pairs_finds(
    sets: list[frozenset[tuple[str, ...]]], threshold: float
) -> None:
    expected = [
        (i, j)
        for i, j in combinations(range(len(sets)), 2)
        if sets[i] and sets[j]
        and len(sets[i] & sets[j]) >= threshold * len(sets[i] | sets[j]) - 1e-9
    ]  # fmt: skip
    assert near_duplicates(sets, threshold) == expected


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9))))
def test_clusters_are_the_connected_parts(edges: list[tuple[int, int]]) -> None:
    clusters = Clusters(10)
    names = list(range(10))
    for a, b in edges:
        clusters.join(a, b)
        old, new = names[a], names[b]
        names = [new if name == old else name for name in names]
    groups = clusters.groups()
    assert sorted(item for group in groups for item in group) == list(range(10))
    for group in groups:
        assert len({names[item] for item in group}) == 1
    assert len(groups) == len(set(names))


def test_questions_on_one_passage_belong_together() -> None:
    problems = [
        _qa(0, "Who scored first?", "The Bears won."),
        _qa(1, "Who won?", "The  BEARS won!"),
        _qa(2, "Who scored first?", "The Lions lost."),
    ]
    assert clusters_of(problems, 0.7) == [[0, 1], [2]]


def test_shuffled_paragraphs_are_one_problem() -> None:
    one = _qa(0, "Which came first?", "Rome\nA city.\n\nParis\nAnother.")
    other = _qa(1, "Which came first?", "Paris\nAnother.\n\nOslo\nA third.")
    assert clusters_of([one, other], 0.7) == [[0, 1]]


def test_one_gold_program_is_one_task() -> None:
    code = "def f(a):\n    return a + 1"
    one = Problem("a", "mbpp", "code", "Add one.", code, entry_point="f", hidden_tests=("x",))
    other = Problem("b", "mbpp", "code", "Increment it.", code, entry_point="f")
    assert clusters_of([one, other], 0.7) == [[0, 1]]


def test_another_answer_is_no_copy() -> None:
    assert exact_key(_qa(0, "How many?", answer="5")) != exact_key(_qa(1, "how many", answer="6"))
    assert exact_key(_qa(0, "How many?")) == exact_key(_qa(1, "how  many"))
