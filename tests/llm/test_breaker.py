"""The circuit breaker, by a clock of its own."""

from __future__ import annotations

from aflow_grpo.llm.breaker import CircuitBreaker


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock, threshold: int = 3) -> CircuitBreaker:
    breaker = CircuitBreaker(threshold, 10.0, clock)
    for _ in range(threshold):
        assert breaker.admit()
        breaker.failure()
    return breaker


def test_it_opens_at_the_threshold_and_says_so_once() -> None:
    breaker = CircuitBreaker(3, 10.0, Clock())
    assert [breaker.failure() for _ in range(4)] == [False, False, True, False]
    assert not breaker.admit()


def test_an_answer_in_between_starts_the_count_anew() -> None:
    breaker = CircuitBreaker(2, 10.0, Clock())
    breaker.failure()
    breaker.success()
    breaker.failure()
    assert breaker.admit()


def test_after_the_cooldown_one_probe_at_a_time_is_let_through() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now = 9.99
    assert not breaker.admit()
    clock.now = 10.0
    assert breaker.admit()
    assert not breaker.admit()


def test_a_good_probe_closes_and_a_bad_one_opens_again() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now = 10.0
    assert breaker.admit()
    breaker.failure()
    clock.now = 19.99
    assert not breaker.admit()
    clock.now = 20.0
    assert breaker.admit()
    breaker.success()
    assert breaker.admit() and breaker.admit() and not breaker.is_open


def test_a_cancelled_probe_lets_the_next_one_through() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now = 10.0
    assert breaker.admit()
    breaker.release()
    assert breaker.admit()


def test_asking_whether_it_refuses_changes_nothing() -> None:
    clock_s = [0.0]
    breaker = CircuitBreaker(1, 30.0, lambda: clock_s[0])
    assert not breaker.refuses
    breaker.failure()
    assert breaker.refuses
    clock_s[0] = 30.0
    assert not breaker.refuses and not breaker.refuses, "nobody has taken the probe"
    assert breaker.admit() and breaker.refuses
    breaker.success()
    assert not breaker.refuses
