"""Whole clusters, every problem once, sizes near their shares."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aflow_grpo.data.similar import clusters_of
from aflow_grpo.data.splits import Shares, split_problems, without_copies
from aflow_grpo.errors import ConfigError, DataError
from aflow_grpo.records import Problem

_WORDS = ["ant", "bee", "cat", "dog", "eel", "fox"]


def _problem(number: int, question: str, context: str = "") -> Problem:
    return Problem(f"x/train/{number}", "x", "qa", question, str(number % 3), context=context)


def _distinct(count: int, first: int = 0) -> list[Problem]:
    return [
        _problem(
            n, f"a{n} b{n} c{n} d{n} e{n}".translate(str.maketrans("0123456789", "ghijklmnop"))
        )
        for n in range(first, first + count)
    ]


_PROBLEMS = st.lists(
    st.tuples(
        st.lists(st.sampled_from(_WORDS), min_size=1, max_size=8).map(" ".join),
        st.sampled_from(["", "", "passage one", "passage two", "Passage  TWO."]),
    ),
    min_size=12,
    max_size=40,
).map(lambda rows: [_problem(n, q, c) for n, (q, c) in enumerate(rows)] + _distinct(60, 1000))


@settings(deadline=None, max_examples=60)
@given(_PROBLEMS, st.integers(0, 3), st.sampled_from([(0.1, 0.1), (0.3, 0.2), (0.0, 0.25)]))
def test_no_cluster_crosses_and_every_problem_is_in_one_split(
    problems: list[Problem], seed: int, parts: tuple[float, float]
) -> None:
    shares = Shares(*parts, seed=seed)
    splits = split_problems(problems, shares)
    place = {p.id: name for name, found in splits.named().items() for p in found}
    assert sum(map(len, splits.named().values())) == len(problems) == len(place)
    clusters = clusters_of(problems, shares.threshold)
    for cluster in clusters:
        assert len({place[problems[i].id] for i in cluster}) == 1
    for name, share in (("val", parts[0]), ("test", parts[1])):
        off = abs(len(splits.named()[name]) - share * len(problems))
        assert off <= max(map(len, clusters))


def test_sizes_by_hand() -> None:
    splits = split_problems(_distinct(100), Shares(0.1, 0.2))
    assert [len(found) for found in splits.named().values()] == [70, 10, 20]
    assert (splits.clusters, splits.largest) == (100, 1)


def test_held_out_problems_are_never_trained_on() -> None:
    splits = split_problems(_distinct(30), Shares(0.1, 0.2), train=False)
    assert [len(found) for found in splits.named().values()] == [0, 10, 20]


def test_all_to_validation() -> None:
    splits = split_problems(_distinct(30), Shares(0.1, 0.0), train=False)
    assert [len(found) for found in splits.named().values()] == [0, 30, 0]


def test_the_seed_decides_and_repeats() -> None:
    problems = _distinct(50)
    first = split_problems(problems, Shares(seed=1))
    assert first == split_problems(problems, Shares(seed=1))
    assert first.val != split_problems(problems, Shares(seed=2)).val


def test_a_copy_in_other_dress_is_removed_once() -> None:
    one = _problem(0, "How many apples has Tom?")
    copies = [_problem(3, "how many  apples\r\nhas TOM"), _problem(6, "How many аpples has Tom?")]
    kept, removed = without_copies([one, *copies])
    assert kept == [one]
    assert removed == {"x/train/3": one.id, "x/train/6": one.id}


@given(st.lists(st.sampled_from("abc"), max_size=12))
def test_copies_and_kept_are_all(names: list[str]) -> None:
    problems = [_problem(3 * n, name) for n, name in enumerate(names)]
    random.Random(0).shuffle(problems)
    kept, removed = without_copies(problems)
    assert len(kept) + len(removed) == len(problems)
    assert {p.id for p in kept}.isdisjoint(removed)
    assert set(removed.values()) <= {p.id for p in kept}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"val": 0.5, "test": 0.5}, "add up to 1"),
        ({"val": 0.0, "test": 0.0}, "add up to 0"),
        ({"val": -0.1}, "val is -0.1"),
        ({"test": float("nan")}, "test is nan"),
        ({"threshold": 0.0}, "threshold is 0"),
        ({"threshold": 1.1}, "threshold is 1.1"),
    ],
)
def test_wrong_shares(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Shares(**wrong)  # type: ignore[arg-type]


def test_a_single_cluster_cannot_be_split() -> None:
    with pytest.raises(DataError, match=r"3 problems leave none for val .*alike stay together"):
        split_problems([_problem(n, f"Q {n}", "One passage") for n in range(3)], Shares())
