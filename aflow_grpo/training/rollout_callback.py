"""The rollout callback: owns the event loop, the endpoints' clients, the sandbox and the simulator.

`training_step` calls it with completions and gets rollouts back. Everything it owns is opened once
per run, when Lightning sets the stage up, and closed when the stage ends or an exception ends it.
A policy behind an endpoint is connected here, so that its calls share loop and journal with the
executor's, and so is a server that draws for a policy in this process. Before anything else, real
endpoints are asked whether they answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning as L
from lightning.pytorch.utilities.exceptions import SIGTERMException

from aflow_grpo.execution import ExecutionSettings
from aflow_grpo.llm.client import ExecutorClient
from aflow_grpo.llm.journal import journal_path
from aflow_grpo.llm.settings import LLMSettings
from aflow_grpo.llm.tiers import default_tiers
from aflow_grpo.operators.registry import load_operators
from aflow_grpo.policy.endpoint import EndpointPolicy
from aflow_grpo.policy.served import ServedBackend
from aflow_grpo.records import Problem, Rollout
from aflow_grpo.rewards import RewardSettings
from aflow_grpo.rollout import RolloutRequest, RolloutSettings
from aflow_grpo.scoring.own_scorers import load_scorers
from aflow_grpo.scoring.settings import ScoringSettings
from aflow_grpo.training.interrupts import deferred_interrupt, raise_if_stopped
from aflow_grpo.training.open_run import OpenRun, RunParts, SandboxSettings
from aflow_grpo.training.outage import OutageGuard
from aflow_grpo.training.ranks import Ranks
from aflow_grpo.training.running import RunningBatch
from aflow_grpo.training.storing import Place, make_batch, settings_text
from aflow_grpo.training.traces import TracedRun
from aflow_grpo.training.watching import UNWATCHED, DrawWatch, Watcher
from aflow_grpo.workflow.contract import TEN_OPERATORS
from aflow_grpo.workflow.interpreter import InterpreterLimits

__all__ = ["Overlap", "RolloutCallback"]

Overlap = Literal["none", "group", "step"]


class RolloutCallback(L.Callback):
    """Executes workflows for the module.

    Args:
        llm: The executor: endpoints or simulator, journal, budget.
        execution: Clocks of one workflow.
        interpreter: Limits of the interpreter that runs workflow code.
        sandbox: Limits of the processes that run operator-written code.
        reward: Weights, penalties, one-call costs.
        rollout: Concurrency, deadline, fallback.
        scoring: What counts as right: the profile, scorers of your own, clocks.
        operators: Import paths of operators of your own, e.g. `my_module.Summarise`, besides the
            ten.
        overlap: What runs while the policy computes. ``none``: nothing; all workflows are written,
            then executed. ``group``: each workflow from the moment that it has been written, while
            others still are. ``step``: besides, the next iteration's workflows are written before
            the update and run during it: one step off-policy, corrected and logged as
            ``train/policy_lag``.
    """

    def __init__(
        self,
        llm: LLMSettings = LLMSettings(),
        execution: ExecutionSettings = ExecutionSettings(),
        interpreter: InterpreterLimits = InterpreterLimits(),
        sandbox: SandboxSettings = SandboxSettings(),
        reward: RewardSettings = RewardSettings(),
        rollout: RolloutSettings = RolloutSettings(),
        operators: list[str] | None = None,
        scoring: ScoringSettings = ScoringSettings(),
        overlap: Overlap = "group",
    ) -> None:
        self.llm = llm
        self.execution = execution
        self.interpreter = interpreter
        self.sandbox = sandbox
        self.reward = reward
        self.rollout = rollout
        self.own_operators = list(operators or ())
        self.operators = load_operators(self.own_operators)
        self.scoring = scoring
        self.overlap: Overlap = overlap
        load_scorers(scoring.scorers)  # a wrong path stops before anything is opened
        self._guard = OutageGuard(llm.max_unavailable, llm.unavailable_over)
        self._open: OpenRun | None = None
        self.watcher: Watcher | None = None
        """Whom to tell how workflows come along."""

    @property
    def client(self) -> ExecutorClient:
        """The executor's client, for its totals."""
        return self._opened.client

    @property
    def writer(self) -> ExecutorClient | None:
        """The client of a policy behind an endpoint, for its totals; None when there is none."""
        return self._opened.writer

    @property
    def sandbox_mode(self) -> str:
        """How operator-written code is confined: ``jail``, ``jail+bwrap`` or ``monty``."""
        return self._opened.sandbox.mode

    @property
    def executor_name(self) -> str:
        """``simulator`` or the first tier's model."""
        if self.llm.simulator is not None:
            return "simulator"
        return (self.llm.tiers or default_tiers())[0].model

    @property
    def simulator_digest(self) -> str:
        """Names the simulated world; empty where a real endpoint executes."""
        return self._opened.world

    @property
    def _opened(self) -> OpenRun:
        if self._open is None:
            raise RuntimeError(
                "The rollout callback is used before its setup or after its teardown."
            )
        return self._open

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Open everything; Lightning has set the datamodule up by now."""
        if self._open is not None:
            return
        if self.operators.contract != TEN_OPERATORS:
            pl_module.policy.operators = self.operators.contract  # type: ignore[union-attr]
        problems: Sequence[Problem] = trainer.datamodule.all_problems()  # type: ignore[attr-defined]
        policy = getattr(pl_module, "policy", None)
        writing = policy if isinstance(policy, EndpointPolicy) else None
        ranks = Ranks.of(trainer)
        with ranks.together():
            opened = self._open = self._start(problems, trainer, writing)
        first = trainer.global_rank - trainer.local_rank
        opened.meet(ranks, range(first, min(first + trainer.num_devices, ranks.world_size)))
        run = partial(opened.loop.run, poll=partial(self.stop_if_terminated, trainer))
        if writing is not None and opened.writer is not None:
            writing.connect(opened.writer, run)
        backend = getattr(policy, "backend", None)
        if isinstance(backend, ServedBackend):
            opened.stack.push_async_callback(backend.aclose)
            with ranks.together():
                backend.connect(run, Path(trainer.default_root_dir))

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Close everything."""
        if self._open is not None:
            self._open.drain()
        self.close()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Close everything; Lightning skips teardown after an exception."""
        self.close()

    def watch(self, split: str, workflows: int, *, executed: bool) -> DrawWatch:
        """Who is to be told of a draw that begins."""
        return UNWATCHED if self.watcher is None else self.watcher(split, workflows, executed)

    def open_batch(
        self,
        trainer: L.Trainer,
        *,
        evaluation: bool = False,
        rehearse: bool = False,
        on_done: Callable[[Rollout], None] | None = None,
    ) -> RunningBatch:
        """A batch that takes workflows one by one and runs them; see `RolloutEngine.run`.

        SIGTERM and Ctrl-C raise from its methods and cancel it.
        """
        opened = self._opened
        poll = partial(self.stop_if_terminated, trainer)
        return RunningBatch(
            opened.loop,
            opened.engine,
            poll,
            evaluation=evaluation,
            rehearse=rehearse,
            on_done=on_done,
        )

    def inspect(self, requests: Sequence[RolloutRequest]) -> list[Rollout]:
        """Check the structure only, at no cost."""
        opened = self._opened
        return opened.loop.run(opened.engine.inspect(requests))

    def cancel_calls(self) -> None:
        """Cut off whatever is on its way, without waiting; the run is about to end."""
        if self._open is not None:
            self._open.loop.cancel_soon()

    def join_run(self, run: str, takes_over: str | None = None) -> None:
        """From here on calls belong to `run`: what it asked and paid for before counts.

        Args:
            run: The MLflow run, or the verb where there is none.
            takes_over: A run whose calls become its own.
        """
        if run != self._opened.run:
            self._opened.join_run(run, takes_over)

    def keep(self, rollouts: Sequence[Rollout], place: Place, run: TracedRun | None) -> None:
        """Journal and trace rollouts, as the settings say; the journal is on the disk afterwards.

        Args:
            rollouts: Of one draw.
            place: Where they belong.
            run: Where traces go; None for none.

        Raises:
            ExecutorError: The journal cannot be written.
            OutageError: Too many were lost because no endpoint answered.
        """
        self._store(rollouts, place)
        if run is not None:
            self._opened.tracer_of(run, self.llm.traces).add(rollouts, place)
        self._guard.check(rollouts)

    def _store(self, rollouts: Sequence[Rollout], place: Place) -> None:
        journal = self._opened.journal
        if journal is None or not self.llm.store_rollouts:
            return
        settings = settings_text(
            {
                "reward": self.reward,
                "scoring": self.scoring,
                "sandbox": self.sandbox,
                "operators": self.own_operators,
            }
        )
        journal.put_rollouts(make_batch(place, rollouts, settings))
        journal.flush()

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """What a checkpoint counts as done is on the disk before it."""
        if self._open is not None and self._open.journal is not None:
            self._open.journal.flush()

    def stop_if_terminated(self, trainer: L.Trainer) -> None:
        """Raise if a signal has arrived that did not stop the run yet."""
        raise_if_stopped()
        if trainer.received_sigterm:
            raise SIGTERMException

    def close(self) -> None:
        """Cancel what runs, close clients, processes and the loop; a second call does nothing."""
        opened, self._open = self._open, None
        if opened is not None:
            with deferred_interrupt():
                # First of all: what comes before it in `close` may take seconds.
                opened.loop.cancel_all()
                opened.close()

    def _start(
        self, problems: Sequence[Problem], trainer: L.Trainer, policy: EndpointPolicy | None
    ) -> OpenRun:
        # One rank of each machine asks the endpoints whether they answer.
        check = self.llm.check_endpoints and trainer.local_rank == 0
        llm = replace(self.llm, check_endpoints=check)
        folder = llm.journal_dir or Path(trainer.default_root_dir)
        parts = RunParts(
            llm=llm,
            journal=journal_path(folder, trainer.global_rank) if llm.journal else None,
            ranks=trainer.world_size,
            execution=self.execution,
            interpreter=self.interpreter,
            sandbox=self.sandbox,
            reward=self.reward,
            rollout=self.rollout,
            scoring=self.scoring,
            operators=self.operators,
        )
        opened = OpenRun()
        try:
            opened.start(parts, problems, policy)
        except BaseException:
            opened.close()
            raise
        return opened
