"""The rollout callback: owns the event loop, the endpoints' clients, the sandbox and the simulator.

`training_step` calls it with completions and gets rollouts back. Everything it owns is opened once
per run, when Lightning sets the stage up, and closed when the stage ends or an exception ends it.
A policy behind an endpoint is connected here, so that its calls share loop and journal with the
executor's. Before anything else, real endpoints are asked whether they answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities.exceptions import SIGTERMException

from aflow_grpo.errors import ConfigError
from aflow_grpo.execution import ExecutionSettings, WorkflowExecutor
from aflow_grpo.llm.client import ExecutorClient
from aflow_grpo.llm.journal import Journal
from aflow_grpo.llm.simulator import Simulator, SimulatorSettings
from aflow_grpo.llm.tiers import Tier
from aflow_grpo.operators.registry import load_operators
from aflow_grpo.policy.endpoint import EndpointPolicy
from aflow_grpo.records import Problem, Rollout
from aflow_grpo.rewards import RewardSettings
from aflow_grpo.rollout import RolloutEngine, RolloutRequest, RolloutSettings
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.scoring.own_scorers import load_scorers
from aflow_grpo.scoring.scorers import ScorerSet
from aflow_grpo.scoring.settings import ScoringSettings
from aflow_grpo.training.event_loop import EventLoopThread
from aflow_grpo.training.interrupts import deferred_interrupt, raise_if_stopped
from aflow_grpo.training.storing import Place, make_batch, settings_text
from aflow_grpo.workflow.contract import TEN_OPERATORS
from aflow_grpo.workflow.interpreter import Interpreter, InterpreterLimits

__all__ = ["RolloutCallback", "SandboxSettings"]


@dataclass(frozen=True)
class SandboxSettings:
    """Where the code that operators write is run."""

    workers: int = 2
    """Jobs at the same time."""
    timeout_s: float = 10.0
    """Processor time of one job; it may take six times as long by the clock."""
    memory_mb: int = 1024
    """Address space of one job."""


class RolloutCallback(L.Callback):
    """Executes workflows for the module.

    Args:
        tiers: The executor's endpoints in order of preference. May be empty with a simulator.
        simulator: Settings of the simulated executor, then the only tier; null uses `tiers`.
        journal: Keep every call of an endpoint in `journal.db`, so that none is paid for twice.
        store_rollouts: Keep every rollout there too, for `aflow-grpo rescore`; needs the journal.
        check_endpoints: Ask every real endpoint for one token before the run begins, and stop if
            none answers (0.000002 USD each for gpt-4o-mini). Off, a run can be repeated from the
            journal without a network.
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
        tiers: list[Tier] | None = None,
        simulator: SimulatorSettings | None = None,
        journal: bool = True,
        check_endpoints: bool = True,
        execution: ExecutionSettings = ExecutionSettings(),
        interpreter: InterpreterLimits = InterpreterLimits(),
        sandbox: SandboxSettings = SandboxSettings(),
        reward: RewardSettings = RewardSettings(),
        rollout: RolloutSettings = RolloutSettings(),
        operators: list[str] | None = None,
        scoring: ScoringSettings = ScoringSettings(),
        store_rollouts: bool = True,
    ) -> None:
        self.tiers = list(tiers or [])
        self.simulator_settings = simulator
        self.journal = journal
        self.check_endpoints = check_endpoints
        self.execution = execution
        self.interpreter = interpreter
        self.sandbox = sandbox
        self.reward = reward
        self.rollout = rollout
        self.store_rollouts = store_rollouts
        self.own_operators = list(operators or ())
        self.operators = load_operators(self.own_operators)
        self.scoring = scoring
        load_scorers(scoring.scorers)  # a wrong path stops before anything is opened
        self._open: _Opened | None = None
        self._sigterm = False

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
        return "simulator" if self.simulator_settings is not None else self.tiers[0].model

    @property
    def _opened(self) -> _Opened:
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
        opened = self._open = self._start(problems, Path(trainer.default_root_dir), writing)
        if writing is not None and opened.writer is not None:
            poll = partial(self.stop_if_terminated, trainer)
            writing.connect(opened.writer, partial(opened.loop.run, poll=poll))

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Close everything."""
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

    def store(self, rollouts: Sequence[Rollout], place: Place) -> None:
        """Put rollouts into the journal, if there is one; returns before they are on the disk.

        Raises:
            ExecutorError: The journal cannot be written.
        """
        journal = self._opened.journal
        if journal is None or not self.store_rollouts:
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
        self, problems: Sequence[Problem], directory: Path, policy: EndpointPolicy | None
    ) -> _Opened:
        if self.simulator_settings is None and not self.tiers:
            raise ConfigError(
                "rollout.tiers is empty and rollout.simulator is null: nothing can execute "
                "workflows. Give a tier (see configs/llm/openai.yaml) or "
                "simulator settings ({} for the defaults)."
            )
        opened = _Opened()
        try:
            opened.start(self, problems, directory, policy)
        except BaseException:
            opened.close()
            raise
        return opened


@dataclass
class _Opened:
    """What is open during a run, in the order in which it was opened."""

    loop: EventLoopThread = field(default_factory=EventLoopThread)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    client: ExecutorClient = field(init=False)
    writer: ExecutorClient | None = None
    journal: Journal | None = None
    sandbox: Sandbox = field(init=False)
    engine: RolloutEngine = field(init=False)

    def start(
        self,
        settings: RolloutCallback,
        problems: Sequence[Problem],
        root: Path,
        policy: EndpointPolicy | None,
    ) -> None:
        tiers, scope = settings.tiers, ""
        if settings.simulator_settings is not None:
            markers = settings.operators.contract.markers
            simulator = Simulator(problems, markers, settings.simulator_settings).start()
            self.stack.callback(simulator.close)
            tiers, scope = [simulator.tier()], simulator.digest
        self.loop.run(self._connect(settings, tiers, scope, root, policy))
        self.loop.run(self._prepare(settings))

    async def _connect(
        self,
        settings: RolloutCallback,
        tiers: Sequence[Tier],
        scope: str,
        root: Path,
        policy: EndpointPolicy | None,
    ) -> None:
        """The clients of all endpoints, and whether these answer."""
        stack = self.stack
        if settings.journal:
            root.mkdir(parents=True, exist_ok=True)
            self.journal = Journal(root / "journal.db")
            stack.callback(self.journal.close)
        journal = self.journal
        # A simulator's replies are those of its world; a real endpoint's know no scope.
        self.client = ExecutorClient(tiers, journal=journal, scope=scope)
        stack.push_async_callback(self.client.aclose)
        if policy is not None:
            self.writer = ExecutorClient([policy.tier], journal=journal)
            stack.push_async_callback(self.writer.aclose)
        if settings.check_endpoints:
            real = self.client if settings.simulator_settings is None else None
            for client in (self.writer, real):
                if client is not None:
                    await client.check()

    async def _prepare(self, settings: RolloutCallback) -> None:
        """Everything that runs workflows."""
        stack = self.stack
        limits = settings.sandbox
        self.sandbox = await stack.enter_async_context(
            Sandbox(workers=limits.workers, timeout_s=limits.timeout_s, memory_mb=limits.memory_mb)
        )
        interpreter = await stack.enter_async_context(
            Interpreter(workers=settings.rollout.concurrency, limits=settings.interpreter)
        )
        executor = WorkflowExecutor(
            self.client, interpreter, self.sandbox, settings.execution, settings.operators
        )
        scorers = await stack.enter_async_context(ScorerSet(self.sandbox, settings.scoring))
        self.engine = RolloutEngine(executor, scorers, settings.reward, settings.rollout)

    def close(self) -> None:
        self.loop.cancel_all()
        self.loop.run(self.stack.aclose())
        self.loop.close()
