"""Endless batches: exact proportions, every problem once a cycle, resumable, split over ranks."""

from __future__ import annotations

import itertools
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aflow_grpo.data.apportion import apportion, interleave
from aflow_grpo.data.sampler import DomainMix, ProportionalSampler, stratified
from aflow_grpo.errors import ConfigError
from aflow_grpo.records import DOMAINS, Domain, Problem


def pool(math: int = 8, code: int = 6, qa: int = 6) -> list[Problem]:
    counts: dict[Domain, int] = {"math": math, "code": code, "qa": qa}
    return [
        Problem(f"{domain}/{i}", "d", domain, "?", "1")
        for domain, count in counts.items()
        for i in range(count)
    ]


def sampler(
    problems: list[Problem] | None = None, mix: DomainMix | None = None, batch_size: int = 10,
    seed: int = 0, window: int | None = None, rank: int = 0, world_size: int = 1,
) -> ProportionalSampler:  # fmt: skip
    return ProportionalSampler(
        pool() if problems is None else problems, mix or DomainMix(), batch_size=batch_size,
        seed=seed, window=window, rank=rank, world_size=world_size,
    )  # fmt: skip


def domains(batch: list[Problem]) -> tuple[int, ...]:
    counts = Counter(problem.domain for problem in batch)
    return tuple(counts[domain] for domain in DOMAINS)


tenths = st.tuples(st.integers(0, 10), st.integers(0, 10)).filter(lambda t: sum(t) <= 10)
mixes = tenths.map(lambda t: DomainMix(t[0] / 10, t[1] / 10, (10 - sum(t)) / 10))


def test_the_default_mix_is_exact_in_every_batch_of_ten() -> None:
    drawn = sampler()
    assert drawn.window == 1
    assert [domains(drawn.next_batch()) for _ in range(7)] == [(4, 3, 3)] * 7


def test_batches_of_nine_make_up_for_each_other() -> None:
    """9 x 40 % is 3.6: over a window of 10 batches it is 36 of 90, and no batch strays by one."""
    drawn = sampler(batch_size=9)
    batches = [domains(drawn.next_batch()) for _ in range(20)]
    assert drawn.window == 10
    assert [sum(column) for column in zip(*batches[:10], strict=True)] == [36, 27, 27]
    assert {math for math, _, _ in batches} == {3, 4}
    assert batches[:10] == batches[10:]


@settings(max_examples=60, deadline=None)
@given(mixes, st.integers(1, 24), st.integers(0, 5))
def test_every_window_holds_the_exact_mix(mix: DomainMix, size: int, seed: int) -> None:
    drawn = sampler(mix=mix, batch_size=size, seed=seed)
    for _ in range(2):
        batches = [drawn.next_batch() for _ in range(drawn.window)]
        counts = domains(list(itertools.chain(*batches)))
        for domain, count in zip(DOMAINS, counts, strict=True):
            exact = Fraction(mix.share(domain)).limit_denominator(1000) * size
            assert count == exact * drawn.window
            for batch in batches:
                assert len(batch) == size
                assert abs(domains(batch)[DOMAINS.index(domain)] - exact) < 2


@settings(max_examples=60, deadline=None)
@given(
    mixes, st.integers(1, 12), st.integers(0, 40), st.integers(0, 15), st.integers(1, 5) | st.none()
)
def test_resuming_anywhere_equals_not_stopping(
    mix: DomainMix, size: int, stop: int, seed: int, window: int | None
) -> None:
    whole = sampler(mix=mix, batch_size=size, seed=seed, window=window)
    expected = [whole.next_batch() for _ in range(stop + 4)]
    first = sampler(mix=mix, batch_size=size, seed=seed, window=window)
    for _ in range(stop):
        first.next_batch()
    second = sampler(mix=mix, batch_size=size, seed=seed, window=window)
    second.load_state_dict(first.state_dict())
    assert [second.next_batch() for _ in range(4)] == expected[stop:]
    assert first.next_batch() == expected[stop]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 9))
def test_ranks_split_each_batch_without_overlap(world: int, each: int, seed: int) -> None:
    size = world * each
    whole = sampler(batch_size=size, seed=seed)
    ranks = [
        sampler(batch_size=size, seed=seed, rank=rank, world_size=world) for rank in range(world)
    ]
    for _ in range(6):
        slices = [rank.next_batch() for rank in ranks]
        assert all(len(part) == each for part in slices)
        assert list(itertools.chain(*slices)) == whole.next_batch()
    assert all(rank.state_dict() == whole.state_dict() for rank in ranks)


def test_a_rank_sees_every_domain() -> None:
    halves = [sampler(batch_size=20, rank=rank, world_size=2) for rank in (0, 1)]
    assert [domains(half.next_batch()) for half in halves] == [(4, 3, 3)] * 2


def test_every_problem_comes_once_per_cycle_and_cycles_differ() -> None:
    drawn = sampler(pool(4, 3, 3), batch_size=10)
    cycles = [drawn.next_batch() for _ in range(6)]
    for cycle in cycles:
        assert len({problem.id for problem in cycle}) == 10
    orders = {tuple(p.id for p in cycle if p.domain == "math") for cycle in cycles}
    assert len(orders) > 1


def test_seeds_give_different_orders_and_equal_seeds_equal_ones() -> None:
    first, same, other = (sampler(pool(40, 30, 30), seed=seed) for seed in (1, 1, 2))
    batch = first.next_batch()
    assert batch == same.next_batch()
    assert batch != other.next_batch()


def test_the_state_is_two_small_integers() -> None:
    drawn = sampler()
    drawn.next_batch()
    state = drawn.state_dict()
    assert state["next_batch"] == 1
    assert all(type(value) is int and 0 <= value < 2**31 for value in state.values())


@pytest.mark.parametrize(
    "other",
    [
        lambda: sampler(pool(8, 6, 7)),
        lambda: sampler(pool()[::-1]),
        lambda: sampler(mix=DomainMix(0.3, 0.4, 0.3)),
        lambda: sampler(batch_size=20),
        lambda: sampler(seed=1),
        lambda: sampler(window=2),
    ],
    ids=["problems", "order", "mix", "batch size", "seed", "window"],
)
def test_a_state_of_other_settings_is_refused(other: object) -> None:
    assert callable(other)
    with pytest.raises(ConfigError, match="sampler drew from other data"):
        sampler().load_state_dict(other().state_dict())


def test_a_state_may_move_to_another_number_of_ranks() -> None:
    one = sampler(batch_size=20)
    one.next_batch()
    two = sampler(batch_size=20, rank=1, world_size=2)
    two.load_state_dict(one.state_dict())
    assert two.next_batch() == one.next_batch()[10:]


def test_a_domain_without_a_share_is_left_out() -> None:
    drawn = sampler(mix=DomainMix(0.5, 0.5, 0.0))
    assert [domains(drawn.next_batch()) for _ in range(3)] == [(5, 5, 0)] * 3
    assert domains(sampler(pool(3, 0, 0), DomainMix(1, 0, 0)).next_batch()) == (10, 0, 0)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: DomainMix(0.5, 0.3, 0.3), r"math 0\.5 \+ code 0\.3 \+ qa 0\.3 = 1\.1, expected"),
        (lambda: DomainMix(-0.1, 0.6, 0.5), r"mix\.math is -0\.1, expected a share from 0 to 1"),
        (lambda: DomainMix(float("nan"), 0.5, 0.5), r"mix\.math is nan"),
        (lambda: sampler(pool(qa=0)), r"mix\.qa is 0\.3, but the data hold no qa problems"),
        (lambda: sampler(batch_size=0), "batch_size is 0, expected 1 or more"),
        (lambda: sampler(window=0), "window is 0, expected 1 or more"),
        (lambda: sampler(rank=2, world_size=2), r"rank is 2, expected 0 to world_size - 1"),
        (lambda: sampler(world_size=4), "batch_size 10 cannot be split over 4 ranks.*e.g. 12"),
    ],
)
def test_wrong_settings_are_refused(make: object, complaint: str) -> None:
    assert callable(make)
    with pytest.raises(ConfigError, match=complaint):
        make()


def test_thirds_sum_closely_enough() -> None:
    third = 0.3333333
    drawn = sampler(mix=DomainMix(third, third, third + 1e-7), batch_size=9)
    assert domains(drawn.next_batch()) == (3, 3, 3)


def test_stratified_keeps_proportions_and_order() -> None:
    problems = pool(40, 30, 30)
    chosen = stratified(problems, 50, seed=3)
    assert domains(chosen) == (20, 15, 15)
    assert chosen == sorted(chosen, key=problems.index)
    assert chosen == stratified(problems, 50, seed=3)
    assert chosen != stratified(problems, 50, seed=4)
    assert stratified(problems, 100, 0) == stratified(problems, 101, 0) == problems
    assert stratified(problems, 0, 0) == []
    with pytest.raises(ConfigError, match="n is -1"):
        stratified(problems, -1, 0)


@given(st.integers(0, 500), st.lists(st.integers(0, 50), min_size=1, max_size=6).filter(any))
def test_apportioned_shares_are_the_quotas_rounded(total: int, weights: list[int]) -> None:
    shares = apportion(total, weights)
    assert sum(shares) == total
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - Fraction(total * weight, sum(weights))) < 1
        assert weight or not share


@given(st.lists(st.integers(0, 30), min_size=1, max_size=3))
def test_interleaving_keeps_every_prefix_in_proportion(shares: list[int]) -> None:
    slots = interleave(shares)
    assert [slots.count(at) for at in range(len(shares))] == shares
    for end in range(1, len(slots) + 1):
        for at, share in enumerate(shares):
            assert abs(slots[:end].count(at) - Fraction(share * end, len(slots))) < 1


def test_worked_shares() -> None:
    assert apportion(7, [40, 30, 30]) == [3, 2, 2]
    assert apportion(50, [1, 1, 1]) == [17, 17, 16]
    assert interleave([2, 1, 1]) == [0, 1, 2, 0]
