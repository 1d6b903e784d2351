"""Checkpoints: always the last optimiser-step boundary, always a whole file.

`last.ckpt` is written every `every_n_iterations`, at the end, and when an exception or a signal
ends the run, unless that happened between an update's first optimiser step and its end, when the
previous `last.ckpt` stands. Whatever Lightning was in the middle of, its counters are saved as of
the boundary, so that a resumed run validates where the uninterrupted one does.

`AtomicCheckpointIO` writes beside the target, syncs and renames, so that a kill at any moment
leaves either the old file or the new one (Lightning's own writer copies across file systems).
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from aflow_grpo.errors import ConfigError

__all__ = ["AtomicCheckpointIO", "BoundaryCheckpoint", "checkpoint_directory", "last_checkpoint"]

_LOG = logging.getLogger(__name__)


def checkpoint_directory(root: str | Path) -> Path:
    """Where a run in `root` keeps its checkpoints."""
    return Path(root) / "checkpoints"


def last_checkpoint(root: str | Path) -> Path:
    """The checkpoint that ``--ckpt_path last`` means in `root`.

    Raises:
        ConfigError: There is none.
    """
    path = checkpoint_directory(root) / "last.ckpt"
    if not path.is_file():
        raise ConfigError(
            f"--ckpt_path last: {path} does not exist. Give the --trainer.default_root_dir of a "
            "run that has written a checkpoint, or the path of a checkpoint file."
        )
    return path


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints so that a crash never leaves half a file; reads whole ones only."""

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """What `save_checkpoint` wrote.

        Raises:
            ConfigError: The file is no checkpoint, or not a whole one.
        """
        try:
            checkpoint: Any = super().load_checkpoint(path, *args, **kwargs)
        except Exception as error:  # torch raises whatever the wrong bytes lead to
            found = f"it cannot be read ({type(error).__name__})"
        else:
            if isinstance(checkpoint, dict):
                return checkpoint
            found = f"it holds a {type(checkpoint).__name__}"
        raise ConfigError(
            f"--ckpt_path={path}: {found}. Expected a whole checkpoint of this program, such as "
            "checkpoints/last.ckpt in a run's directory."
        )

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write to a temporary file beside `path`, sync it, and rename it into place."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        # One name: what a killed writer left behind is overwritten.
        temporary = target.with_name(f".{target.name}.part")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_directory(target.parent)


class BoundaryCheckpoint(Checkpoint):
    """Saves `checkpoints/last.ckpt` under the run's directory, and numbered copies if asked.

    Args:
        every_n_iterations: Write `last.ckpt` this often.
        keep_every_n_iterations: Also keep `step_<n>.ckpt` this often; 0 keeps none.
    """

    def __init__(self, every_n_iterations: int = 10, keep_every_n_iterations: int = 0) -> None:
        if every_n_iterations < 1:
            raise ConfigError(
                f"checkpoint.every_n_iterations={every_n_iterations}: expected at least 1."
            )
        if keep_every_n_iterations < 0:
            raise ConfigError(
                f"checkpoint.keep_every_n_iterations={keep_every_n_iterations}: "
                "expected at least 0."
            )
        self._every = every_n_iterations
        self._keep_every = keep_every_n_iterations
        self._saved_at = -1
        self._started = False

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        """Save Lightning's counters as of the boundary."""
        _settle_progress(
            checkpoint["loops"]["fit_loop"],
            pl_module.iteration,
            validated=pl_module.validated_at == pl_module.iteration,
        )

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """From here on there is something to save."""
        self._started = True

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save at the iterations that the settings name."""
        if pl_module.iteration % self._every == 0:
            self._save(trainer, pl_module.iteration)
        if self._keep_every and pl_module.iteration % self._keep_every == 0:
            directory = checkpoint_directory(trainer.default_root_dir)
            trainer.save_checkpoint(directory / f"step_{pl_module.iteration:06d}.ckpt")

    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Save the end, the final evaluation included."""
        self._save(trainer, pl_module.iteration)

    def on_exception(self, trainer: L.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Save the last boundary when the run is stopped between updates.

        The first rank saves alone: the others may not be there any more to be waited for.
        """
        due = self._started and pl_module.at_boundary and pl_module.iteration > self._saved_at
        if due and trainer.is_global_zero:
            try:
                checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
                trainer.strategy.save_checkpoint(checkpoint, _last(trainer))
            except (OSError, RuntimeError) as error:  # torch's writer turns one into the other
                # Raised from here, it would keep the others from closing what they have open.
                _LOG.warning("No checkpoint of iteration %s: %s", pl_module.iteration, error)

    def _save(self, trainer: L.Trainer, iteration: int) -> None:
        trainer.save_checkpoint(_last(trainer))
        self._saved_at = iteration
        _LOG.debug("Checkpoint of iteration %d written: %s", iteration, _last(trainer))


def _last(trainer: L.Trainer) -> Path:
    return checkpoint_directory(trainer.default_root_dir) / "last.ckpt"


def _settle_progress(loops: dict[str, Any], iteration: int, *, validated: bool) -> None:
    """Let the saved counters of Lightning's fit loop say: `iteration` batches are completed.

    Saved in the middle of a batch, they count it in part, and the resumed run would validate one
    iteration off. Saved before a validation that is due, they would let it be skipped.
    """
    stages = ("ready", "started", "processed", "completed")
    loops["epoch_loop.batch_progress"] |= {
        "total": dict.fromkeys(stages, iteration),
        "current": dict.fromkeys(stages, iteration),
    }
    # A validation batch that was started and not ended makes Lightning validate when it resumes,
    # if this iteration is one to validate after; with none in progress it takes it as done.
    begun = 0 if validated else 1
    loops["epoch_loop.val_loop.batch_progress"] |= {
        "total": {"ready": begun, "started": begun, "processed": 0, "completed": 0},
        "current": dict.fromkeys(stages, 0),
    }


def _sync_directory(directory: Path) -> None:
    """Make a rename durable, where the platform lets a directory be opened (POSIX)."""
    if os.name == "posix":
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
