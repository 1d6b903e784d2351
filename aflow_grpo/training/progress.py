"""What a person sees while a run goes on, and the table at its end.

On a terminal: one live line with rate, time left, reward, direct-execution rate and spend.
Elsewhere: a plain line now and then. At the end of `fit`: before -> after per domain, where the
run is, what to try next. `validate` and `test` end with the same table for one moment.
"""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from aflow_grpo.training.collect import rollout_callback_of
from aflow_grpo.training.launched import is_first_rank
from aflow_grpo.training.report import evaluation_table, example_view, masked_note
from aflow_grpo.training.tracking import RunLogger

__all__ = ["ProgressReporter"]

_KEY = re.compile(r"""(api_key\b["']?\s*[:=]\s*["']?)[^\s"',}\]$]+""")


class ProgressReporter(L.Callback):
    """Live progress on a terminal, plain lines elsewhere, a table at the end.

    Args:
        every_n_iterations: How often a plain line is written where there is no terminal.
        quiet: Only warnings, errors and the final table.
    """

    def __init__(self, every_n_iterations: int = 10, quiet: bool = False) -> None:
        self._every = max(1, every_n_iterations)
        self._quiet = quiet
        # Paths and names are printed as they are: "[x]" in one is no markup, ":x:" no emoji.
        self._console = Console(
            highlight=False, markup=False, emoji=False, quiet=not is_first_rank()
        )
        self._live: Progress | None = None
        self._task: Any = None
        self._started = time.monotonic()
        self._first_iteration = 0

    # fit

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Say what is being trained, on what, executed by whom."""
        rollouts = rollout_callback_of(trainer)
        self._say(f"Policy    {pl_module.policy.describe()}")
        self._say(f"Executor  {rollouts.executor_name}; operator code in: {rollouts.sandbox_mode}")
        self._say(f"Run       {trainer.default_root_dir}")

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Announce the evaluation that the module is about to do."""
        self._first_iteration = pl_module.iteration
        if pl_module.iteration == 0 and pl_module.evaluation.at_start:
            self._begin_evaluation(trainer, pl_module, "before")

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Switch from evaluation to training progress."""
        if pl_module.iteration == self._first_iteration:
            self._started = time.monotonic()
            total = trainer.max_steps if trainer.max_steps > 0 else None
            self._begin("training", total, completed=pl_module.iteration)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """One more iteration."""
        text = self._headline(trainer, pl_module.cost_usd)
        if self._live is not None:
            self._live.update(self._task, completed=pl_module.iteration, description=text)
        elif pl_module.iteration % self._every == 0 or pl_module.iteration == 1:
            done = pl_module.iteration - self._first_iteration
            pace = (time.monotonic() - self._started) / max(1, done)
            end = f"/{trainer.max_steps}" if trainer.max_steps > 0 else ""
            left = f", {(trainer.max_steps - pl_module.iteration) * pace:.0f} s left" if end else ""
            self._say(f"step {pl_module.iteration}{end}  {text}  {pace:.1f} s/step{left}")

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Announce the evaluation that the module is about to do."""
        self._end()
        if pl_module.evaluation.at_end:
            self._begin_evaluation(trainer, pl_module, "after")

    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """The table, where the run is, and what to try next."""
        self._end()
        if pl_module.evaluations:
            *earlier, after = pl_module.evaluations
            when = "before → after" if earlier else "after"
            title = f"Validation, {when} {pl_module.iteration} steps"
            before = earlier[0] if earlier else None
            self._console.print(evaluation_table(title, "val", after, before))
            self._note_masked("val", after)
        self._show_example(pl_module)
        self._console.print(f"Run directory: {trainer.default_root_dir}", soft_wrap=True)
        for line in _next_commands(trainer):
            self._console.print(f"  {line}", soft_wrap=True)

    # validate, test

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """The table, after `validate` only."""
        if trainer.state.fn is TrainerFn.VALIDATING:
            self._show(trainer, pl_module, "val", "Validation")

    def on_test_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """The table."""
        self._show(trainer, pl_module, "test", "Test")

    def on_exception(self, trainer: L.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Leave the terminal as it was."""
        self._end()

    def _show(self, trainer: L.Trainer, pl_module: Any, split: str, title: str) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self._console.print(evaluation_table(title, split, metrics))
        self._note_masked(split, metrics)
        self._show_example(pl_module)

    def _note_masked(self, split: str, metrics: Mapping[str, float]) -> None:
        note = masked_note(split, metrics)
        if note:
            self._console.print(note, soft_wrap=True)
        self._console.print()

    def _show_example(self, pl_module: Any) -> None:
        if pl_module.example is not None and not self._quiet:
            self._console.print(example_view(pl_module.example))
            self._console.print()

    def _begin_evaluation(self, trainer: L.Trainer, pl_module: Any, moment: str) -> None:
        problems = len(trainer.datamodule.problems("val"))  # type: ignore[attr-defined]
        total = problems * (pl_module.evaluation.samples + 1)
        self._say(f"Judging the policy {moment} training: {problems} problems, {total} workflows …")

    def _begin(self, description: str, total: int | None, completed: int = 0) -> None:
        self._end()
        if self._quiet or self._console.quiet or not self._console.is_terminal:
            return
        self._live = Progress(
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._live.start()
        self._task = self._live.add_task(description, total=total, completed=completed)

    def _end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _headline(self, trainer: L.Trainer, spent: float) -> str:
        metrics = trainer.callback_metrics
        if metrics["train/status/unavailable"] == 1:
            return f"no workflow could be judged: the executor was unavailable  ${spent:.3f}"
        return (
            f"reward {metrics['train/reward']:+.2f}  "
            f"direct {metrics['train/direct_execution_rate']:.0%}  "
            f"accuracy {metrics['train/accuracy']:.0%}  ${spent:.3f}"
        )

    def _say(self, line: str) -> None:
        if not self._quiet:
            self._console.print(line, soft_wrap=True)


def _next_commands(trainer: L.Trainer) -> list[str]:
    """Commands that make sense after this run, to be copied as they are."""
    root = ["--trainer.default_root_dir", str(trainer.default_root_dir)]
    given = _without(sys.argv[2:], ("--ckpt_path", "--trainer.default_root_dir"))
    lines = [
        shlex.join(["aflow-grpo", "test", *_without_keys(given), *root, "--ckpt_path", "last"])
    ]
    if isinstance(trainer.logger, RunLogger):
        store = trainer.logger.tracking_uri
        lines.insert(0, shlex.join(["mlflow", "ui", "--backend-store-uri", store]))
    return lines


def _without_keys(arguments: Sequence[str]) -> list[str]:
    """A key that was typed has to be typed again: what is printed ends up in logs."""
    hidden = [_KEY.sub(r"\1(hidden)", argument) for argument in arguments]
    for index, argument in enumerate(arguments[1:]):
        if arguments[index].endswith("api_key") and not argument.startswith("$"):
            hidden[index + 1] = "(hidden)"
    return hidden


def _without(arguments: Sequence[str], options: Sequence[str]) -> list[str]:
    """The arguments less the named options, given as ``--name value`` or as ``--name=value``."""
    kept = []
    values_to_skip = 0
    for argument in arguments:
        if values_to_skip:
            values_to_skip -= 1
        elif argument in options:
            values_to_skip = 1
        elif argument.split("=", 1)[0] not in options:
            kept.append(argument)
    return kept
