"""Executes workflows that no policy wrote: fixed ones, a search's, a router's choices.

They run by the same path as a policy's: parsed, validated, interpreted, scored, rewarded, on the
same executor. Every execution is paid for by its list cost, also when an equal one ran before. Not
here: which workflows (`searching`, `baselines`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from aflow_grpo.operators.registry import load_operators
from aflow_grpo.records import Completion, Problem, Rollout, WorkflowSource
from aflow_grpo.rollout import RolloutRequest, rollout_seed
from aflow_grpo.training.interrupts import deferred_interrupt, raise_if_stopped
from aflow_grpo.training.open_run import OpenRun, RunParts
from aflow_grpo.workbench.executor_settings import read_executor_settings

__all__ = ["Arena", "Bout", "workflow_text"]

_RUN = "arena"
_AT_ONCE = 512


class Bout(NamedTuple):
    """One execution to be made."""

    problem: Problem
    text: str
    """The workflow, in any form that a policy may write."""
    repeat: int = 0
    """Names the execution: the same one again gets the same replies."""


def workflow_text(source: WorkflowSource) -> str:
    """A workflow as a policy writes it."""
    return json.dumps({"prompts": dict(source.prompts), "graph_code": source.graph_code})


class Arena:
    """An open executor; closed by `with`.

    Args:
        problems: Everything that will be executed on: the simulator is told of them.
        configs: YAML layers as for `fit`; of them `llm` and `rollout` count.
        settings: Single settings above them.
        seed: Part of every execution's seed.

    Raises:
        ConfigError: A setting is wrong.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        *,
        configs: Sequence[str | Path] = (),
        settings: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        wanted = {
            k: v for k, v in (settings or {}).items() if k.split(".")[0] in ("llm", "rollout")
        }
        self.settings = read_executor_settings(configs, overrides=wanted)
        self._problems = list(problems)
        self._seed = seed
        self._open = OpenRun()

    def __enter__(self) -> Self:
        keys = self.settings.rollout
        parts = RunParts(
            llm=self.settings.llm,
            journal=None,
            ranks=1,
            execution=keys.execution,
            interpreter=keys.interpreter,
            sandbox=keys.sandbox,
            reward=keys.reward,
            rollout=keys.rollout,
            scoring=keys.scoring,
            operators=load_operators(keys.operators),
        )
        try:
            self._open.start(parts, self._problems, None)
        except BaseException:
            self._open.close()
            raise
        self._open.join_run(_RUN, None)
        self._open.budget.begin(0.0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with deferred_interrupt():
            self._open.loop.cancel_all()
            self._open.close()

    def run(self, bouts: Sequence[Bout]) -> list[Rollout]:
        """Execute all, and return their rollouts in the same order.

        A workflow that does not run is a rollout like any other, with the reward that it earns.
        """
        requests = [
            RolloutRequest(
                bout.problem,
                Completion(bout.text, (), (), (), finished=True),
                rollout_seed(self._seed, _RUN, bout.repeat, bout.problem, 0),
                group=number,
                member=bout.repeat,
            )
            for number, bout in enumerate(bouts)
        ]
        rollouts: list[Rollout] = []
        for first in range(0, len(requests), _AT_ONCE):  # a batch has a deadline
            batch = self._open.engine.run(requests[first : first + _AT_ONCE])
            rollouts += self._open.loop.run(batch, poll=raise_if_stopped)
        return rollouts
