"""What a run puts into MLflow besides numbers, and the settings of all of it.

A callback that is always there, under the key `mlflow`. It does nothing where the run is tracked by
another logger or by none. An artifact that cannot be made costs a warning, never the run. Tables of
validations and histograms of lengths are logged where their rollouts are (`judging`, `lengths`).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn
from peft import PeftModel

from aflow_grpo.errors import ConfigError
from aflow_grpo.policy.adapters import write_adapter
from aflow_grpo.policy.policy import Policy
from aflow_grpo.training.reward_plots import PLOTTED, draw_course
from aflow_grpo.training.run_logger import RunLogger, never_fatal
from aflow_grpo.training.sample_tables import evenly_spaced, log_rollout_table

__all__ = ["LabBook"]

_MB = 1_000_000


class LabBook(L.Callback):
    """MLflow: where the run is tracked, and what it keeps there.

    Args:
        tracking_uri: A tracking server such as ``http://127.0.0.1:5000``, or a database such as
            ``sqlite:///FILE.db``. null takes the environment's MLFLOW_TRACKING_URI, else SQLite in
            `trainer.default_root_dir`. Give credentials by MLFLOW_TRACKING_USERNAME and
            MLFLOW_TRACKING_PASSWORD.
        experiment: MLflow experiment; runs of one experiment can be compared.
        run_name: null makes one of verb, policy, data, seed and a digest of the settings.
        system_metrics: Log processor, memory, disk, network and GPUs every 10 s.
        table_every_n_iterations: How often training logs a table of sample workflows, with as many
            rows as `model.evaluation.table_rows`; 0 never does. Executed validations always do.
        pictures: How many workflows of each table are drawn.
        weights_mb: Keep the trained weights at the end of `fit`, the adapters where there are any,
            if they take no more than so many megabytes; 0 never does.
    """

    def __init__(
        self,
        tracking_uri: str | None = None,
        experiment: str = "aflow-grpo",
        run_name: str | None = None,
        system_metrics: bool = True,
        table_every_n_iterations: int = 10,
        pictures: int = 4,
        weights_mb: float = 200.0,
    ) -> None:
        for name, value in {
            "table_every_n_iterations": table_every_n_iterations,
            "pictures": pictures,
            "weights_mb": weights_mb,
        }.items():
            if value < 0:
                raise ConfigError(f"mlflow.{name}={value}: expected 0 or more.")
        if not experiment:
            raise ConfigError("mlflow.experiment: expected a name, e.g. aflow-grpo.")
        self.tracking_uri = tracking_uri
        self.experiment = experiment
        self.run_name = run_name
        self.pictures = pictures
        self._system_metrics = system_metrics
        self._table_every = table_every_n_iterations
        self._weights_mb = weights_mb

    def run_begins(self, logger: RunLogger) -> None:
        """The run that everything is logged to exists."""
        logger.pictures = self.pictures
        logger.watch(PLOTTED)
        if self._system_metrics:
            logger.start_system_metrics()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A table and pictures of the iteration's workflows, now and then."""
        step = pl_module.iteration
        if self._table_every and step % self._table_every == 0:
            rollouts = evenly_spaced(pl_module.rollouts, pl_module.evaluation.table_rows)
            log_rollout_table(trainer.logger, rollouts, step, "train", pl_module.policy.operators)

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """The run's course so far, as a picture."""
        if trainer.state.fn is TrainerFn.FITTING:
            self._draw(trainer, pl_module)

    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """The run's course, and what it has trained."""
        self._draw(trainer, pl_module)
        if isinstance(trainer.logger, RunLogger):
            with never_fatal("the trained weights"):
                self._log_weights(trainer.logger, pl_module)

    def _draw(self, trainer: L.Trainer, pl_module: Any) -> None:
        logger = trainer.logger
        if isinstance(logger, RunLogger) and any(logger.series.values()):
            with never_fatal("the plot of the run's course"):
                title = f"{pl_module.policy.describe()}, iteration {pl_module.iteration}"
                logger.log_bytes(draw_course(logger.series, title), "plots/course.png")

    def _log_weights(self, logger: RunLogger, module: Any) -> None:
        policy = module.policy
        if not self._weights_mb or not isinstance(policy, Policy):
            return
        trained = policy.trainable_state_dict()
        size_mb = sum(t.numel() * t.element_size() for t in trained.values()) / _MB
        if size_mb > self._weights_mb:
            return
        with tempfile.TemporaryDirectory() as temporary:
            if isinstance(policy.model, PeftModel):
                folder = Path(temporary) / "adapter"
                write_adapter(policy.model, folder)
            else:
                from safetensors.torch import save_file  # of no use to adapters, which peft saves

                folder = Path(temporary) / "weights"
                folder.mkdir()
                tensors = {name: t.cpu().contiguous() for name, t in trained.items()}
                save_file(tensors, folder / "model.safetensors")
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                place = path.relative_to(folder.parent).as_posix()
                logger.log_bytes(path, place)
