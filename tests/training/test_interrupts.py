"""Ctrl-C and SIGTERM in a process of our own: raised, held back, repeated, swallowed."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from made_rollouts import problem
from torch import nn

from aflow_grpo.policy.policy import Policy
from aflow_grpo.policy.settings import SamplingSettings
from aflow_grpo.training.interrupts import (
    Terminated,
    deferred_interrupt,
    raise_if_stopped,
    stop_signals,
    unwind_from_here,
)

RAISED = [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
NAMES = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Put back what a test changes."""
    before = {name: signal.getsignal(name) for name in NAMES}
    yield
    for name, handler in before.items():
        signal.signal(name, handler)


def press(name: signal.Signals) -> None:
    os.kill(os.getpid(), name)


@pytest.mark.parametrize(("name", "error"), RAISED)
def test_a_signal_raises_once_the_run_exists(
    name: signal.Signals, error: type[BaseException]
) -> None:
    with pytest.raises(error), stop_signals("fit"):
        unwind_from_here()
        press(name)
    assert signal.getsignal(name) is signal.SIG_IGN, "the process is about to end"


@pytest.mark.parametrize("name", NAMES)
def test_an_impatient_second_signal_does_not_cut_the_shutdown_short(name: signal.Signals) -> None:
    closed = False
    with pytest.raises((KeyboardInterrupt, Terminated)), stop_signals("fit"):
        unwind_from_here()
        try:
            press(name)
        finally:
            press(signal.SIGINT)
            press(signal.SIGTERM)
            closed = True
    assert closed


def test_without_a_signal_the_handlers_are_put_back() -> None:
    before = [signal.getsignal(name) for name in NAMES]
    with stop_signals("fit"):
        assert [signal.getsignal(name) for name in NAMES] != before
        raise_if_stopped()
    assert [signal.getsignal(name) for name in NAMES] == before


class Swallowing:
    """Has a finaliser during which a signal arrives."""

    def __del__(self) -> None:
        press(signal.SIGTERM)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_swallowed_exception_is_raised_again() -> None:
    with pytest.raises(Terminated), stop_signals("fit"):
        unwind_from_here()
        Swallowing()
        raise_if_stopped()


PROGRAM = """
import os, signal
from aflow_grpo.training.interrupts import stop_signals
class Swallowing:
    def __del__(self):
        os.kill(os.getpid(), signal.{name})
with stop_signals("fit"):
    try:
        Swallowing()
    except BaseException:
        pass
    print("still here")
"""


@pytest.mark.parametrize(("name", "code", "said"), [
    ("SIGINT", 130, "aflow-grpo fit: interrupted."), ("SIGTERM", 143, "aflow-grpo fit: terminated.")
])  # fmt: skip
def test_while_loading_a_signal_ends_the_process_whatever_it_is_doing(
    name: str, code: int, said: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(name=name)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr.strip()) == (code, "", said)


# Held back


@pytest.mark.parametrize(("name", "error"), RAISED)
@pytest.mark.parametrize("depth", [1, 2])
def test_a_signal_waits_for_the_blocks_end(
    name: signal.Signals, error: type[BaseException], depth: int
) -> None:
    reached = []
    with pytest.raises(error), stop_signals("fit"):
        unwind_from_here()
        with deferred_interrupt():
            if depth == 2:
                with deferred_interrupt():
                    press(name)
                    reached.append("inner")
            else:
                press(name)
            reached.append("outer")
        reached.append("after")
    assert reached == ["inner", "outer"][-depth:]


@pytest.mark.parametrize(("name", "error"), RAISED)
def test_a_second_one_of_its_kind_gets_through(
    name: signal.Signals, error: type[BaseException]
) -> None:
    reached = []
    with pytest.raises(error), stop_signals("fit"):
        unwind_from_here()
        with deferred_interrupt():
            press(name)
            reached.append("first")
            press(name)
            reached.append("second")
    assert reached == ["first"]


def test_what_others_do_about_a_signal_is_done_at_the_end() -> None:
    """Lightning notes SIGTERM; the note must not be lost, nor Python's own Ctrl-C."""
    noted: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, frame: noted.append(signum))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with deferred_interrupt():
        press(signal.SIGTERM)
        assert noted == []
    assert noted == [signal.SIGTERM]
    with pytest.raises(KeyboardInterrupt), deferred_interrupt():
        press(signal.SIGINT)


def test_a_signal_that_is_held_back_is_told_of_at_once() -> None:
    signal.signal(signal.SIGTERM, lambda signum, frame: reached.append("handled"))
    reached: list[str] = []
    with deferred_interrupt(on_held=lambda: reached.append("told")):
        press(signal.SIGTERM)
        reached.append("going on")
    assert reached == ["told", "going on", "handled"]


def test_ignored_signals_stay_ignored_and_other_threads_are_left_alone() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with deferred_interrupt():
        press(signal.SIGINT)
    done: list[str] = []

    def work() -> None:
        with stop_signals("fit"), deferred_interrupt():
            done.append("ran")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["ran"] and signal.getsignal(signal.SIGINT) is signal.SIG_IGN


# In the middle of sampling


@pytest.mark.parametrize(("name", "error"), RAISED)
def test_sampling_stops_within_a_token(name: signal.Signals, error: type[BaseException]) -> None:
    policy = Policy("tiny", sampling=SamplingSettings(max_new_tokens=300))
    policy.setup()
    policy.eval()
    passes = 0

    def count(module: nn.Module, inputs: object, outputs: object) -> None:
        nonlocal passes
        passes += 1
        if passes == 5:
            press(name)

    decoder: Callable[[], nn.Module] = policy.model.get_decoder  # type: ignore[union-attr,assignment]
    decoder().register_forward_hook(count)
    with pytest.raises(error), stop_signals("fit"):
        unwind_from_here()
        policy.write([problem().visible], [0, 1, 2, 3])
    assert passes <= 6
