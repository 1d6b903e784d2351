"""Problems answered outside a Trainer: a policy or a fixed workflow writes, the executor runs.

Everything that runs is what a run opens too (`training.open_run`), on an event loop in a thread of
its own, so that this works in a notebook, where a loop runs already. Without a checkpoint nothing
of torch is imported. Not here: files of problems (`answer_file`), printing (`showing`).
"""

from __future__ import annotations

import queue
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from aflow_grpo.data.sources import DataSource, load_source
from aflow_grpo.errors import ConfigError, DataError
from aflow_grpo.llm.journal_files import journal_path
from aflow_grpo.operators.registry import load_operators
from aflow_grpo.predictions import has_gold
from aflow_grpo.records import (
    Completion,
    Domain,
    Problem,
    Rollout,
    Score,
)
from aflow_grpo.rollout import RolloutRequest, rollout_seed
from aflow_grpo.scoring.scorers import ScorerSet
from aflow_grpo.training.interrupts import deferred_interrupt, raise_if_stopped
from aflow_grpo.training.open_run import OpenRun, RunParts
from aflow_grpo.training.outage import OutageGuard
from aflow_grpo.workbench.executor_settings import ExecutorSettings, read_executor_settings
from aflow_grpo.workbench.questions import make_problem
from aflow_grpo.workbench.solution import Solution
from aflow_grpo.workbench.writers import check_fixed, fixed_workflow, load_writer

if TYPE_CHECKING:
    from aflow_grpo.workbench.policies import LoadedPolicy

__all__ = ["SIMULATED", "Solver", "solve"]

SIMULATED = (
    "the simulated executor does not know this problem, so the answer is made up. Give the gold "
    "answer (for code a right program), which it is told, or a real executor: --config "
    "configs/llm/openai.yaml."
)
_RUN = "infer"
"""Whose calls the journal says they are; also part of the seeds."""
_WRITTEN_AT_ONCE = 16
"""Problems whose workflows a policy writes together."""
_AHEAD = 2
"""Workflows under way, as a multiple of those that may run at once."""
_POLL_S = 0.1
_SAMPLE_SPLITS = ("train", "val", "test")


class _WhereKnown(ScorerSet):
    """Scores what can be scored; for the others the score means nothing, and nobody is shown it."""

    async def score(self, problem: Problem, answer: str | None) -> Score:
        """As `ScorerSet.score`, without its error for a problem that has no gold answer."""
        if has_gold(problem) or problem.dataset.lower() in self._own:
            return await super().score(problem, answer)
        return Score(0.0, correct=False, detail="not scored: no gold answer")


class Solver:
    """Answers problems; opens what it needs when it is first asked, and is closed by `with`.

    Args:
        checkpoint: What writes the workflows: a run's directory, meaning its last checkpoint, or a
            checkpoint file. None: a fixed workflow.
        workflow: Without a checkpoint: a name of the library, or a file with a workflow in any
            form that a policy may write; None: the one of the problem's domain that answers when a
            policy's does not run.
        config: YAML files as for `fit`, over the run's own settings (without a checkpoint:
            `configs/base.yaml`, whose executor is the simulated one).
        settings: Single settings above them, e.g. ``{"llm.budget_usd": 1.0}``.
        seed: Of sampled workflows and of the executor's calls.
        device: ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``.
        journal: File that keeps the executor's answers, so that none is paid for twice; None:
            `journal.db` in the folder `llm.journal_dir`, or nowhere where that is not set.

    Raises:
        ConfigError: A setting is wrong, or there is no such checkpoint or workflow.

    Example:
        >>> with Solver() as solver:
        ...     print(solver.solve("What is 17 + 4?", gold="21").answer)
    """

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        *,
        workflow: str | Path | None = None,
        config: Sequence[str | Path] = (),
        settings: Mapping[str, Any] | None = None,
        seed: int = 0,
        device: str = "auto",
        journal: Path | None = None,
    ) -> None:
        if checkpoint is not None and workflow is not None:
            raise ConfigError(
                f"--checkpoint={checkpoint} and --workflow={workflow}: expected one of them, since "
                "each says what writes the workflow."
            )
        self.loaded: LoadedPolicy | None = None
        recorded = None
        if checkpoint is not None:
            self.loaded = load_writer(checkpoint, config, device)
            recorded = self.loaded.settings
        self.settings: ExecutorSettings = read_executor_settings(
            config, recorded=recorded, overrides=settings
        )
        self._workflow = None if workflow is None else str(workflow)
        check_fixed(self._workflow)
        self._fixed: dict[Domain, tuple[str, str]] = {}
        self._operators = load_operators(self.settings.rollout.operators)
        self._seed = seed
        llm = self.settings.llm
        if journal is None and llm.journal_dir is not None:
            journal = journal_path(llm.journal_dir)
        self._journal = journal if llm.journal else None
        self._world: dict[str, Problem] = {}
        self._open: OpenRun | None = None
        self._spent_usd = 0.0
        self._answering = 0
        self._guard = OutageGuard(llm.max_unavailable, llm.unavailable_over)

    @property
    def simulated(self) -> bool:
        """Whether the simulated executor answers."""
        return self.settings.llm.simulator is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._open is not None and error is None:
            self._open.drain()
        self.close()

    def close(self) -> None:
        """End clients and processes; a later question opens them again."""
        opened, self._open = self._open, None
        if opened is not None:
            self._spent_usd = opened.budget.spent_usd
            with deferred_interrupt():
                opened.loop.cancel_all()
                opened.close()

    # Answering

    def solve(self, problem: str | Problem, domain: str = "math", **known: Any) -> Solution:
        """Answer one problem by the most probable workflow.

        Args:
            problem: Its text, or the record.
            domain: ``math``, ``code`` or ``qa``, for a text.
            **known: Of `make_problem`, for a text: gold, context, entry_point, public_tests.

        Raises:
            AFlowError: A setting is wrong, an endpoint cannot be used, or the budget is spent.
        """
        asked = problem if isinstance(problem, Problem) else make_problem(problem, domain, **known)
        return next(iter(self.solve_many([asked])))

    def solve_many(self, problems: Iterable[Problem], *, samples: int = 0) -> Iterator[Solution]:
        """Answer many, at most `rollout.rollout.concurrency` at a time, each as soon as it ends.

        Args:
            problems: In any number; ids have to differ.
            samples: Sampled workflows per problem; 0: the most probable one.

        Raises:
            AFlowError: As `solve`; or too many got no answer from any endpoint.
        """
        if samples < 0:
            raise ConfigError(f"--samples={samples}: expected 0 (the most probable) or more.")
        known = list(problems)
        if not known:
            return
        self.tell(known)
        engine = self._opened()
        ended: queue.SimpleQueue[Future[list[Rollout]]] = queue.SimpleQueue()
        underway: set[Future[list[Rollout]]] = set()

        def begin(request: RolloutRequest) -> None:
            work = engine.engine.run([request], evaluation=self.loaded is not None)
            future = engine.loop.submit(work)
            underway.add(future)
            future.add_done_callback(ended.put)

        most = _AHEAD * self.settings.rollout.rollout.concurrency
        waiting = iter(known)
        self._answering += 1
        try:
            while batch := list(islice(waiting, _WRITTEN_AT_ONCE)):
                self._write(batch, samples, begin)
                while underway and (len(underway) >= most or not ended.empty()):
                    yield self._next(ended, underway)
            while underway:
                yield self._next(ended, underway)
        finally:
            self._answering -= 1
            for future in underway:
                future.cancel()

    def too_long(self, problems: Sequence[Problem]) -> dict[str, int]:
        """The problems that the policy cannot be asked: id -> prompt tokens without any context."""
        if self.loaded is None:
            return {}
        return self.loaded.policy.too_long([problem.visible for problem in problems])

    def _next(
        self,
        ended: queue.SimpleQueue[Future[list[Rollout]]],
        underway: set[Future[list[Rollout]]],
    ) -> Solution:
        while True:
            raise_if_stopped()
            try:
                future = ended.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            break
        underway.discard(future)
        (rollout,) = future.result()
        self._guard.check([rollout])
        problem = rollout.problem
        own = {name.lower() for name in self.settings.rollout.scoring.scorers}
        made_up = rollout.execution.answered_by != "none" and not self.knows(problem)
        return Solution(
            rollout,
            gold_known=has_gold(problem) or problem.dataset.lower() in own,
            written_by=self.written_by(problem.domain),
            note=SIMULATED if made_up else "",
        )

    # Writing

    def _write(self, batch: Sequence[Problem], samples: int, begin: Any) -> None:
        """Workflows for a batch; each begins to run as soon as it is there."""
        group = max(samples, 1)
        asked = [(problem, member) for problem in batch for member in range(group)]
        seeds = [rollout_seed(self._seed, _RUN, 0, problem, member) for problem, member in asked]

        def take(b: int, completion: Completion) -> None:
            problem, member = asked[b]
            begin(RolloutRequest(problem, completion, seeds[b], group=0, member=member))

        if self.loaded is None:
            for b, (problem, _) in enumerate(asked):
                text = self._fixed_workflow(problem.domain)[0]
                take(b, Completion(text, (), (), (), finished=True))
            return
        long = self.too_long(batch)
        if long:
            name, tokens = next(iter(long.items()))
            raise DataError(
                f"problem {name!r} needs {tokens} prompt tokens, more than "
                "model.policy.sampling.max_prompt_tokens; shorten it, or raise the limit where the "
                "model has room."
            )
        visible = [problem.visible for problem in batch]
        self.loaded.policy.write(visible, seeds, greedy=samples == 0, on_written=take)

    def _fixed_workflow(self, domain: Domain) -> tuple[str, str]:
        """The fixed workflow of a domain as a policy would write it, and its name."""
        if domain not in self._fixed:
            self._fixed[domain] = fixed_workflow(self._workflow, domain)
        return self._fixed[domain]

    def written_by(self, domain: Domain) -> str:
        """What writes the workflows of a domain, for a person."""
        if self.loaded is None:
            return self._fixed_workflow(domain)[1]
        return f"{self.loaded.checkpoint}, iteration {self.loaded.state['iteration']}"

    # What is open

    def knows(self, problem: Problem) -> bool:
        """Whether the executor's answers mean something: it is real, or knows the problem."""
        return not self.simulated or problem.text in self._world

    def tell(self, problems: Iterable[Problem]) -> None:
        """Let the simulated executor know these problems, where a right answer is given.

        It is started anew for what it does not know yet; `solve_many` tells it of its own problems.
        """
        if not self.simulated:
            return
        before = self._world or _sample()
        new = {p.text: p for p in problems if p.answer.strip() and p.text not in before}
        if new and self._answering:
            raise ConfigError(
                f"problem {next(iter(new.values())).id!r} is new to the simulated executor, which "
                "would have to start anew while other problems are being answered. `tell` it of "
                "all problems first."
            )
        if new:
            self.close()
        self._world = {**before, **new}

    def _opened(self) -> OpenRun:
        if self._open is None:
            self._open = self._start()
        return self._open

    def _start(self) -> OpenRun:
        keys = self.settings.rollout
        parts = RunParts(
            llm=self.settings.llm,
            journal=self._journal,
            ranks=1,
            execution=keys.execution,
            interpreter=keys.interpreter,
            sandbox=keys.sandbox,
            reward=keys.reward,
            rollout=keys.rollout,
            scoring=keys.scoring,
            operators=self._operators,
            scorers=_WhereKnown,
        )
        opened = OpenRun()
        try:
            opened.start(parts, list(self._world.values()), None)
        except BaseException:
            opened.close()
            raise
        opened.join_run(_RUN, None)
        if opened.journal is None:  # else the journal knows what was paid before
            opened.budget.begin(self._spent_usd)
        return opened


def solve(
    problem: str | Problem,
    domain: str = "math",
    *,
    checkpoint: str | Path | None = None,
    workflow: str | Path | None = None,
    config: Sequence[str | Path] = (),
    settings: Mapping[str, Any] | None = None,
    **known: Any,
) -> Solution:
    """Answer one problem; see `Solver`, which is quicker for several, and `Solver.solve`.

    Example:
        >>> solve("What is 17 + 4?", gold="21").answer
        '21'
    """
    with Solver(checkpoint, workflow=workflow, config=config, settings=settings) as solver:
        return solver.solve(problem, domain, **known)


def _sample() -> dict[str, Problem]:
    """What the simulator of the first run knows."""
    load = partial(DataSource, "sample")
    splits = (load_source(load(split=split)) for split in _SAMPLE_SPLITS)  # type: ignore[arg-type]
    return {problem.text: problem for problems in splits for problem in problems}
