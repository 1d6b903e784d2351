"""MLflow as the lab book, on SQLite under the run's directory by default.

`RunLogger` is Lightning's MLFlowLogger with the defaults that a laptop needs (no server,
everything under one directory), an end that says how the run ended, and parameters that may change
when a run is resumed. `start_run` decides which MLflow run a command logs to; it comes after
everything that may be wrong with the settings, so that a mistake leaves no trace. Tables and
configs are artifacts; a logger that is not MLflow gets metrics only.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import Logger, MLFlowLogger
from lightning.pytorch.trainer.states import TrainerFn

from aflow_grpo.grpo.objective import Objective
from aflow_grpo.policy.base import BasePolicy
from aflow_grpo.records import Rollout, to_dict
from aflow_grpo.training.following import RunFollower
from aflow_grpo.training.interrupts import deferred_interrupt, unwind_from_here
from aflow_grpo.training.ranks import Ranks
from aflow_grpo.training.repeated import RepeatedMetrics
from aflow_grpo.training.rollout_callback import RolloutCallback
from aflow_grpo.training.run_directory import RunDirectory

__all__ = [
    "ConfigArtifact",
    "RunLogger",
    "evenly_spaced",
    "log_rollout_table",
    "run_of",
    "start_run",
    "without_keys",
]

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

_MARK = "aflow_grpo.mark"
_HIDDEN = "(hidden)"
_LOG = logging.getLogger(__name__)


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
        store = self.root.resolve() / "mlflow.db"
        if local and not store.exists():
            _make_store(store)
        super().__init__(
            experiment_name=experiment_name,
            run_name=run_name,
            tracking_uri=tracking_uri or f"sqlite:///{store}",
            artifact_location=(self.root.resolve() / "artifacts").as_uri() if local else None,
            run_id=run_id,
            tags=dict(tags or {}),
        )
        self._repeated: RepeatedMetrics | None = None

    @property
    def tracking_uri(self) -> str:
        """Where the run is tracked."""
        return self._tracking_uri

    def status_of(self, run_id: str) -> str | None:
        """A run's MLflow status, e.g. ``FINISHED``; None when the store has no such run."""
        from mlflow.exceptions import MlflowException  # seconds, and `--help` needs none of it

        try:
            return str(self._mlflow_client.get_run(run_id).info.status)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    def find_run(self, mark: str) -> str | None:
        """The run that was made with `mark` as its tag, or None."""
        experiment = self._mlflow_client.get_experiment_by_name(self._experiment_name)
        if experiment is None:
            return None
        runs = self._mlflow_client.search_runs(
            [experiment.experiment_id], f"tags.`{_MARK}` = '{mark}'", max_results=1
        )
        return str(runs[0].info.run_id) if runs else None

    def continue_run(self, run_id: str) -> None:
        """Log to an earlier run, which is then running again."""
        self._run_id = run_id
        self.experiment.update_run(run_id, status="RUNNING")
        self._repeated = RepeatedMetrics(partial(self.experiment.get_metric_history, run_id))

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log what is new: an earlier run that goes on repeats steps."""
        if self._repeated is not None:
            metrics = self._repeated.new(metrics, step or 0)
        if metrics:
            super().log_metrics(metrics, step)

    def finalize(self, status: str = "success") -> None:
        """End the run: FINISHED, after Ctrl-C or SIGTERM KILLED, after an error FAILED."""
        cause = sys.exception()
        if status == "failed" and isinstance(cause, KeyboardInterrupt | SystemExit):
            status = "KILLED"
        try:
            super().finalize(status)
        except Exception as error:
            if cause is None:
                raise
            # What ended the run matters more, and its message would be lost.
            _LOG.warning("The MLflow run could not be ended: %s", error)

    def log_settings(self, settings: Mapping[str, Any]) -> None:
        """Flattened settings as parameters; one that changed on resume is kept as a tag."""
        known = self.experiment.get_run(self.run_id).data.params
        new = {}
        for key, value in _flatten(without_keys(settings)).items():
            text = str(value)[:250]
            if key not in known:
                new[key] = text
            elif known[key] != text:
                self.experiment.set_tag(self.run_id, f"resumed_with.{key}", text)
        super().log_hyperparams(new)

    def log_text(self, text: str, artifact: str) -> None:
        """A text file among the run's artifacts."""
        self.experiment.log_text(self.run_id, text, artifact)

    def log_bytes(self, content: bytes, artifact: str) -> None:
        """A file with this content among the run's artifacts."""
        folder, _, name = artifact.rpartition("/")
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / name
            path.write_bytes(content)
            self.experiment.log_artifact(self.run_id, str(path), folder or None)


def run_of(logger: Logger | None) -> str | None:
    """The MLflow run that a rank works for; None where there is none."""
    return logger.run_id if isinstance(logger, RunLogger | RunFollower) else None


def start_run(
    directory: RunDirectory, verb: str, *, run_name: str, resuming: bool = False
) -> RunLogger:
    """The MLflow run that a command logs to.

    A `fit` goes on in the directory's run when it resumes from a checkpoint, and when that run was
    stopped before its first one. Otherwise it gets a new run, and an earlier run's `last.ckpt`
    another name. `validate` and `test` get runs of their own.

    Args:
        directory: Where everything of the run lies.
        verb: ``fit``, ``validate`` or ``test``.
        run_name: Of a new run.
        resuming: Whether a checkpoint has been loaded.
    """
    tags = {"aflow_grpo.verb": verb}
    if verb != "fit" and directory.run_id is not None:
        tags["mlflow.parentRunId"] = directory.run_id
    logger = RunLogger(directory.root, run_name=run_name, tags=tags)
    unwind_from_here()  # there will be a run to end
    if verb != "fit":
        with deferred_interrupt():
            assert logger.run_id
        return logger
    with deferred_interrupt():
        known = _run_to_continue(logger, directory, resuming=resuming)
        if known is not None:
            logger.continue_run(known)
        else:
            _begin_run(logger, directory)
        assert logger.run_id is not None
        directory.belongs_to(logger.run_id, logger.tracking_uri)
    return logger


def _run_to_continue(logger: RunLogger, directory: RunDirectory, *, resuming: bool) -> str | None:
    known = directory.run_id
    status = logger.status_of(known) if known is not None else None
    if resuming:
        if status is None and known is not None:
            print(f"MLflow knows no run {known} any more: a new one begins.")
        return known if status is not None else None
    unfinished = status not in (None, "FINISHED")
    if unfinished and directory.can_restart and not directory.was_announced:
        print(
            "This run was stopped before its first checkpoint: it starts again, in its MLflow run."
        )
        return known
    return None


def _begin_run(logger: RunLogger, directory: RunDirectory) -> None:
    """A new run; or the one that a killed process announced and made, and could not yet note."""
    mark = directory.announce_run()
    made = logger.find_run(mark)
    if made is not None:
        logger.continue_run(made)
    logger.tags = {**(logger.tags or {}), _MARK: mark}
    assert logger.run_id
    kept = directory.set_checkpoint_aside()
    if kept is not None:
        print(f"The earlier run's last checkpoint is kept as {kept}.")


def _make_store(path: Path) -> None:
    """An MLflow store at `path`, all at once: one that a kill left half made cannot be opened."""
    # Imported late: its import warns, and only a new directory needs it.
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    part = path.with_name(f".{path.name}.part")
    for leftover in (part, part.with_name(f"{part.name}-journal")):
        leftover.unlink(missing_ok=True)
    store: Any = SqlAlchemyStore
    store(f"sqlite:///{part}", (path.parent / "artifacts").as_uri()).engine.dispose()
    part.replace(path)


class ConfigArtifact(SaveConfigCallback):
    """Starts the MLflow run and logs the resolved configuration to it.

    Replaces Lightning's callback, which wants a log directory that MLflow on SQLite does not have,
    and logs before anything has been loaded.

    Args:
        parser: What parsed the configuration.
        config: The parsed configuration.
        start: Makes the logger as late as possible; null logs to the trainer's own.
    """

    def __init__(
        self,
        parser: Any,
        config: Any,
        start: Callable[[], RunLogger] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(parser, config, save_to_log_dir=False, **kwargs)
        self._start = start

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Nothing yet: data, policy and checkpoint are still to be loaded."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the run of `fit`."""
        self._begin(trainer, pl_module, "fit")

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the run of `validate`."""
        if trainer.state.fn is TrainerFn.VALIDATING:
            self._begin(trainer, pl_module, "validate")

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the run of `test`."""
        self._begin(trainer, pl_module, "test")

    def _begin(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        ranks = Ranks.of(trainer)
        with ranks.together():
            if self._start is not None and trainer.is_global_zero:
                trainer.logger = self._start()
        run_id = ranks.gather(run_of(trainer.logger))[0]
        unwind_from_here()
        if not trainer.is_global_zero:
            if run_id is not None:
                trainer.logger = RunFollower(run_id)
            return
        self.save_config(trainer, pl_module, stage)
        if isinstance(trainer.logger, RunLogger):
            _log_what_is(trainer.logger, trainer, pl_module)

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write ``config/<verb>.yaml`` and the parameters to the run."""
        logger = trainer.logger
        if not isinstance(logger, RunLogger):
            return
        dumped = self.parser.dump(self.config, skip_unset=False, skip_link_targets=False)
        settings = without_keys(yaml.safe_load(dumped))
        text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
        logger.log_text(text, f"config/{stage}.yaml")
        logger.log_settings(settings)


def _log_what_is(logger: RunLogger, trainer: L.Trainer, module: L.LightningModule) -> None:
    """What the settings came to: policy and sandbox as tags, the loss in numbers as parameters."""
    policy, objective = getattr(module, "policy", None), getattr(module, "objective", None)
    if isinstance(policy, BasePolicy):
        logger.experiment.set_tag(logger.run_id, "aflow_grpo.policy", policy.describe())
    if isinstance(objective, Objective):
        logger.log_settings({"objective": objective.settings()})
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, RolloutCallback):
            logger.experiment.set_tag(logger.run_id, "aflow_grpo.sandbox", callback.sandbox_mode)


def evenly_spaced(rollouts: Sequence[Rollout], rows: int) -> list[Rollout]:
    """At most `rows` of them, so that every domain and level is seen."""
    rows = min(rows, len(rollouts))
    return [rollouts[i * len(rollouts) // rows] for i in range(rows)]


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
        "calls": json.dumps(
            [to_dict(replace(call, llm_calls=())) for call in execution.calls], default=str
        ),
        "answer": execution.answer or "",
        "gold": rollout.problem.answer,
        "correct": rollout.score.correct,
        "cost_usd": execution.usage.cost_usd,
        "fallback_answer": execution.fallback_answer or "",
    }
    return row | {f"reward_{k}": v for k, v in to_dict(rollout.reward).items()}


def without_keys(settings: Any) -> Any:
    """The settings with every API key hidden; what names an environment variable stays."""
    if isinstance(settings, Mapping):
        return {
            key: _HIDDEN if key == "api_key" and _is_secret(value) else without_keys(value)
            for key, value in settings.items()
        }
    if isinstance(settings, list):
        return [without_keys(value) for value in settings]
    return settings


def _is_secret(value: Any) -> bool:
    return bool(value) and not str(value).startswith("$")


def _flatten(settings: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(settings, Mapping) and settings:
        flat: dict[str, Any] = {}
        for key, value in settings.items():
            flat |= _flatten(value, f"{prefix}.{key}" if prefix else str(key))
        return flat
    return {prefix: settings}
