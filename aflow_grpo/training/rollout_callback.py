"""The rollout callback: owns the event loop, the endpoints' clients, the sandbox and the simulator.

`training_step` calls it with completions and gets rollouts back. Everything it owns is opened once
per run, when Lightning sets the stage up, and closed when the stage ends or an exception ends it.
A policy behind an endpoint is connected here, so that its calls share loop and journal with the
executor's. Before anything else, real endpoints are asked whether they answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities.exceptions import SIGTERMException

from aflow_grpo.execution import ExecutionSettings
from aflow_grpo.llm.client import ExecutorClient
from aflow_grpo.llm.journal import journal_path
from aflow_grpo.llm.settings import LLMSettings
from aflow_grpo.llm.tiers import default_tiers
from aflow_grpo.operators.registry import load_operators
from aflow_grpo.policy.endpoint import EndpointPolicy
from aflow_grpo.records import Problem, Rollout
from aflow_grpo.rewards import RewardSettings
from aflow_grpo.rollout import RolloutRequest, RolloutSettings
from aflow_grpo.scoring.own_scorers import load_scorers
from aflow_grpo.scoring.settings import ScoringSettings
from aflow_grpo.training.interrupts import deferred_interrupt, raise_if_stopped
from aflow_grpo.training.open_run import OpenRun, RunParts, SandboxSettings
from aflow_grpo.training.outage import OutageGuard
from aflow_grpo.training.storing import Place, make_batch, settings_text
from aflow_grpo.training.traces import TracedRun
from aflow_grpo.workflow.contract import TEN_OPERATORS
from aflow_grpo.workflow.interpreter import InterpreterLimits

__all__ = ["RolloutCallback"]


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
        load_scorers(scoring.scorers)  # a wrong path stops before anything is opened
        self._guard = OutageGuard(llm.max_unavailable, llm.unavailable_over)
        self._open: OpenRun | None = None

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
        opened = self._open = self._start(problems, trainer, writing)
        if writing is not None and opened.writer is not None:
            poll = partial(self.stop_if_terminated, trainer)
            writing.connect(opened.writer, partial(opened.loop.run, poll=poll))

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

    def submit(
        self,
        requests: Sequence[RolloutRequest],
        *,
        execute: bool = True,
        evaluation: bool = False,
        rehearse: bool = False,
    ) -> Future[list[Rollout]]:
        """Start running `requests` (or only checking their structure); see `result`."""
        engine = self._opened.engine
        if execute:
            work = engine.run(requests, evaluation=evaluation, rehearse=rehearse)
        else:
            work = engine.inspect(requests)
        return self._opened.loop.submit(work)

    def result(self, future: Future[list[Rollout]], trainer: L.Trainer) -> list[Rollout]:
        """Wait for what `submit` started; SIGTERM and Ctrl-C cancel it and propagate."""
        return self._opened.loop.result(future, poll=lambda: self.stop_if_terminated(trainer))

    def join_run(self, run: str, *, takes_over: str | None = None) -> None:
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
                opened.close()

    def _start(
        self, problems: Sequence[Problem], trainer: L.Trainer, policy: EndpointPolicy | None
    ) -> OpenRun:
        llm = self.llm
        folder = llm.journal_dir or Path(trainer.default_root_dir)
        parts = RunParts(
            llm=llm,
            journal=journal_path(folder, trainer.global_rank) if llm.journal else None,
            budget_usd=llm.budget_usd and llm.budget_usd / trainer.world_size,
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
