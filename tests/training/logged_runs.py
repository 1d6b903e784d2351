"""What the lab book's tests share: runs read by a client that knows nothing of our logger."""

from pathlib import Path
from typing import Any

from mlflow.tracking import MlflowClient

from aflow_grpo.training.run_logger import RunLogger

__all__ = ["artifact", "stored"]


def stored(logger: RunLogger) -> Any:
    """The run as MLflow has it, once everything has been sent."""
    assert logger.flush(), "the store has not taken everything"
    return MlflowClient(logger.tracking_uri).get_run(logger.run_id)


def artifact(logger: RunLogger, name: str) -> Path:
    """The file of this name among the artifacts of a run in a directory of its own."""
    assert logger.flush(), "the store has not taken everything"
    (path,) = (logger.root / "artifacts").glob(f"{logger.run_id}/**/{name}")
    return path
