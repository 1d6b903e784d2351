"""How to look at what a run has logged: a command or an address, for each logger known here."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from aflow_grpo.training.run_logger import RunLogger

__all__ = ["how_to_look"]


def how_to_look(loggers: Sequence[Logger]) -> list[str]:
    """One line for each logger that is known; a server's own page, else a command."""
    return [line for logger in loggers if (line := _line(logger))]


def _line(logger: Logger) -> str:
    if isinstance(logger, RunLogger):
        if logger.address.is_server:
            page = f"#/experiments/{logger.experiment_id}/runs/{logger.run_id}"
            return f"{logger.address.shown.rstrip('/')}/{page}"
        return shlex.join(["mlflow", "ui", "--backend-store-uri", logger.address.shown])
    if isinstance(logger, TensorBoardLogger):
        return shlex.join(["tensorboard", "--logdir", str(logger.log_dir)])
    if isinstance(logger, WandbLogger):
        return _wandb(logger)
    if isinstance(logger, CSVLogger):
        return f"{logger.log_dir}/metrics.csv"
    return ""


def _wandb(logger: WandbLogger) -> str:
    run = logger.experiment
    if run.url:
        return str(run.url)
    # Offline: what `wandb sync` uploads lies beside what the run calls its directory.
    folder = str(run.dir).removesuffix("/files")
    return shlex.join(["wandb", "sync", folder])
