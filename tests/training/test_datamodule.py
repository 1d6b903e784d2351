"""The datamodule under a real Trainer: what is loaded, what a batch is, where batches begin."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch

from aflow_grpo.data.jsonl import write_problems
from aflow_grpo.data.sampler import DomainMix
from aflow_grpo.data.sources import DataSource, load_source
from aflow_grpo.errors import ConfigError, DataError
from aflow_grpo.records import Problem
from aflow_grpo.training.datamodule import WorkflowDataModule

# Problems are text: a worker process would only cost time.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning"),
]

TRAIN = [DataSource("sample", split="train", limit=60)]
VAL = [DataSource("sample", split="val")]


class Recorder(L.LightningModule):
    """Counts iterations as GRPOModule does, and keeps the ids of what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.iteration = 0
        self.trained: list[list[str]] = []
        self.judged: list[Problem] = []
        self.sizes: list[int] = []

    def training_step(self, batch: list[Problem], batch_idx: int) -> torch.Tensor:
        self.trained.append([problem.id for problem in batch])
        self.iteration += 1
        return self.weight.sum()

    def validation_step(self, batch: list[Problem], batch_idx: int) -> None:
        self.judged += batch
        self.sizes.append(len(batch))

    test_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["iteration"] = self.iteration

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.iteration = checkpoint["iteration"]


@pytest.fixture(autouse=True)
def _quiet_lightning() -> Iterator[None]:
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


def trainer(root: Path, max_steps: int = 2, **changes: Any) -> L.Trainer:
    settings: dict[str, Any] = {
        "limit_val_batches": 0, "check_val_every_n_epoch": None, "val_check_interval": 1, **changes
    }  # fmt: skip
    return L.Trainer(
        max_steps=max_steps, accelerator="cpu", logger=False, default_root_dir=root,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, **settings,
    )  # fmt: skip


def data(**changes: Any) -> WorkflowDataModule:
    settings: dict[str, Any] = {"train": TRAIN, "val": VAL, "batch_size": 10, "seed": 3}
    return WorkflowDataModule(**{**settings, **changes})


# Setting up


@pytest.mark.parametrize(
    ("stage", "sources", "message"),
    [
        ("fit", {"val": VAL}, r"data\.train names no problems, but `fit` needs some"),
        ("validate", {"train": TRAIN}, r"data\.val names no problems, but `validate` needs"),
        ("test", {"val": VAL}, r"data\.test: \[\{dataset: sample, split: test\}\]"),
    ],
)
def test_a_missing_set_is_named_with_what_to_do(
    stage: str, sources: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        WorkflowDataModule(**sources).setup(stage)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    missing = DataSource("jsonl", path=str(tmp_path / "no.jsonl"))
    with pytest.raises(DataError, match=r"no\.jsonl.*no such file"):
        data(train=[missing]).setup("fit")


def test_doubled_ids_are_named(tmp_path: Path) -> None:
    path = tmp_path / "again.jsonl"
    write_problems(path, load_source(DataSource("sample", split="train", limit=2)))
    twice = [*TRAIN, DataSource("jsonl", path=str(path))]
    with pytest.raises(DataError, match=r"again\.jsonl: id 'sample/.*' is also in an earlier"):
        data(train=twice).setup("fit")


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"eval_batch_size": 0}, {"quick_val_size": -1}]
)
def test_nonsense_is_refused_by_name(wrong: dict[str, int]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ConfigError, match=rf"data\.{name}={value}: expected at least"):
        data(**wrong)


def test_a_mix_of_a_domain_that_the_data_lack_is_refused(tmp_path: Path) -> None:
    only_math = tmp_path / "math.jsonl"
    math = [p for p in load_source(TRAIN[0]) if p.domain == "math"]
    write_problems(only_math, math)
    module = data(train=[DataSource("jsonl", path=str(only_math))])
    with pytest.raises(ConfigError, match=r"mix\.code is 0\.3, but the data hold no code"):
        trainer(tmp_path).fit(Recorder(), datamodule=module)


def test_each_stage_loads_what_it_needs_and_only_once() -> None:
    module = data(test=[DataSource("sample", split="test", limit=3)])
    module.setup("test")
    assert (len(module.problems("test")), len(module.problems("val"))) == (3, 0)
    module.setup("fit")
    first = module.problems("val")
    module.setup("fit")
    assert module.problems("val") is first
    counts = Counter(problem.id.split("/")[1] for problem in module.all_problems())
    assert counts == {"train": 60, "val": 100, "test": 3}


@pytest.mark.filterwarnings("ignore:Total length of .* is zero")
def test_fit_needs_no_validation_set(tmp_path: Path) -> None:
    recorder = Recorder()
    run = trainer(tmp_path, limit_val_batches=1.0, val_check_interval=2)
    run.fit(recorder, datamodule=data(val=[]))
    assert recorder.iteration == 2 and recorder.judged == []


# Leaving out


def test_what_is_left_out_is_in_no_batch_but_known_to_the_simulator(tmp_path: Path) -> None:
    module = data(quick_val_size=1000, eval_batch_size=100)
    module.setup("fit")
    every = {split: list(module.problems(split)) for split in ("train", "val")}
    short = {s: {p.id for p in every[s][::2]} for s in every}
    for split in every:
        module.leave_out(split, {p.id for p in every[split]} - short[split])
        assert {p.id for p in module.problems(split)} == short[split]
        assert module.left_out_count(split) == len(every[split]) - len(short[split]) > 0
    assert module.left_out_count("test") == 0
    assert module.all_problems() == every["train"] + every["val"]
    recorder = Recorder()
    trainer(tmp_path, limit_val_batches=1.0, max_steps=6).fit(recorder, datamodule=module)
    assert {name for batch in recorder.trained for name in batch} == short["train"]
    assert {p.id for p in recorder.judged} == short["val"]


def test_a_split_of_which_nothing_is_left_is_named() -> None:
    module = data()
    module.setup("fit")
    wanted = r"data\.val: data\.skip_too_long leaves out all 100 problems\. Raise"
    with pytest.raises(DataError, match=wanted):
        module.leave_out("val", {p.id for p in module.problems("val")})


def test_a_domain_of_which_nothing_is_left_is_named(tmp_path: Path) -> None:
    module = data()
    module.setup("fit")
    module.leave_out("train", {p.id for p in module.problems("train") if p.domain == "code"})
    with pytest.raises(ConfigError, match=r"mix\.code is 0\.3, but the data hold no code"):
        trainer(tmp_path).fit(Recorder(), datamodule=module)


# Batches


def test_training_batches_have_the_mix_and_never_end(tmp_path: Path) -> None:
    recorder = Recorder()
    trainer(tmp_path, max_steps=15).fit(
        recorder, datamodule=data(mix=DomainMix(0.5, 0.3, 0.2), seed=1)
    )
    domains = {problem.id: problem.domain for problem in load_source(TRAIN[0])}
    assert len(recorder.trained) == 15, "60 problems are six batches, then a new round begins"
    for batch in recorder.trained:
        assert Counter(domains[name] for name in batch) == {"math": 5, "code": 3, "qa": 2}


def test_validation_inside_fit_takes_a_stratified_subset(tmp_path: Path) -> None:
    recorder = Recorder()
    run = trainer(tmp_path, limit_val_batches=1.0)
    run.fit(recorder, datamodule=data(quick_val_size=10, eval_batch_size=4))
    every = load_source(VAL[0])
    share = Counter(problem.domain for problem in every)
    first, second = recorder.judged[:10], recorder.judged[10:]
    assert first == second and len({problem.id for problem in first}) == 10
    quick = Counter(problem.domain for problem in first)
    assert all(abs(quick[domain] - share[domain] / 10) < 1 for domain in share)
    assert recorder.sizes == [4, 4, 2] * 2
    assert first == [problem for problem in every if problem in first], "the file's order"


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_validate_and_test_take_every_problem_once_in_order(tmp_path: Path, verb: str) -> None:
    recorder = Recorder()
    module = data(test=VAL, eval_batch_size=30, quick_val_size=10)
    run = trainer(tmp_path, limit_val_batches=1.0)
    getattr(run, verb)(recorder, datamodule=module, verbose=False)
    assert recorder.judged == load_source(VAL[0])
    assert recorder.sizes == [30, 30, 30, 10]


# Position


def trained(root: Path, module: WorkflowDataModule, steps: int, start: int = 0) -> Any:
    recorder = Recorder()
    recorder.iteration = start
    trainer(root, max_steps=steps).fit(recorder, datamodule=module)
    return recorder.trained


def test_batches_begin_at_the_modules_iteration(tmp_path: Path) -> None:
    whole = trained(tmp_path, data(), 5)
    assert trained(tmp_path, data(), 3, start=2) == whole[2:]
    assert trained(tmp_path, data(seed=4), 3) != whole[:3]


def test_a_resumed_run_draws_what_the_uninterrupted_one_would_have(tmp_path: Path) -> None:
    whole = trained(tmp_path, data(), 5)
    first = trainer(tmp_path, max_steps=2)
    first.fit(Recorder(), datamodule=data())
    first.save_checkpoint(tmp_path / "two.ckpt")
    resumed = Recorder()
    run = trainer(tmp_path, max_steps=5)
    run.fit(resumed, datamodule=data(), ckpt_path=tmp_path / "two.ckpt", weights_only=True)
    assert resumed.trained == whole[2:]


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 4},
        {"batch_size": 5},
        {"mix": DomainMix(0.2, 0.4, 0.4)},
        {"train": [DataSource("sample", split="train", limit=59)]},
    ],
    ids=["seed", "batch size", "mix", "problems"],
)
def test_a_checkpoint_of_other_data_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    first = trainer(tmp_path, max_steps=1)
    first.fit(Recorder(), datamodule=data())
    first.save_checkpoint(tmp_path / "one.ckpt")
    run = trainer(tmp_path, max_steps=2)
    with pytest.raises(ConfigError, match="The checkpoint's sampler drew from other data"):
        run.fit(
            Recorder(),
            datamodule=data(**changes),
            ckpt_path=tmp_path / "one.ckpt",
            weights_only=True,
        )


def test_the_ranks_parts_are_the_batch_that_one_process_draws() -> None:
    """One after the other, at any position, whatever the number of ranks."""
    data = WorkflowDataModule(train=TRAIN, batch_size=6)
    data.setup("fit")
    whole = data.train_batch(4, all_ranks=True)
    assert len({p.id for p in whole}) > 1
    for count in (1, 2, 3, 6):
        parts = []
        for rank in range(count):
            data.trainer = SimpleNamespace(global_rank=rank, world_size=count)  # type: ignore[assignment]
            parts += data.train_batch(4)
        assert parts == whole
    with pytest.raises(ConfigError, match=r"data.batch_size=6: expected a multiple of the 4 ranks"):
        data.check_ranks(4)
