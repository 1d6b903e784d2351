"""MLflow as the lab book, on SQLite under the run's directory by default.

`RunLogger` is Lightning's MLFlowLogger with the defaults that a laptop needs (no server,
everything under one directory), the memory of which run a directory belongs to, and parameters
that may change when a run is resumed. Tables and configs are artifacts; a logger that is not
MLflow gets metrics only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import Logger, MLFlowLogger
from lightning.pytorch.trainer.states import TrainerFn

from aflow_grpo.records import Rollout, to_dict

__all__ = ["ConfigArtifact", "RunLogger", "log_rollout_table", "read_run_id"]

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

_RUN_FILE = "run.json"


def read_run_id(root: str | Path) -> str | None:
    """The MLflow run that `fit` last logged to under `root`, or None."""
    path = Path(root) / _RUN_FILE
    if not path.is_file():
        return None
    run_id = json.loads(path.read_text()).get("mlflow_run_id")
    return str(run_id) if run_id else None


class RunLogger(MLFlowLogger):
    """MLflow for one run directory.

    Args:
        root: The run's directory; without `tracking_uri` it holds `mlflow.db` and `artifacts/`.
        experiment_name: MLflow experiment.
        run_name: Shown in the MLflow UI.
        tracking_uri: Another store or a server; default is SQLite under `root`.
        run_id: Continue this run instead of starting one.
        tags: Tags of a new run.
    """

    def __init__(
        self,
        root: str | Path,
        experiment_name: str = "aflow-grpo",
        run_name: str | None = None,
        tracking_uri: str | None = None,
        run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.root = Path(root)
        self.root.mkdir(parents=True, exist_ok=True)
        local = tracking_uri is None
        super().__init__(
            experiment_name=experiment_name,
            run_name=run_name,
            tracking_uri=tracking_uri or f"sqlite:///{self.root.resolve() / 'mlflow.db'}",
            artifact_location=(self.root.resolve() / "artifacts").as_uri() if local else None,
            run_id=run_id,
            tags=dict(tags or {}),
        )
        self._continued = run_id is not None

    @property
    def tracking_uri(self) -> str:
        """Where the run is tracked."""
        return self._tracking_uri

    def remember_run(self) -> None:
        """Note in the run's directory which MLflow run it belongs to, for resuming."""
        text = json.dumps({"mlflow_run_id": self.run_id, "tracking_uri": self._tracking_uri})
        (self.root / _RUN_FILE).write_text(text + "\n")
        if self._continued:
            self.experiment.update_run(self.run_id, status="RUNNING")

    def log_settings(self, settings: Mapping[str, Any]) -> None:
        """Flattened settings as parameters; one that changed on resume is kept as a tag."""
        known = self.experiment.get_run(self.run_id).data.params
        new = {}
        for key, value in _flatten(_without_keys(settings)).items():
            text = str(value)[:250]
            if key not in known:
                new[key] = text
            elif known[key] != text:
                self.experiment.set_tag(self.run_id, f"resumed_with.{key}", text)
        super().log_hyperparams(new)

    def log_text(self, text: str, artifact: str) -> None:
        """A text file among the run's artifacts."""
        self.experiment.log_text(self.run_id, text, artifact)


class ConfigArtifact(SaveConfigCallback):
    """Logs the resolved configuration as an artifact and as parameters.

    Replaces Lightning's callback, which wants a log directory that MLflow on SQLite does not have.
    """

    def __init__(self, parser: Any, config: Any, **kwargs: Any) -> None:
        super().__init__(parser, config, save_to_log_dir=False, **kwargs)

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write ``config/<verb>.yaml`` and the parameters to the run."""
        logger = trainer.logger
        if not isinstance(logger, RunLogger):
            return
        if stage == "fit":
            logger.remember_run()
        dumped = self.parser.dump(self.config, skip_unset=False, skip_link_targets=False)
        settings = _without_keys(yaml.safe_load(dumped))
        text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
        logger.log_text(text, f"config/{TrainerFn(stage).value}.yaml")
        logger.log_settings(settings)


def log_rollout_table(
    logger: Logger | None, rollouts: Sequence[Rollout], step: int, name: str
) -> None:
    """A table of sample rollouts as ``samples/<name>_<step>.json``, which MLflow's UI shows."""
    if not isinstance(logger, RunLogger) or not rollouts:
        return
    columns: dict[str, list[Any]] = {}
    for rollout in rollouts:
        for key, value in _row(rollout).items():
            columns.setdefault(key, []).append(value)
    client, artifact = logger.experiment, f"samples/{name}_{step:06d}.json"
    if artifact in {known.path for known in client.list_artifacts(logger.run_id, "samples")}:
        # A resumed run repeats steps, and `log_table` would append to what it wrote before.
        rows = [list(row) for row in zip(*columns.values(), strict=True)]
        logger.log_text(json.dumps({"columns": list(columns), "data": rows}), artifact)
    else:
        client.log_table(logger.run_id, columns, artifact)


def _row(rollout: Rollout) -> dict[str, Any]:
    execution = rollout.execution
    row: dict[str, Any] = {
        "problem": rollout.problem.id,
        "domain": rollout.problem.domain,
        "question": rollout.problem.question,
        "completion": rollout.completion.text,
        "workflow": execution.source.graph_code if execution.source else "",
        "status": str(execution.status),
        "findings": "\n".join(f"{f.kind}: {f.message}" for f in execution.findings),
        "calls": json.dumps([to_dict(call) for call in execution.calls], default=str),
        "answer": execution.answer or "",
        "gold": rollout.problem.answer,
        "correct": rollout.score.correct,
        "cost_usd": execution.usage.cost_usd,
        "fallback_answer": execution.fallback_answer or "",
    }
    return row | {f"reward_{k}": v for k, v in to_dict(rollout.reward).items()}


def _without_keys(settings: Any) -> Any:
    """The settings with every API key hidden; names of environment variables stay."""
    if isinstance(settings, Mapping):
        return {
            key: "(hidden)" if key == "api_key" and value else _without_keys(value)
            for key, value in settings.items()
        }
    if isinstance(settings, list):
        return [_without_keys(value) for value in settings]
    return settings


def _flatten(settings: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(settings, Mapping) and settings:
        flat: dict[str, Any] = {}
        for key, value in settings.items():
            flat |= _flatten(value, f"{prefix}.{key}" if prefix else str(key))
        return flat
    return {prefix: settings}
