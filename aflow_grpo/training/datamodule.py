"""The LightningDataModule: problem sets and the proportional training batches.

A batch is a list of `Problem`. Training batches are endless and a pure function of (seed, index);
the index is the module's count of completed iterations, so that a resumed run continues with
exactly the batch that an interrupted one did not finish.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader, Dataset

from aflow_grpo.data.sampler import DomainMix, ProportionalSampler, stratified
from aflow_grpo.data.sources import DataSource, load_sources
from aflow_grpo.errors import ConfigError, DataError
from aflow_grpo.records import Problem

__all__ = ["WorkflowDataModule"]

_ENDLESS = 1_000_000_000
"""Lightning needs a length to restore positions; `trainer.max_steps` ends training."""


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
    """Problems for fit, validate and test.

    Args:
        train: Sets to train on, mixed by `mix`.
        val: Sets to validate on.
        test: Sets to test on.
        mix: Share of each domain in the training batches.
        batch_size: Problems per training batch.
        quick_val_size: Size of the stratified subset that validation in the middle of `fit` uses.
        eval_batch_size: Problems per validation or test batch.
        seed: The run's seed (`seed_everything` on the command line).
    """

    def __init__(
        self,
        train: list[DataSource] | None = None,
        val: list[DataSource] | None = None,
        test: list[DataSource] | None = None,
        mix: DomainMix = DomainMix(),
        batch_size: int = 8,
        quick_val_size: int = 50,
        eval_batch_size: int = 50,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if value < 1:
                raise ConfigError(f"data.{name}={value}: expected at least 1.")
        if quick_val_size < 0:
            raise ConfigError(f"data.quick_val_size={quick_val_size}: expected at least 0.")
        self._sources: dict[str, list[DataSource]] = {
            "train": list(train or []),
            "val": list(val or []),
            "test": list(test or []),
        }
        self._mix = mix
        self._batch_size = batch_size
        self._quick_val_size = quick_val_size
        self._eval_batch_size = eval_batch_size
        self._seed = seed
        self._loaded: dict[str, list[Problem]] = {}

    def setup(self, stage: str) -> None:
        """Read the sets that the stage needs.

        Raises:
            DataError: A file is missing or malformed, or a needed set is empty.
        """
        needed = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(stage, ())
        for split in needed:
            if split not in self._loaded:
                self._loaded[split] = self._read(split)
        for split in needed:
            if not self._loaded[split] and (split == "train" or stage != "fit"):
                raise DataError(
                    f"data.{split} names no problems, but `{stage}` needs some. Add a source, e.g. "
                    f"data.{split}: [{{dataset: sample, split: {split}}}]."
                )

    def problems(self, split: str) -> Sequence[Problem]:
        """The problems of ``train``, ``val`` or ``test``; empty when not loaded for this stage."""
        return self._loaded.get(split, [])

    def all_problems(self) -> list[Problem]:
        """Every loaded problem, e.g. for the simulator."""
        return [problem for problems in self._loaded.values() for problem in problems]

    def train_dataloader(self) -> _TrainBatches:
        """Endless batches of `batch_size` problems in the proportions of `mix`."""
        sampler = ProportionalSampler(
            self._loaded["train"], self._mix, batch_size=self._batch_size, seed=self._seed
        )
        assert self.trainer is not None
        return _TrainBatches(sampler, self.trainer.lightning_module)

    def val_dataloader(self) -> DataLoader[Any]:
        """The whole validation set for `validate`, its quick stratified subset inside `fit`."""
        problems = self._loaded["val"]
        assert self.trainer is not None
        if self.trainer.state.fn is TrainerFn.FITTING:
            problems = stratified(problems, self._quick_val_size, seed=self._seed)
        return self._batches(problems)

    def test_dataloader(self) -> DataLoader[Any]:
        """The whole test set."""
        return self._batches(self._loaded["test"])

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """Problems are text and stay where they are."""
        return batch

    def _read(self, split: str) -> list[Problem]:
        return load_sources(self._sources[split])

    def _batches(self, problems: Sequence[Problem]) -> DataLoader[Any]:
        return DataLoader(
            cast("Dataset[Problem]", problems), batch_size=self._eval_batch_size, collate_fn=list
        )
