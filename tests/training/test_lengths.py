"""Lengths: too long a problem never surprises a run; cut is a status; what is drawn adds up."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import lightning as L
import pytest
import torch
from executed_world import QA, closed_port_tier, opened, written
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.loggers import CSVLogger
from made_rollouts import rollout
from trainer_runs import (
    INTERRUPTED,
    assert_equal_checkpoints,
    metrics_of,
    new_root,
    run_ids,
    run_verb,
    write_settings,
)

from aflow_grpo.assets import shipped_path
from aflow_grpo.data.jsonl import read_problems, write_problems
from aflow_grpo.data.sources import DataSource
from aflow_grpo.execution import inspect_completion
from aflow_grpo.policy import Policy, SamplingSettings
from aflow_grpo.records import (
    DOMAINS,
    Completion,
    Execution,
    FaultKind,
    Rollout,
    Score,
    Status,
    Usage,
)
from aflow_grpo.rewards import RewardSettings, compute_reward
from aflow_grpo.training.datamodule import WorkflowDataModule
from aflow_grpo.training.lengths import (
    TokenLimits,
    check_lengths,
    histograms,
    left_out_metrics,
    log_lengths,
)

PNG = b"\x89PNG\r\n\x1a\n"


# Cut completions


@pytest.fixture(scope="module")
def policy() -> Iterator[Policy]:
    threads = torch.get_num_threads()
    yield tiny(384)
    torch.set_num_threads(threads)


def tiny(max_new_tokens: int) -> Policy:
    """The shipped policy with this limit."""
    policy = Policy("tiny", sampling=SamplingSettings(max_new_tokens=max_new_tokens))
    policy.setup()
    return policy.eval()


def test_a_completion_at_its_limit_is_cut_even_when_its_text_is_a_whole_workflow(
    policy: Policy,
) -> None:
    problems = read_problems(shipped_path("data/sample/val.jsonl"))[:40]
    prompts = [policy.encode(problem.visible) for problem in problems]
    completions = policy.sample(prompts, range(len(prompts)))
    valid = [
        at
        for at, problem in enumerate(problems)
        if inspect_completion(completions[at], problem.visible).status is Status.OK
    ]
    at, problem = valid[0], problems[valid[0]]
    tokens = len(completions[at].token_ids)

    (cut,) = tiny(tokens - 1).sample([prompts[at]], [at])
    assert cut.text == completions[at].text and not cut.finished, "all but the end token"
    execution = inspect_completion(cut, problem.visible)
    assert (execution.status, execution.fault_kind) == (Status.CUT, FaultKind.LENGTH_LIMIT)
    assert execution.source is not None and not execution.direct
    reward = compute_reward(problem, cut, execution, Score(1.0, True), RewardSettings())
    assert reward.total < -9 and reward.correctness == 0

    (exact,) = tiny(tokens).sample([prompts[at]], [at])
    assert exact.finished and exact.token_ids == completions[at].token_ids


# Contexts


def test_the_workflow_gets_the_whole_context_of_which_the_policy_saw_a_part(policy: Policy) -> None:
    problem = replace(QA[0], context="\n".join(f"Town {n} is by the sea." for n in range(400)))
    prompt = policy.encode(problem.visible)
    assert prompt.context_cut
    asked = policy.tokenizer.decode(prompt.ids)
    assert problem.question in asked and "Town 399 is by the sea." not in asked
    (completion,) = policy.sample([prompt], [0])
    assert completion.context_cut and completion.prompt_ids == prompt.ids

    async def run() -> Execution:
        async with opened(closed_port_tier()) as world:
            wanted = written("return problem, COST")
            return await world.executor.execute(wanted, problem.visible, seed=0, fallback=False)

    execution = asyncio.run(run())
    assert execution.status is Status.OK
    assert execution.answer == problem.text and problem.context in problem.text


# Histograms


def counted(prompt: int, completion: int, executor: int = 0) -> Rollout:
    """A rollout of these lengths."""
    written = Completion("{}", (1,) * prompt, (2,) * completion, (-1.0,) * completion, True)
    usage = Usage(prompt_tokens=executor - executor // 3, completion_tokens=executor // 3)
    return rollout(completion=written, usage=usage)


def test_worked_bins() -> None:
    rollouts = [counted(0, 1, 7), counted(19, 2, 7), counted(20, 3, 7), counted(640, 4, 100)]
    drawn = histograms(rollouts, TokenLimits(640, 32))
    prompts, completions = drawn["prompt_tokens"], drawn["completion_tokens"]
    assert prompts.edges == tuple(range(0, 641, 20)) and prompts.limit == 640
    assert prompts.counts == (2, 1, *[0] * 29, 1)
    assert completions.edges == tuple(range(33))
    assert completions.counts[:6] == (0, 1, 1, 1, 1, 0)
    executor = drawn["executor_tokens"]
    assert executor.limit is None and executor.edges[:3] == (0, 4, 8)
    assert executor.counts[1] == 3 and executor.counts[-1] == 1


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=40), st.none() | st.integers(1, 4096))
def test_every_value_is_in_its_bin(values: list[int], limit: int | None) -> None:
    drawn = histograms([counted(value, 0) for value in values], TokenLimits(limit))
    histogram = drawn["prompt_tokens"]
    edges, counts = histogram.edges, histogram.counts
    assert len(edges) == len(counts) + 1 <= 33 and edges[0] == 0
    assert edges[-1] >= max(limit or 0, *values)
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        last = high == edges[-1]
        assert count == sum(low <= v < high or (last and v == high) for v in values)


def test_a_logger_that_is_not_mlflow_gets_no_files(tmp_path: Path) -> None:
    log_lengths(CSVLogger(tmp_path), [counted(1, 1)], TokenLimits(), "val", 0)
    log_lengths(None, [counted(1, 1)], TokenLimits(), "val", 0)
    assert list(tmp_path.rglob("*")) == []


# Runs


QUESTION = "How many pens are in all of these boxes together? " * 60
CONTEXT = "The choir sang in the old hall until late. " * 200


def settings_with_long_problems(folder: Path) -> Path:
    """A tiny run on seven problems: one has a long question, each of qa has a long context."""
    settings = write_settings(folder, trainer__max_steps=2, data__batch_size=5)
    path = folder / "problems.jsonl"
    problems = [
        replace(p, context=f"{p.context}\n{CONTEXT}") if p.domain == "qa" else p
        for p in read_problems(path)
    ]
    problems.append(replace(problems[0], id="sample/too-long", question=QUESTION))
    write_problems(path, problems)
    return settings


def train_on(settings: Path) -> str:
    """A flag that trains on the problems to validate on."""
    path = settings.with_name("problems.jsonl")
    return f"--data.train=[{{dataset: jsonl, path: {path}}}]"


def test_a_question_that_is_too_long_ends_the_run_before_anything_is_paid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_with_long_problems(tmp_path)
    root = new_root(tmp_path / "run")
    directory = f"--trainer.default_root_dir={root}"
    assert run_verb("fit", f"--config={settings}", train_on(settings), directory) == 2
    error = capsys.readouterr().err
    assert "max_prompt_tokens=640 is too short for 1 of 7 train problems, 1 of 7 val" in error
    assert "The longest, sample/too-long, needs 1,264." in error
    assert "data.skip_too_long: true" in error and "Traceback" not in error
    with sqlite3.connect(root / "journal.db") as journal:
        assert journal.execute("select count(*) from calls").fetchall() == [(0,)]


def test_each_split_says_once_what_it_leaves_out(
    policy: Policy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings_with_long_problems(tmp_path)
    source = [DataSource("jsonl", path=str(tmp_path / "problems.jsonl"))]
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    data = WorkflowDataModule(train=source, val=source, skip_too_long=True)
    data.setup("fit")
    trainer.datamodule = data  # type: ignore[attr-defined]
    for _ in range(2):
        check_lengths(policy, trainer)
    said = [record.getMessage() for record in caplog.records if "lengths" in record.name]
    assert [line.partition(", longer than")[0] for line in said] == [
        "Left out by data.skip_too_long: 1 of 7 train problems",
        "Left out by data.skip_too_long: 1 of 7 val problems",
    ]
    assert left_out_metrics(trainer, "val") == {"val/length/skipped_problems": 1.0}
    data.skip_too_long = False
    assert left_out_metrics(trainer, "val") == {}


@pytest.fixture(scope="module")
def skipping(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two fits that leave out what is too long, one of them interrupted and continued."""
    folder = tmp_path_factory.mktemp("skipping")
    settings = settings_with_long_problems(folder)
    straight, stopped = new_root(folder / "straight"), new_root(folder / "stopped")

    def fit(root: Path, *more: str) -> int:
        return run_verb(
            "fit", f"--config={settings}", train_on(settings), "--data.skip_too_long=true",
            f"--trainer.default_root_dir={root}", *more,
        )  # fmt: skip

    assert fit(straight) == 0
    at_one = "{class_path: trainer_runs.Interrupt, init_args: {iteration: 1, moment: between}}"
    assert fit(stopped, f"--trainer.callbacks=[{at_one}]") == INTERRUPTED
    assert fit(stopped, "--ckpt_path=last") == 0
    return straight, stopped


def test_what_is_left_out_is_counted_and_a_resumed_run_still_ends_the_same(
    skipping: tuple[Path, Path],
) -> None:
    straight, stopped = skipping
    assert_equal_checkpoints(stopped, straight)
    logged = metrics_of(straight)
    assert metrics_of(stopped) == logged
    for step in (1, 2):
        assert logged["train/length/skipped_problems", step] == 1
    assert logged["val/length/skipped_problems", 2] == 1
    assert logged["val/length/context_cut", 2] == pytest.approx(1 / len(DOMAINS))
    assert logged["val/length/prompt_tokens.max", 2] in range(620, 641)


def test_histograms_are_drawn_at_the_end_of_training_and_of_full_evaluations(
    skipping: tuple[Path, Path],
) -> None:
    for root in skipping:
        (folder,) = (root / "artifacts").glob(f"{run_ids(root)[-1]}/**/lengths")
        names = {path.name for path in folder.iterdir()}
        assert names == {
            f"{split}_000002.{kind}" for split in ("train", "val") for kind in ("png", "json")
        }
        assert all(path.read_bytes().startswith(PNG) for path in folder.glob("*.png"))
        drawn = json.loads((folder / "train_000002.json").read_text())
        assert drawn["rollouts"] == 5 * 4
        for name, limit in (("prompt_tokens", 640), ("completion_tokens", 90)):
            assert sum(drawn[name]["counts"]) == 20 and drawn[name]["limit"] == limit
