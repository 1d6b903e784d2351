"""What a person sees while a run goes on, and the table at its end.

On a terminal: how far it is, with rate and time left, and below it reward, direct-execution rate,
spend, and what is being written and executed at the moment. Elsewhere: a plain line now and then.
At the end of `fit`: before → after per domain, where the run is, what to try next. `validate` and
`test` end with the same table for one moment. Progress goes to stderr, the rest to stdout.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn

from aflow_grpo.terminal import Step, console, progress, verbosity
from aflow_grpo.training.collect import rollout_callback_of
from aflow_grpo.training.launched import is_first_rank
from aflow_grpo.training.looking import how_to_look
from aflow_grpo.training.ranks import Ranks
from aflow_grpo.training.report import (
    evaluation_table,
    example_view,
    masked_note,
    table_note,
)
from aflow_grpo.training.shares import own_share
from aflow_grpo.training.tracking_address import without_password
from aflow_grpo.training.underway import Underway
from aflow_grpo.training.watching import DrawWatch

__all__ = ["ProgressReporter"]

_KEY = re.compile(r"""(api_key\b["']?\s*[:=]\s*["']?)[^\s"',}\]$]+""")
_TRAINING_LINE_EVERY_S = 60.0
"""Within an iteration that takes longer than `every_n_iterations` can tell."""


class ProgressReporter(L.Callback):
    """Live progress on a terminal, plain lines elsewhere, a table at the end.

    Args:
        every_n_iterations: How often a plain line is written where there is no terminal; once a
            minute there is one anyway.
        quiet: Only warnings, errors and the final table, as with `--quiet`.
    """

    def __init__(self, every_n_iterations: int = 10, quiet: bool = False) -> None:
        self._every = max(1, every_n_iterations)
        self._quiet = quiet or verbosity() == "quiet" or not is_first_rank()
        self._console = console()
        self._console.quiet = not is_first_rank()
        self._stack = ExitStack()
        self._step: Step | None = None
        self._underway = Underway(self._changed)
        self._judging = False
        self._headline = ""
        self._module: Any = None
        self._paid_usd = 0.0
        self._first_iteration = 0
        # Unless told otherwise: an evaluation that a stopped run has still to make.
        self._awaited: tuple[str, int | None] = ("judging", None)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Ask to be told how workflows come along."""
        self._module = pl_module
        rollout_callback_of(trainer).watcher = self._open_draw

    # fit

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Say what is being trained, on what, executed by whom."""
        self._introduce(trainer, pl_module)

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
            total = trainer.max_steps if trainer.max_steps > 0 else None
            self._begin("training", total, done=pl_module.iteration)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """One more iteration."""
        self._headline = _headline(trainer.callback_metrics)
        if self._step is not None:
            self._step.advance(1, self._note("", self._headline))
            if pl_module.iteration % self._every == 0 or pl_module.iteration == 1:
                self._step.say()

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Announce the evaluation that the module is about to do."""
        self._end()
        if pl_module.evaluation.at_end:
            self._begin_evaluation(trainer, pl_module, "after")

    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """The table, where the run is, and what to try next."""
        self._end()
        if pl_module.evaluations and pl_module.evaluation.at_end:
            *earlier, after = pl_module.evaluations
            when = "before → after" if earlier else "after"
            title = f"Validation, {when} {pl_module.iteration} steps"
            before = earlier[0] if earlier else None
            self._console.print(evaluation_table(title, "val", after, before))
            self._add_notes("val", after, pl_module)
        self._show_example(pl_module)
        self._console.print(f"Run directory: {trainer.default_root_dir}", soft_wrap=True)
        for line in _next_commands(trainer):
            self._console.print(f"  {line}", soft_wrap=True)

    # validate, test, predict

    def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Say who is being judged; in the middle of `fit` that is known."""
        if trainer.state.fn is TrainerFn.VALIDATING:
            self._introduce(trainer, pl_module)
            batches, loader = trainer.num_val_batches, trainer.val_dataloaders
            self._await(trainer, "judging", batches, loader, pl_module.evaluation.samples + 1)

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """The table, after `validate` only."""
        if trainer.state.fn is TrainerFn.VALIDATING:
            self._show(trainer, pl_module, "val", "Validation")

    def on_test_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Say who is being judged."""
        self._introduce(trainer, pl_module)
        batches, loader = trainer.num_test_batches, trainer.test_dataloaders
        self._await(trainer, "judging", batches, loader, pl_module.evaluation.samples + 1)

    def on_test_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """The table."""
        self._show(trainer, pl_module, "test", "Test")

    def on_predict_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Say who answers."""
        self._introduce(trainer, pl_module)
        batches, loader = trainer.num_predict_batches, trainer.predict_dataloaders
        self._await(trainer, "answering", batches, loader, 1)

    def on_predict_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Whoever writes the answers says where they are."""
        self._end()

    def on_exception(self, trainer: L.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Leave the terminal as it was."""
        self._step = None
        self._stack.__exit__(type(exception), exception, exception.__traceback__)

    def _introduce(self, trainer: L.Trainer, pl_module: Any) -> None:
        rollouts = rollout_callback_of(trainer)
        self._say(f"Policy    {pl_module.policy.describe()}")
        self._say(f"Executor  {rollouts.executor_name}; operator code in: {rollouts.sandbox_mode}")
        self._say(f"Run       {trainer.default_root_dir}")

    def _show(self, trainer: L.Trainer, pl_module: Any, split: str, title: str) -> None:
        self._end()
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self._console.print(evaluation_table(title, split, metrics))
        self._add_notes(split, metrics, pl_module)
        self._show_example(pl_module)

    def _add_notes(self, split: str, metrics: Mapping[str, float], pl_module: Any) -> None:
        samples = pl_module.evaluation.samples
        for note in (table_note(split, metrics, samples), masked_note(split, metrics)):
            if note:
                self._console.print(note, soft_wrap=True)
        self._console.print()

    def _show_example(self, pl_module: Any) -> None:
        if pl_module.example is not None and not self._quiet:
            self._console.print(example_view(pl_module.example))
            self._console.print()

    # Progress

    def _begin_evaluation(self, trainer: L.Trainer, pl_module: Any, moment: str) -> None:
        problems = trainer.datamodule.problems("val")  # type: ignore[attr-defined]
        each = pl_module.evaluation.samples + 1
        self._say(
            f"Judging the policy {moment} training: {len(problems)} problems, "
            f"{len(problems) * each} workflows …"
        )
        mine = own_share(problems, Ranks.of(trainer)).items
        self._begin(f"judging {moment}", len(mine) * each, judging=True)

    def _await(self, trainer: L.Trainer, what: str, batches: Any, loader: Any, each: int) -> None:
        """The trainer will go through a loader; that begins with its first draw."""
        ranks = Ranks.of(trainer).world_size
        # For `predict` Lightning makes a loader of its own, which knows its sampler only.
        size = loader.batch_size or loader.batch_sampler.batch_size
        problems = min(len(loader.dataset), sum(batches) * size)
        self._awaited = (what, -(-problems // ranks) * each)

    def _begin(
        self, description: str, total: int | None, *, done: int = 0, judging: bool = False
    ) -> None:
        self._end()
        self._judging = judging
        self._underway = Underway(self._changed)
        self._paid_usd = 0.0 if self._module is None else self._module.cost_usd
        every_s = {} if judging else {"line_every_s": _TRAINING_LINE_EVERY_S}
        self._step = self._stack.enter_context(
            progress(description, total, done=done, quiet=self._quiet, **every_s)
        )

    def _end(self) -> None:
        self._step = None
        self._stack.close()

    def _open_draw(self, split: str, workflows: int, executed: bool) -> DrawWatch:
        if self._step is None:
            self._begin(*self._awaited, judging=True)
        return self._underway.open(split, workflows, executed)

    def _changed(self, ended: int) -> None:
        step = self._step
        if step is not None:
            step.advance(ended if self._judging else 0, self._changed_note())

    def _changed_note(self) -> str:
        """What there is to say beside the count, in 78 columns as a rule."""
        phase = self._underway.phase
        if self._judging:
            return self._note(phase, self._underway.figures)
        phase = f"validating, {phase}" if self._underway.validating else phase or "learning"
        return self._note(phase, self._headline)

    def _note(self, phase: str, figures: str) -> str:
        paid = self._paid_usd + self._underway.cost_usd
        # What the module has counted is exact, and more: demonstrations, batches made before.
        spent = max(paid, 0.0 if self._module is None else self._module.cost_usd)
        return "  ".join(filter(None, (figures, f"${spent:.3f}", phase)))

    def _say(self, line: str) -> None:
        if not self._quiet:
            self._console.print(line, soft_wrap=True)


def _headline(metrics: Mapping[str, Any]) -> str:
    """Of the last iteration."""
    if metrics["train/status/unavailable"] == 1:
        return "no workflow could be judged: the executor was unavailable"
    return (
        f"reward {metrics['train/reward']:+.2f}  "
        f"direct {metrics['train/direct_execution_rate']:.0%}  "
        f"accuracy {metrics['train/accuracy']:.0%}"
    )


def _next_commands(trainer: L.Trainer) -> list[str]:
    """Commands that make sense after this run, to be copied as they are."""
    root = ["--trainer.default_root_dir", str(trainer.default_root_dir)]
    # In a notebook or a script the arguments are of another program.
    typed = sys.argv[2:] if sys.argv[1:2] == ["fit"] else []
    given = _without(typed, ("--ckpt_path", "--trainer.default_root_dir"))
    lines = [
        shlex.join(["aflow-grpo", "test", *_without_keys(given), *root, "--ckpt_path", "last"])
    ]
    return [*how_to_look(trainer.loggers), *lines]


def _without_keys(arguments: Sequence[str]) -> list[str]:
    """What was typed of keys has to be typed again: what is printed ends up in logs."""
    hidden = [without_password(_KEY.sub(r"\1(hidden)", argument)) for argument in arguments]
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
