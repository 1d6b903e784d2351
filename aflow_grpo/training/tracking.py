"""Which MLflow run a command logs to, and what that run is told when it begins.

`start_run` decides; it comes after everything that may be wrong with the settings, so that a
mistake leaves no trace. `ConfigArtifact` calls it, and logs settings and facts (`run_facts`).
Not here: the run itself (`run_logger`), what it is told later (`lab_book`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import lightning as L
import yaml
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.trainer.states import TrainerFn

from aflow_grpo.grpo.objective import Objective
from aflow_grpo.training.following import RunFollower
from aflow_grpo.training.interrupts import deferred_interrupt, unwind_from_here
from aflow_grpo.training.lab_book import LabBook
from aflow_grpo.training.plain_settings import without_keys
from aflow_grpo.training.ranks import Ranks
from aflow_grpo.training.run_directory import RunDirectory
from aflow_grpo.training.run_facts import run_facts
from aflow_grpo.training.run_logger import MARK, RunLogger, run_of

__all__ = ["ConfigArtifact", "RunLogger", "run_of", "start_run", "without_keys"]

_RUN_KEY = "mlflow_run_id"
"""Where a checkpoint says which run wrote it."""


def start_run(
    directory: RunDirectory,
    verb: str,
    *,
    run_name: str | None = None,
    tags: Mapping[str, str] | None = None,
    resuming: bool = False,
    parent: str | None = None,
    tracking_uri: str | None = None,
    experiment: str = "aflow-grpo",
) -> RunLogger:
    """The MLflow run that a command logs to.

    A `fit` goes on in the directory's run when it resumes from a checkpoint, and when that run was
    stopped before its first one. Otherwise it gets a new run, and an earlier run's `last.ckpt`
    another name. `validate`, `test` and others get runs of their own, below the `fit` that wrote
    the checkpoint, if it is in the same store, else below the directory's.

    Args:
        directory: Where everything of the run lies.
        verb: ``fit``, ``validate``, ``test``, ...
        run_name: Of a new run.
        tags: Of a new run.
        resuming: Whether a checkpoint has been loaded.
        parent: The run that wrote that checkpoint.
        tracking_uri: See `LabBook`.
        experiment: See `LabBook`.

    Raises:
        ConfigError: Another store than the directory's own cannot be used.
    """
    logger = RunLogger(
        directory.root,
        experiment,
        run_name,
        tracking_uri,
        tags={"aflow_grpo.verb": verb, **(tags or {})},
    )
    logger.send_leftovers()
    if verb != "fit":
        above = next(
            (run for run in (parent, directory.run_id) if run and logger.status_of(run)), None
        )
        if above is not None:
            logger.tags = {**(logger.tags or {}), "mlflow.parentRunId": above}
        unwind_from_here()  # there will be a run to end
        with deferred_interrupt():
            assert logger.run_id
        return logger
    unwind_from_here()
    with deferred_interrupt():
        known = _run_to_continue(logger, directory, resuming=resuming)
        if known is not None:
            logger.continue_run(known)
        else:
            _begin_run(logger, directory)
        assert logger.run_id is not None
        directory.belongs_to(logger.run_id, logger.address.shown)
    return logger


def _run_to_continue(logger: RunLogger, directory: RunDirectory, *, resuming: bool) -> str | None:
    known = directory.run_id
    status = logger.status_of(known) if known is not None else None
    if resuming:
        if status is None and known is not None:
            print(f"MLflow at {logger.address.shown} knows no run {known}: a new one begins.")
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
    logger.tags = {**(logger.tags or {}), MARK: mark}
    assert logger.run_id
    kept = directory.set_checkpoint_aside()
    if kept is not None:
        print(f"The earlier run's last checkpoint is kept as {kept}.")


class _Start(Protocol):
    def __call__(
        self,
        *,
        run_name: str | None,
        tags: Mapping[str, str],
        parent: str | None,
        tracking_uri: str | None,
        experiment: str,
    ) -> RunLogger: ...


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
        self, parser: Any, config: Any, start: _Start | None = None, **kwargs: Any
    ) -> None:
        super().__init__(parser, config, save_to_log_dir=False, **kwargs)
        self._start = start
        self._loaded_run: str | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Nothing yet: data, policy and checkpoint are still to be loaded."""

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say in the checkpoint which run wrote it."""
        checkpoint[_RUN_KEY] = run_of(trainer.logger)

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Know which run wrote the checkpoint: judging it belongs below that run."""
        self._loaded_run = checkpoint.get(_RUN_KEY)

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
            if trainer.is_global_zero:
                self._begin_here(trainer, pl_module, stage)
        run_id = ranks.gather(run_of(trainer.logger))[0]
        unwind_from_here()
        if not trainer.is_global_zero and run_id is not None:
            trainer.logger = RunFollower(run_id)

    def _begin_here(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        settings = self._settings()
        facts = run_facts(stage, settings, trainer, module)
        books = [each for each in trainer.callbacks if isinstance(each, LabBook)]  # type: ignore[attr-defined]
        book = books[0] if books else LabBook()
        if self._start is not None:
            trainer.logger = self._start(
                run_name=book.run_name or facts.name,
                tags=facts.tags,
                parent=self._loaded_run,
                tracking_uri=book.tracking_uri,
                experiment=book.experiment,
            )
        logger = trainer.logger
        if not isinstance(logger, RunLogger):
            return
        logger.log_tags(facts.tags)
        self.save_config(trainer, module, stage)
        if isinstance(objective := getattr(module, "objective", None), Objective):
            logger.log_settings({"objective": objective.settings()})
        for known in books:
            known.run_begins(logger)

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write ``config/<verb>.yaml`` and the parameters to the run."""
        logger = trainer.logger
        if isinstance(logger, RunLogger):
            settings = self._settings()
            text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
            logger.log_text(text, f"config/{stage}.yaml")
            logger.log_settings(settings)

    def _settings(self) -> dict[str, Any]:
        """All of them, without keys."""
        dumped = self.parser.dump(self.config, skip_unset=False, skip_link_targets=False)
        settings: dict[str, Any] = without_keys(yaml.safe_load(dumped))
        return settings
