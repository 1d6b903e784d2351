"""The LightningDataModule: problem sets and the proportional training batches.

A batch is a list of `Problem`. Training batches are endless and a pure function of (seed, index);
the index is the module's count of completed iterations, so that a resumed run continues with
exactly the batch that an interrupted one did not finish. Every rank has all problems: its training
batch is its part of the batch of all ranks, an evaluation's batch is whole and is shared out when
it is drawn (`shares`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, cast

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader, Dataset

from aflow_grpo.data.sampler import DomainMix, ProportionalSampler, stratified
from aflow_grpo.data.sources import DataSource, Loaded, read_sources
from aflow_grpo.errors import ConfigError, DataError
from aflow_grpo.records import Domain, Problem
from aflow_grpo.training.ranks import Ranks

__all__ = ["WorkflowDataModule"]

_ENDLESS = 1_000_000_000
"""Lightning needs a length to restore positions; `trainer.max_steps` ends training."""

_SPLITS: Mapping[TrainerFn, tuple[str, ...]] = {
    TrainerFn.FITTING: ("train", "val"),
    TrainerFn.VALIDATING: ("val",),
    TrainerFn.TESTING: ("test",),
    TrainerFn.PREDICTING: ("predict",),
}
"""What each stage needs."""


class _TrainBatches:
    """Endless proportional batches, starting at the module's iteration."""

    def __init__(self, sampler: ProportionalSampler, module: Any) -> None:
        self._sampler = sampler
        self._module = module

    def __len__(self) -> int:
        return _ENDLESS

    def __iter__(self) -> Iterator[list[Problem]]:
        here = self._sampler.state_dict()
        self._sampler.load_state_dict({**here, "next_batch": self._module.iteration})
        while True:
            yield self._sampler.next_batch()

    def state_dict(self) -> dict[str, int]:
        """What the sequence of batches is; the position in it is the module's iteration."""
        return self._sampler.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Check that the checkpoint's iteration means a position in the same sequence."""
        self._sampler.load_state_dict(state)


class WorkflowDataModule(L.LightningDataModule):
    """Problems for fit, validate, test and predict.

    Args:
        train: Sets to train on, mixed by `mix`.
        val: Sets to validate on.
        test: Sets to test on.
        predict: Sets that `predict` answers; none means those of `test`.
        mix: Share of each domain in the training batches.
        batch_size: Problems per training batch.
        quick_val_size: Size of the stratified subset that validation in the middle of `fit` uses.
        eval_batch_size: Problems per validation or test batch.
        skip_too_long: Leave out the problems whose prompt does not fit into the policy even without
            any context; otherwise they end the run before it starts.
        seed: The run's seed (`seed_everything` on the command line).
    """

    def __init__(
        self,
        train: Sequence[DataSource] = (),
        val: Sequence[DataSource] = (),
        test: Sequence[DataSource] = (),
        predict: Sequence[DataSource] = (),
        mix: DomainMix = DomainMix(),
        batch_size: int = 8,
        quick_val_size: int = 50,
        eval_batch_size: int = 50,
        skip_too_long: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if value < 1:
                raise ConfigError(f"data.{name}={value}: expected at least 1.")
        if quick_val_size < 0:
            raise ConfigError(f"data.quick_val_size={quick_val_size}: expected at least 0.")
        self._sources: dict[str, list[DataSource]] = {
            "train": list(train),
            "val": list(val),
            "test": list(test),
            "predict": list(predict or test),
        }
        self._mix = mix
        self._batch_size = batch_size
        self._quick_val_size = quick_val_size
        self._eval_batch_size = eval_batch_size
        self.skip_too_long = skip_too_long
        self._seed = seed
        self._loaded: dict[str, list[Problem]] = {}
        self._bad_rows: dict[str, int] = {}
        self._left_out: dict[str, set[str]] = {}
        self._batches_by_index: ProportionalSampler | None = None

    def setup(self, stage: str) -> None:
        """Read the sets that the stage needs.

        Raises:
            DataError: A file is missing or malformed, or a needed set is empty.
        """
        with self._ranks.together():
            self._load(stage)

    def _load(self, stage: str) -> None:
        needed = _SPLITS[TrainerFn(stage)]
        for split in needed:
            if split not in self._loaded:
                loaded = self._read(split)
                self._loaded[split] = loaded.problems
                self._bad_rows[split] = len(loaded.bad_rows)
        for split in needed:
            if not self._loaded[split] and (split == "train" or stage != "fit"):
                raise DataError(
                    f"data.{split} names no problems, but `{TrainerFn(stage).value}` needs some. "
                    f"Add a source, e.g. data.{split}: [{{dataset: sample, split: "
                    f"{'test' if split == 'predict' else split}}}]."
                )
        if stage == "fit":
            self._sampler(self._ranks)  # complains before the run begins

    def problems(self, split: str) -> Sequence[Problem]:
        """The problems of ``train``, ``val``, ``test`` or ``predict``; those of this stage only."""
        left_out = self._left_out.get(split)
        loaded = self._loaded.get(split, [])
        return [p for p in loaded if p.id not in left_out] if left_out else loaded

    def leave_out(self, split: str, ids: Collection[str]) -> None:
        """Work without these problems of `split` from now on.

        Raises:
            DataError: None would be left.
        """
        self._left_out.setdefault(split, set()).update(ids)
        self._batches_by_index = None
        if not self.problems(split):
            raise DataError(
                f"data.{split}: data.skip_too_long leaves out all {len(self._loaded[split])} "
                "problems. Raise model.policy.sampling.max_prompt_tokens, or add shorter ones."
            )

    def trains(self, domain: Domain) -> bool:
        """Whether `mix` gives the domain a share of the training batches."""
        return self._mix.share(domain) > 0

    def left_out_count(self, split: str) -> int:
        """How many problems of `split` were left out."""
        return len(self._left_out.get(split, ()))

    def bad_row_count(self, split: str) -> int:
        """How many rows of the files of `split` were skipped (`on_bad_row: skip`)."""
        return self._bad_rows.get(split, 0)

    def all_problems(self) -> list[Problem]:
        """Every loaded problem, those left out included, e.g. for the simulator."""
        return [problem for problems in self._loaded.values() for problem in problems]

    def train_dataloader(self) -> _TrainBatches:
        """Endless batches of `batch_size` problems in the proportions of `mix`: this rank's part.

        The parts of all ranks, one after the other, are the batch that one process would draw.
        """
        assert self.trainer is not None
        return _TrainBatches(self._sampler(self._ranks), self.trainer.lightning_module)

    def train_batch(self, index: int, *, all_ranks: bool = False) -> list[Problem]:
        """The training batch of iteration `index`: this process's slice of it, or all of it."""
        if self._batches_by_index is None:
            self._batches_by_index = self._sampler()
        sampler = self._batches_by_index
        sampler.load_state_dict({**sampler.state_dict(), "next_batch": index})
        batch = sampler.next_batch()
        if all_ranks:
            return batch
        assert self.trainer is not None
        rank, ranks = self.trainer.global_rank, self.trainer.world_size
        return batch[rank * len(batch) // ranks : (rank + 1) * len(batch) // ranks]

    def val_dataloader(self) -> DataLoader[Any]:
        """The whole validation set for `validate`, its quick stratified subset inside `fit`."""
        problems = self.problems("val")
        assert self.trainer is not None
        if self.trainer.state.fn is TrainerFn.FITTING:
            problems = stratified(problems, self._quick_val_size, seed=self._seed)
        return self._batches(problems)

    def test_dataloader(self) -> DataLoader[Any]:
        """The whole test set."""
        return self._batches(self.problems("test"))

    def predict_dataloader(self) -> DataLoader[Any]:
        """Every problem that is to be answered."""
        return self._batches(self.problems("predict"))

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """Problems are text and stay where they are."""
        return batch

    def check_ranks(self, world_size: int) -> None:
        """Refuse batches that cannot be shared out equally.

        Raises:
            ConfigError: `batch_size` is no multiple of `world_size`.
        """
        if self._batch_size % world_size:
            more = -(-self._batch_size // world_size) * world_size
            raise ConfigError(
                f"data.batch_size={self._batch_size}: expected a multiple of the {world_size} "
                f"ranks (trainer.devices x trainer.num_nodes), e.g. {more}. A rank draws whole "
                "groups, so each needs as many problems."
            )

    @property
    def _ranks(self) -> Ranks:
        return Ranks() if self.trainer is None else Ranks.of(self.trainer)

    def _sampler(self, ranks: Ranks | None = None) -> ProportionalSampler:
        """Of the part of `ranks.rank`, or of whole batches."""
        ranks = ranks or Ranks()
        self.check_ranks(ranks.world_size)
        return ProportionalSampler(
            self.problems("train"),
            self._mix,
            batch_size=self._batch_size,
            seed=self._seed,
            rank=ranks.rank,
            world_size=ranks.world_size,
        )

    def _read(self, split: str) -> Loaded:
        return read_sources(self._sources[split])

    def _batches(self, problems: Sequence[Problem]) -> DataLoader[Any]:
        return DataLoader(
            cast("Dataset[Problem]", problems), batch_size=self._eval_batch_size, collate_fn=list
        )
