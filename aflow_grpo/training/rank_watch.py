"""How the processes of a distributed run end: all of them, soon, and with their own words.

A process that waits for another inside torch hears no signal, and one whose partner has died may
wait for half an hour. Lightning's own observer kills everything within five seconds of a child's
death, which would cut a checkpoint or an answer that has been paid for. Here the first process
looks after the children that Lightning's launcher started: when one dies it ends the run as SIGTERM
would, in good order, and only what has not ended after a while is killed. A child ends when its
parent does.

Ranks that torchrun or SLURM started are ended by those; they too see each other's closed
connections. Not here: errors that a rank can still tell of (`ranks`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import lightning as L
import torch.distributed as dist
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from aflow_grpo.errors import RankFailed
from aflow_grpo.training.interrupts import SHUTDOWN_S, Terminated, take_signals_back
from aflow_grpo.training.launched import is_child_of_first

__all__ = ["RankWatch"]

_POLL_S = 0.2
_NOTICE_S = 2.0
"""A dead child's partners see its closed connection, or its bad news, within this time."""
_LAST_S = 30.0
"""What has not ended so long after it should have is killed."""
_DRAIN_S = 600.0
"""The same at the end of a healthy run: a child may wait for answers that are paid for."""


class RankWatch(L.Callback):
    """Ends all processes of a run when one of them ends; a context manager around the run.

    Raises on leaving:
        RankFailed: Another process has ended before its time.
    """

    def __init__(self) -> None:
        self._children: list[subprocess.Popen[bytes]] = []
        self._distributed = False
        self._rank = 0
        self._lost: str | None = None
        self._stopped = False
        self._ending = threading.Event()
        self._closed = threading.Event()

    # Lightning's hooks

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """All processes are there and connected: begin to look after them."""
        if self._distributed or trainer.world_size == 1:
            return
        self._distributed = True
        self._rank = trainer.global_rank
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher) and launcher.procs:
            self._children = list(launcher.procs)
            # An empty list ends Lightning's observer, which looks into this very one.
            launcher.procs.clear()
            self._start(self._watch_children)

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """See `_own_signals`."""
        self._own_signals()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """See `_own_signals`."""
        self._own_signals()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """See `_own_signals`."""
        self._own_signals()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """See `_own_signals`."""
        self._own_signals()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """This process is on its way out by itself."""
        self._ending.set()

    def _own_signals(self) -> None:
        """Lightning's SIGTERM handler waits inside torch for the other ranks, which may not come.

        It is installed after `setup`, so it is replaced where the stages start.
        """
        if self._distributed:
            take_signals_back()

    # The run as a block

    def __enter__(self) -> Self:
        if is_child_of_first():
            # Ctrl-C on a terminal reaches every process; the first decides, when it can stop.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            self._start(self._watch_parent)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        try:
            if not (self._distributed or dist.is_initialized()):
                return
            if error is None:
                self._join_children()
            else:
                self._end_children()
        finally:
            self._closed.set()
        if error is None and self._lost is not None:
            raise RankFailed(self._lost)
        if error is not None and self._is_echo(error):
            raise RankFailed(self._lost or f"another rank has ended ({error}).") from error

    def _is_echo(self, error: BaseException) -> bool:
        """Whether `error` only says that somebody else has ended."""
        if isinstance(error, Terminated):
            return self._stopped
        of_gloo = isinstance(error, RuntimeError) and "gloo" in str(error)
        return isinstance(error, dist.DistError) or of_gloo

    def _join_children(self) -> None:
        """All went well here: so it should there."""
        self._wait_for_children(_DRAIN_S)
        self._kill_children()
        self._note_losses()

    def _end_children(self) -> None:
        """Let go of whoever waits for this process inside torch, then signal, then kill."""
        if dist.is_initialized() and dist.get_backend() == "gloo":
            dist.destroy_process_group()
        self._wait_for_children(_NOTICE_S)
        self._note_losses()
        for child in self._children:
            child.send_signal(signal.SIGTERM)  # one that has ended is left alone
        self._wait_for_children(SHUTDOWN_S)
        self._kill_children()

    def _wait_for_children(self, timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end and any(child.poll() is None for child in self._children):
            time.sleep(_POLL_S / 4)

    def _kill_children(self) -> None:
        for child in self._children:
            if child.poll() is None:
                child.kill()
                child.wait()

    def _note_losses(self) -> None:
        for rank, child in enumerate(self._children, start=self._rank + 1):
            if self._lost is None and child.poll():
                self._lost = f"rank {rank} {_how_it_ended(child.returncode)}"

    # Threads

    def _start(self, work: Callable[[], None]) -> None:
        threading.Thread(target=work, name="rank-watch", daemon=True).start()

    def _watch_children(self) -> None:
        while not any(child.poll() for child in self._children):
            if self._closed.wait(_POLL_S):
                return
        if not self._ending.wait(_NOTICE_S):
            self._note_losses()
            self._stopped = True
            os.kill(os.getpid(), signal.SIGTERM)
        if not self._closed.wait(_LAST_S):
            self._note_losses()
            self._kill_children()
            _leave(f"\naflow-grpo: {self._lost} This process did not end in good order.\n")

    def _watch_parent(self) -> None:
        parent = os.getppid()
        while os.getppid() == parent:
            if self._closed.wait(_POLL_S):
                return
        os.kill(os.getpid(), signal.SIGTERM)
        if not self._closed.wait(SHUTDOWN_S):
            _leave("")


def _how_it_ended(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}."
    if code > 128:
        return f"was stopped by {signal.Signals(code - 128).name}."
    return f"ended with exit code {code}; its own message says why."


def _leave(message: str) -> Any:
    """End this process although its main thread is somewhere inside torch."""
    sys.stderr.write(message)
    sys.stderr.flush()
    os._exit(1)
