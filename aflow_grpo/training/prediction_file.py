"""What `predict` leaves: a file with one JSON line for each answered problem.

Whole or not at all: it is written beside its place and moved there at the end. Answers that were
paid for before an interruption come from the journal the next time. Not here: what a line holds
(`predictions`), the same for a few problems without a Trainer (`workbench.solving`).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import lightning as L

from aflow_grpo.errors import ConfigError
from aflow_grpo.predictions import has_gold, prediction_row
from aflow_grpo.records import Rollout
from aflow_grpo.terminal import console, verbosity
from aflow_grpo.whole_file import WholeFile

__all__ = ["PredictionFile"]


class PredictionFile(L.Callback):
    """Writes the rollouts that `predict_step` returns, on the first rank.

    Args:
        path: The file to make; an earlier one is replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._whole: WholeFile | None = None
        self._file: IO[str] | None = None
        self._answered = self._rows = 0

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the file before anything is paid.

        Raises:
            ConfigError: It cannot be written.
        """
        if not trainer.is_global_zero:
            return
        try:
            self._whole = WholeFile.at(self.path)
            self._file = self._whole.part.open("w", encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"--output={self.path}: cannot be written ({error.strerror or error}). Give a file "
                "that you may write, e.g. --output predictions.jsonl."
            ) from error

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """One line for each rollout of the batch."""
        if self._file is None:
            return
        rollouts: Sequence[Rollout] = outputs
        for rollout in rollouts:
            row = prediction_row(rollout, gold_known=has_gold(rollout.problem))
            self._file.write(json.dumps(row) + "\n")
            self._answered += row["answer"] is not None
            self._rows += 1

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Move the whole file to its place, and say where it is."""
        if self._file is None or self._whole is None:
            return
        self._close()
        self._whole.keep()
        if verbosity() != "quiet":
            text = f"{self._answered} of {self._rows} problems answered: {self.path}"
            console().print(text, soft_wrap=True)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Leave no part of a file."""
        if self._whole is not None:
            with contextlib.suppress(OSError):  # a full disk, which is what `exception` says
                self._close()
            self._whole.discard()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()
