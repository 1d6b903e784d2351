"""Ranks of a distributed run as a cluster's launcher starts them: real processes, gloo, no GPU.

Forked from the server that has imported everything (`trainer_runs`), with torchrun's variables.
"""

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import lightning as L
import psutil
from trainer_runs import run_verb

from aflow_grpo.records import Problem, Score

__all__ = [
    "LAUNCHED",
    "Failing",
    "broken_on_the_second",
    "fit_on_ranks",
    "join_ranks",
    "left_behind",
    "start_ranks",
]

LAUNCHED = ("--trainer.strategy=ddp", "--trainer.accelerator=cpu", "--trainer.devices=2")
TIMEOUT_S = 120.0


def start_ranks(work: Callable[..., Any], *arguments: Any, count: int = 2) -> list[BaseProcess]:
    """`work(*arguments)` in each of `count` processes that know each other's address."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trainer_runs", "aflow_grpo.cli"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        context.Process(target=_be_rank, args=(rank, count, port, work, arguments))
        for rank in range(count)
    ]
    for process in processes:
        process.start()
    return processes


def join_ranks(processes: list[BaseProcess], timeout_s: float = TIMEOUT_S) -> list[int | None]:
    """Their exit codes; None of one that had to be killed."""
    end = time.monotonic() + timeout_s
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    return codes


def fit_on_ranks(settings: Path, root: Path, *more: str, verb: str = "fit") -> list[int | None]:
    """The exit codes of a `fit`, or of another verb, on two ranks."""
    arguments = [f"--config={settings}", f"--trainer.default_root_dir={root}", *LAUNCHED, *more]
    return join_ranks(start_ranks(_verb, verb, *arguments))


def left_behind(root: Path) -> list[str]:
    """Command lines of processes that still work for the run in `root`."""
    mine = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or ())
        if str(root) in line and process.info["status"] != psutil.STATUS_ZOMBIE:
            mine.append(line)
    return mine


def _be_rank(
    rank: int, count: int, port: int, work: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0", "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "tests",
    }  # fmt: skip
    raise SystemExit(work(*arguments))


def _verb(*arguments: str) -> int:
    return run_verb(*arguments)


class Failing(L.Callback):
    """Ends one rank, when a training step begins.

    Args:
        rank: Which.
        iteration: Completed iterations before it.
        how: ``raise`` an exception, or the name of a signal that the process sends itself.
    """

    def __init__(self, rank: int, iteration: int, how: str) -> None:
        self._rank = rank
        self._iteration = iteration
        self._how = how

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Now, perhaps."""
        if trainer.global_rank != self._rank or pl_module.iteration != self._iteration:
            return
        if self._how == "raise":
            raise ValueError("a bug on one rank")
        os.kill(os.getpid(), signal.Signals[self._how])


def broken_on_the_second(problem: Problem, answer: str) -> Score:
    """A scorer of one's own with a bug on one machine of two."""
    if os.environ["RANK"] == "1":
        raise ZeroDivisionError("a scorer's bug")
    return Score(1.0, True)
