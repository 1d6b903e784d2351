"""Sampling and executing as one pipeline: chunks keep order, seeds and groups; real throughout."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from executed_world import written

from aflow_grpo.data.sources import DataSource
from aflow_grpo.errors import ConfigError, ExecutorError
from aflow_grpo.llm.client import ExecutorClient
from aflow_grpo.llm.settings import LLMSettings
from aflow_grpo.llm.simulator import SimulatorSettings
from aflow_grpo.policy import Policy, SamplingSettings
from aflow_grpo.policy.base import BasePolicy, OnWritten
from aflow_grpo.records import DOMAINS, Completion, Problem, Rollout, Usage, VisibleProblem
from aflow_grpo.rollout import rollout_seed
from aflow_grpo.training.collect import (
    Draw,
    collect,
    finish,
    restart,
    rollout_callback_of,
    start,
)
from aflow_grpo.training.datamodule import WorkflowDataModule
from aflow_grpo.training.rollout_callback import Overlap, RolloutCallback

DRAW = Draw(split="train", step=4, run_seed=9, group_size=3)


def trainer_with(root: Path, *callbacks: L.Callback) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu", logger=False, default_root_dir=root, callbacks=list(callbacks),
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def policy() -> Iterator[Policy]:
    threads = torch.get_num_threads()
    policy = Policy("tiny", sampling=SamplingSettings(max_new_tokens=200))
    policy.setup()
    torch.set_num_threads(1)
    yield policy.eval()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[L.Trainer]:
    """A trainer whose rollout callback is open on the simulator."""
    callback = RolloutCallback(LLMSettings(simulator=SimulatorSettings(), journal=False))
    trainer = trainer_with(tmp_path_factory.mktemp("run"), callback)
    data = WorkflowDataModule(val=[DataSource("sample", split="val")])
    data.setup("validate")
    trainer.datamodule = data
    callback.setup(trainer, L.LightningModule(), "fit")
    yield trainer
    callback.close()


def problems(trainer: L.Trainer) -> list[Problem]:
    """One problem of each domain."""
    every = trainer.datamodule.problems("val")  # type: ignore[attr-defined]
    return [next(p for p in every if p.domain == domain) for domain in DOMAINS]


def exact(rollouts: list[Rollout]) -> list[Rollout]:
    """The rollouts without times, and without log-probabilities, which rounding may change."""
    return [
        replace(
            r,
            completion=replace(r.completion, logprobs=()),
            execution=replace(
                r.execution,
                seconds=0.0,
                calls=tuple(replace(call, seconds=0.0) for call in r.execution.calls),
            ),
        )
        for r in rollouts
    ]


def test_chunks_change_neither_order_nor_content(policy: Policy, trainer: L.Trainer) -> None:
    three = problems(trainer)
    whole = collect(policy, trainer, three, DRAW)
    assert [(r.group, r.member) for r in whole.rollouts_B] == [
        (p, m) for p in range(3) for m in range(3)
    ]
    assert [r.problem for r in whole.rollouts_B] == [p for p in three for _ in range(3)]
    for chunk in (1, 6):  # one group at a time, and two
        parts = collect(policy, trainer, three, replace(DRAW, chunk=chunk))
        assert exact(parts.rollouts_B) == exact(whole.rollouts_B)
    assert whole.sample_s > 0 and whole.wait_s >= 0


class Noted:
    """What a watcher was told of one draw."""

    def __init__(self, split: str, workflows: int, executed: bool) -> None:
        self.began = (split, workflows, executed)
        self.told: list[str] = []
        self.rollouts: list[Rollout] = []

    def written(self) -> None:
        self.told.append("written")

    def ended(self, rollout: Rollout) -> None:
        self.told.append("ended")
        self.rollouts.append(rollout)

    def over(self) -> None:
        self.told.append("over")


@pytest.mark.parametrize("executed", [True, False])
def test_a_watcher_is_told_of_every_workflow_and_changes_none(
    policy: Policy, trainer: L.Trainer, executed: bool
) -> None:
    three, draw = problems(trainer), replace(DRAW, execute=executed)
    unwatched = collect(policy, trainer, three, draw)
    callback, noted = rollout_callback_of(trainer), list[Noted]()

    def watch(*began: Any) -> Noted:
        noted.append(Noted(*began))
        return noted[-1]

    callback.watcher = watch
    try:
        watched = collect(policy, trainer, three, draw)
    finally:
        callback.watcher = None
    (seen,) = noted
    assert exact(watched.rollouts_B) == exact(unwatched.rollouts_B)
    assert seen.began == ("train", 9, executed)
    assert seen.told.count("written") == 9 and seen.told[-1] == "over"
    assert seen.told.count("ended") == (9 if executed else 0)
    seen.rollouts.sort(key=lambda r: (r.group, r.member))
    assert seen.rollouts == (watched.rollouts_B if executed else [])


def test_what_was_written_before_is_told_of_too(policy: Policy, trainer: L.Trainer) -> None:
    """As when a run is continued."""
    three, callback, noted = problems(trainer), rollout_callback_of(trainer), list[Noted]()
    before = start(policy, trainer, three, DRAW)
    finish(before, trainer)
    callback.watcher = lambda *began: noted.append(Noted(*began)) or noted[-1]
    try:
        finish(restart(trainer, before.written, DRAW), trainer)
    finally:
        callback.watcher = None
    (seen,) = noted
    assert seen.began == ("train", 9, True)
    assert [seen.told.count(what) for what in ("written", "ended", "over")] == [9, 9, 1]


class Patient(BasePolicy):
    """Writes one workflow that asks the executor per problem, and waits after each for answers."""

    def __init__(self, client: ExecutorClient, patience_s: float) -> None:
        super().__init__()
        self._client = client
        self._patience_s = patience_s
        self.answered_meanwhile: list[bool] = []

    def describe(self) -> str:
        return "patient"

    def fingerprint(self) -> str:
        return "patient"

    def write(
        self,
        problems_P: Sequence[VisibleProblem],
        seeds_B: Sequence[int],
        *,
        greedy: bool = False,
        on_written: OnWritten | None = None,
    ) -> list[Completion]:
        assert on_written is not None
        asks = written("r = await self.custom(input=problem)", "return r['response'], COST")
        for b, _ in enumerate(seeds_B):
            before, until = self._client.usage.calls, time.monotonic() + self._patience_s
            on_written(b, asks)
            while self._client.usage.calls == before and time.monotonic() < until:
                threading.Event().wait(0.005)
            self.answered_meanwhile.append(self._client.usage.calls > before)
        return [asks] * len(seeds_B)


@pytest.mark.parametrize(("overlap", "patience_s"), [("none", 0.3), ("group", 30), ("step", 30)])
def test_a_workflow_runs_while_others_are_being_written(
    overlap: Overlap, patience_s: float, trainer: L.Trainer
) -> None:
    callback = rollout_callback_of(trainer)
    callback.overlap = overlap
    policy = Patient(callback.client, patience_s)
    draw = replace(DRAW, split=overlap, group_size=1)
    collected = collect(policy, trainer, problems(trainer), draw)
    callback.overlap = "group"
    assert policy.answered_meanwhile == [overlap != "none"] * 3
    assert [r.execution.usage.calls for r in collected.rollouts_B] == [1, 1, 1]
    assert [(r.group, r.member) for r in collected.rollouts_B] == [(0, 0), (1, 0), (2, 0)]


def test_a_bug_of_the_writer_leaves_nothing_running(trainer: L.Trainer) -> None:
    class Failing(Patient):
        def write(self, *arguments: Any, **options: Any) -> list[Completion]:
            super().write(*arguments, **options)
            raise ZeroDivisionError("a bug of ours")

    callback = rollout_callback_of(trainer)
    policy = Failing(callback.client, 0.0)
    with pytest.raises(ZeroDivisionError, match="a bug of ours"):
        collect(policy, trainer, problems(trainer), replace(DRAW, split="failing", group_size=1))
    again = collect(
        Patient(callback.client, 0.0), trainer, problems(trainer), replace(DRAW, group_size=1)
    )
    assert len(again.rollouts_B) == 3


def test_calls_on_their_way_are_cut_off_at_once(tmp_path: Path) -> None:
    settings = SimulatorSettings(latency_ms=1e6)
    callback = RolloutCallback(LLMSettings(simulator=settings, journal=False))
    trainer: Any = trainer_with(tmp_path, callback)
    trainer.datamodule = WorkflowDataModule(val=[DataSource("sample", split="val")])
    trainer.datamodule.setup("validate")
    callback.setup(trainer, L.LightningModule(), "fit")
    try:
        started = start(
            Patient(callback.client, 0.0),
            trainer,
            problems(trainer),
            replace(DRAW, group_size=1),
        )
        assert started.running is not None
        began = time.monotonic()
        callback.cancel_calls()
        with pytest.raises(CancelledError):
            started.running.result()
    finally:
        callback.close()
    assert time.monotonic() - began < 2


def test_a_draw_is_that_of_its_seeds(policy: Policy, trainer: L.Trainer) -> None:
    three = problems(trainer)
    rollouts = collect(policy, trainer, three, replace(DRAW, execute=False)).rollouts_B
    seeds = [rollout_seed(9, "train", 4, p, m) for p in three for m in range(3)]
    prompts = [policy.encode(p.visible) for p in three for _ in range(3)]
    assert [r.completion for r in rollouts] == policy.sample(prompts, seeds)
    for other in ({"step": 5}, {"run_seed": 10}):
        drawn = collect(policy, trainer, three, replace(DRAW, execute=False, **other)).rollouts_B
        assert [r.completion.text for r in drawn] != [r.completion.text for r in rollouts]


def test_a_structural_check_asks_nobody(policy: Policy, trainer: L.Trainer) -> None:
    client = rollout_callback_of(trainer).client
    before = client.usage
    draw = replace(DRAW, group_size=1, greedy=True, execute=False)
    rollouts = collect(policy, trainer, problems(trainer), draw).rollouts_B
    assert client.usage == before
    assert all(r.execution.answer is None for r in rollouts)
    again = collect(policy, trainer, problems(trainer), replace(draw, run_seed=77)).rollouts_B
    assert rollouts == again, "greedy decoding knows no seed"


@pytest.mark.parametrize("evaluation", [False, True])
def test_the_fallback_answers_in_evaluations_only(
    policy: Policy, trainer: L.Trainer, evaluation: bool
) -> None:
    draw = replace(DRAW, evaluation=evaluation)
    rollouts = collect(policy, trainer, problems(trainer), draw).rollouts_B
    failed = [r for r in rollouts if not r.execution.direct and r.execution.answer is None]
    assert failed, "the untrained policy writes workflows that do not run"
    assert all((r.execution.fallback_usage != Usage()) == evaluation for r in failed)


def test_a_trainer_without_rollout_callback_is_told_what_to_add(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Add one: Trainer\(callbacks=\[RolloutCallback"):
        rollout_callback_of(trainer_with(tmp_path))


def test_without_tiers_the_executor_is_openai_and_wants_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    callback = RolloutCallback()
    trainer: Any = trainer_with(tmp_path, callback)
    trainer.datamodule = WorkflowDataModule()
    with pytest.raises(ExecutorError, match=r"OPENAI_API_KEY: not set"):
        callback.setup(trainer, L.LightningModule(), "fit")
    with pytest.raises(RuntimeError, match="before its setup or after its teardown"):
        callback.client  # noqa: B018
