"""What a person sees: the table in 80 columns, progress on a terminal and in a log, commands."""

from __future__ import annotations

import io
import itertools
import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import pytest
import torch
from executed_world import closed_port_tier
from lightning.pytorch.trainer.states import TrainerFn
from made_rollouts import rollout
from pseudo_terminal import HIDE, SHOW, PseudoTerminal
from rich.console import Console

from aflow_grpo.data.sources import DataSource
from aflow_grpo.intervals import wilson_interval
from aflow_grpo.llm.settings import LLMSettings
from aflow_grpo.policy import Policy
from aflow_grpo.records import DOMAINS
from aflow_grpo.training.datamodule import WorkflowDataModule
from aflow_grpo.training.metrics import rollout_metrics
from aflow_grpo.training.module import GRPOModule
from aflow_grpo.training.progress import ProgressReporter
from aflow_grpo.training.report import evaluation_table, table_note
from aflow_grpo.training.rollout_callback import RolloutCallback
from aflow_grpo.training.settings import EvaluationSettings
from aflow_grpo.training.tracking import RunLogger

# MLflow's own doing.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload``:DeprecationWarning")

RATES = ("direct_execution_rate", "accuracy", "fallback_rate")


def figures(rate: float, reward: float, cost: float, split: str = "val") -> dict[str, float]:
    """All figures that the table shows, with one value for each kind."""
    found = {}
    for suffix, domain in itertools.product(("", "_greedy"), ("", *(f"/{d}" for d in DOMAINS))):
        found |= {f"{split}/{name}{suffix}{domain}": rate for name in RATES}
        found[f"{split}/reward{suffix}{domain}"] = reward
        found[f"{split}/cost_usd_per_problem{suffix}{domain}"] = cost
        found[f"{split}/problems{suffix}{domain}"] = 30
        for name in (*RATES[:2], "reward"):
            low, high = (reward - 1, reward + 1) if name == "reward" else wilson(rate)
            end = f"{name}{suffix}{domain.replace('/', '.')}"
            found |= {f"{split}/ci95_low/{end}": low, f"{split}/ci95_high/{end}": high}
    return found


def wilson(rate: float) -> tuple[float, float]:
    return wilson_interval(30 * rate, 30)


def rendered(table: Any, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


# The table


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (figures(0.0, -10.0, 0.0), figures(1.0, 10.0, 0.01)),
        (figures(1.0, 10.0, 0.09999), figures(1.0, -10.0, 0.09999)),
        (figures(0.004, -9.99, 1e-7), figures(0.996, 9.99, 2e-4)),
        ({}, figures(1.0, 10.0, 0.01)),
        (None, figures(1.0, -10.0, 0.09999)),
    ],
)
def test_the_table_fits_into_80_columns_and_nothing_is_cut(
    before: dict[str, float] | None, after: dict[str, float]
) -> None:
    text = rendered(evaluation_table("Validation", "val", after, before))
    assert "…" not in text
    assert text == rendered(evaluation_table("Validation", "val", after, before), width=400)
    assert max(map(len, text.splitlines())) <= 80


def test_the_table_shows_every_figure_in_total_and_by_domain() -> None:
    after = figures(0.5, 1.25, 2e-4)
    after |= {"val/reward/qa": -3.0, "val/accuracy_greedy/math": 0.75}
    text = rendered(evaluation_table("After", "val", after, figures(0.1, -2.0, 1e-4)))
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert rows[0] == "After" and rows[1] == " ".join(["all", *DOMAINS])
    sampled, greedy = rows.index("sampled" + " n = 30" * 4), rows.index("greedy" + " n = 30" * 4)
    rates = [f"{label}{' 10% → 50%' * 4}" for label in ("direct", "accuracy")]
    assert rows[sampled + 1 :: 2][:2] == rates
    # 3 of 30 and 15 of 30, by Wilson.
    assert set(rows[sampled + 2 :: 2][:2]) == {" ".join(["3–26 → 33–67"] * 4)}
    assert rows[sampled + 5 : greedy] == [
        "reward -2.0 → 1.2 -2.0 → 1.2 -2.0 → 1.2 -2.0 → -3.0",
        " ".join(["±1.0 → ±1.0"] * 4),
        "fallback" + " 10% → 50%" * 4,
        "USD / 1000" + " 0.10 → 0.20" * 4,
    ]
    assert rows[greedy + 3] == "accuracy 10% → 50% 10% → 75% 10% → 50% 10% → 50%"


def test_what_an_older_checkpoint_does_not_have_is_left_open() -> None:
    after = figures(0.5, 1.0, 2e-4)
    before = {k: v for k, v in after.items() if "ci95" not in k and "problems" not in k}
    text = rendered(evaluation_table("", "val", after, before))
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert " ".join(["– → 33–67"] * 4) in rows
    bare = rendered(evaluation_table("", "val", before, before))
    assert "–" not in bare and "n =" not in bare
    assert table_note("val", before, 5) == "" and "5 sampled" in table_note("val", after, 5)
    assert max(map(len, table_note("val", after, 16).splitlines())) <= 80


def test_a_figure_that_is_missing_is_a_dash_and_a_domain_that_is_missing_no_column() -> None:
    text = rendered(evaluation_table("Test", "test", {"test/accuracy": 0.5, "test/accuracy/qa": 1}))
    (line,) = [line for line in text.splitlines() if "accuracy" in line]
    assert line.split()[-2:] == ["50%", "100%"]
    (line,) = [line for line in text.splitlines() if "reward" in line]
    assert line.split()[-2:] == ["–", "–"]
    assert "math" not in text and "code" not in text


# The reporter, driven as Lightning drives it


class Stage(NamedTuple):
    """A trainer with everything open, a module, and the reporter under test."""

    trainer: L.Trainer
    module: GRPOModule
    reporter: ProgressReporter

    @property
    def rollouts(self) -> RolloutCallback:
        """Whom `collect` asks who is to be told."""
        callback = self.trainer.callbacks[0]  # type: ignore[attr-defined]
        assert isinstance(callback, RolloutCallback)
        return callback

    def step(self, metrics: dict[str, float]) -> None:
        """One training iteration, as the reporter sees it."""
        self.reporter.on_train_batch_start(self.trainer, self.module, [], self.module.iteration)
        self.module.iteration += 1
        self.trainer.callback_metrics.update({k: torch.tensor(v) for k, v in metrics.items()})
        self.reporter.on_train_batch_end(self.trainer, self.module, None, [], self.module.iteration)


def stage_in(root: Path, reporter: ProgressReporter, logger: Any = False) -> Stage:
    tier = closed_port_tier(model="gpt-4o-mini")
    rollouts = RolloutCallback(LLMSettings(tiers=[tier], journal=False, check_endpoints=False))
    trainer = L.Trainer(
        max_steps=40, accelerator="cpu", logger=logger, default_root_dir=root,
        callbacks=[rollouts, reporter], enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    data = WorkflowDataModule(val=[DataSource("sample", split="val", limit=7)])
    data.setup("validate")
    trainer.datamodule = data
    module = GRPOModule(Policy("tiny"), evaluation=EvaluationSettings(samples=2))
    return Stage(trainer, module, reporter)


@pytest.fixture
def opened(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A stage with the executor's client open; its parameters are the reporter's settings."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    stage = stage_in(tmp_path, ProgressReporter(**getattr(request, "param", {})))
    stage.rollouts.setup(stage.trainer, stage.module, "fit")
    stage.reporter.setup(stage.trainer, stage.module, "fit")
    stage.module.policy.setup()
    yield stage
    stage.reporter.on_exception(stage.trainer, stage.module, KeyboardInterrupt())
    stage.rollouts.close()
    torch.set_num_threads(threads)


TRAINED = rollout_metrics([rollout(total=9.0, correct=True), rollout(total=-2.5)], "train")


@pytest.mark.parametrize("opened", [{"every_n_iterations": 4}], indirect=True)
def test_plain_lines_now_and_then_where_there_is_no_terminal(
    opened: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    opened.reporter.on_fit_start(opened.trainer, opened.module)
    opened.reporter.on_train_start(opened.trainer, opened.module)
    for _ in range(9):
        opened.step(TRAINED)
    opened.reporter.on_train_end(opened.trainer, opened.module)
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == "Policy    tiny (qwen2, float32): 100.00 % of 0.87 M parameters trained"
    assert lines[1].startswith("Executor  gpt-4o-mini; operator code in: ")
    assert lines[2] == f"Run       {opened.trainer.default_root_dir}"
    assert lines[3:] == [
        "Judging the policy before training: 7 problems, 21 workflows …",
        "Judging the policy after training: 7 problems, 21 workflows …",
    ]
    *steps, last = said.err.splitlines()
    assert [line.split(",")[0] for line in steps] == [f"training: {n}/40" for n in (1, 4, 8)]
    assert steps[0].endswith("0:00 left  reward +3.25  direct 100%  accuracy 50%  $0.000")
    assert last.startswith("training: 9/40 in 0:0")


def test_a_resumed_run_starts_its_pace_anew(
    opened: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    opened.module.iteration = 29
    opened.reporter.on_train_start(opened.trainer, opened.module)
    opened.step(TRAINED)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("training: 30/40, ") and "reward +3.25" in line


def test_a_step_in_which_the_executor_was_down_is_told(
    opened: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    opened.step({"train/status/unavailable": 1.0})
    said = capsys.readouterr().err
    assert "training: 1/40" in said
    assert "no workflow could be judged: the executor was unavailable" in said


@pytest.mark.parametrize("opened", [{"quiet": True}], indirect=True)
def test_quiet_shows_the_final_table_only(
    opened: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    opened.reporter.on_fit_start(opened.trainer, opened.module)
    opened.reporter.on_train_start(opened.trainer, opened.module)
    opened.step(TRAINED)
    opened.reporter.on_train_end(opened.trainer, opened.module)
    assert "".join(capsys.readouterr()) == ""
    opened.module.evaluations = [figures(0.1, -8, 1e-4), figures(0.9, 6, 2e-4)]
    opened.module.example = rollout()
    opened.reporter.on_fit_end(opened.trainer, opened.module)
    out = capsys.readouterr().out
    assert "before → after 1 steps" in out and "10% → 90%" in out
    assert "One workflow" not in out


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], PseudoTerminal]]:
    """Makes stderr a terminal; to be called in the test, since pytest sets stderr before it."""
    terminal = PseudoTerminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    with os.fdopen(os.dup(terminal.slave), "w") as stderr:

        def begin() -> PseudoTerminal:
            monkeypatch.setattr("sys.stderr", stderr)
            return terminal

        yield begin
    terminal.close()


def test_a_terminal_gets_live_lines_that_an_exception_ends(
    opened: Stage, live: Callable[[], PseudoTerminal], capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = live()
    for _ in range(3):
        opened.step(TRAINED)
    watch = opened.rollouts.watch("train", 8, executed=True)
    watch.written()
    terminal.wait_for("written 1/8, executed 0")
    watch.ended(rollout())
    terminal.wait_for("written 1/8, executed 1")
    watch.over()
    terminal.wait_for("learning")
    opened.reporter.on_exception(opened.trainer, opened.module, KeyboardInterrupt())
    terminal.wait_for(SHOW)
    shown = terminal.shown
    assert shown.count(HIDE) == shown.count(SHOW) == 1 and shown.index(HIDE) < shown.index(SHOW)
    assert "training" in shown and "3/40" in shown and "reward +3.25" in shown
    assert capsys.readouterr().out == "", "a plain line beside the live one"
    opened.reporter.on_exception(opened.trainer, opened.module, KeyboardInterrupt())


def test_an_evaluation_is_shown_as_its_workflows_are_written_and_executed(
    opened: Stage, live: Callable[[], PseudoTerminal]
) -> None:
    terminal = live()
    opened.reporter.on_train_start(opened.trainer, opened.module)
    watch = opened.rollouts.watch("val/greedy", 7, executed=True)
    for _ in range(7):
        watch.written()
    terminal.wait_for("0/21")
    for number in range(4):
        watch.ended(rollout(total=4.0, correct=number < 1))
    terminal.wait_for("reward +4.00  direct 100%  accuracy 25%  $0.000  written 7/7, executed 4")
    assert "judging before  " in terminal.shown and "━━━━━───" in terminal.shown
    watch.over()  # three were too late: they will not be waited for
    terminal.wait_for("7/21")
    opened.reporter.on_exception(opened.trainer, opened.module, KeyboardInterrupt())


def test_a_validation_between_two_steps_is_told_from_training(
    opened: Stage, live: Callable[[], PseudoTerminal]
) -> None:
    terminal = live()
    opened.step(TRAINED)
    watch = opened.rollouts.watch("val/greedy", 5, executed=False)
    watch.written()
    terminal.wait_for("validating, checking 1/5")
    watch.over()
    opened.reporter.on_exception(opened.trainer, opened.module, KeyboardInterrupt())
    assert "1/40" in terminal.shown and "2/40" not in terminal.shown


def test_an_evaluation_that_nobody_announced_is_shown_too(
    opened: Stage, live: Callable[[], PseudoTerminal]
) -> None:
    """As when a run is continued that was stopped in its last evaluation."""
    terminal = live()
    watch = opened.rollouts.watch("val/greedy", 5, executed=True)
    watch.ended(rollout())
    terminal.wait_for("judging  1")
    opened.reporter.on_fit_end(opened.trainer, opened.module)


@pytest.mark.parametrize(("fn", "shown"), [(TrainerFn.VALIDATING, 1), (TrainerFn.FITTING, 0)])
def test_validation_ends_with_the_table_but_not_in_the_middle_of_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fn: TrainerFn, shown: int
) -> None:
    stage = stage_in(tmp_path, ProgressReporter())
    stage.trainer.state.fn = fn
    after = figures(0.5, 2.0, 1e-4)
    stage.trainer.callback_metrics.update({k: torch.tensor(v) for k, v in after.items()})
    stage.reporter.on_validation_end(stage.trainer, stage.module)
    assert capsys.readouterr().out.count("accuracy") == 2 * shown


# The end of fit


def end_of_fit(
    root: Path, argv: list[str], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, logger: Any = False,
) -> list[str]:  # fmt: skip
    monkeypatch.setattr("sys.argv", argv)
    stage = stage_in(root, ProgressReporter(), logger)
    stage.module.iteration = 3
    stage.module.evaluations = [figures(0.25, 1.0, 1e-4)]
    stage.reporter.on_fit_end(stage.trainer, stage.module)
    return capsys.readouterr().out.splitlines()


def test_next_commands_can_be_copied_whatever_the_paths_hold(
    runs_root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = runs_root
    overlay = str(root / "my [config].yaml")
    argv = ["aflow-grpo", "fit", "--config", "configs/quickstart.yaml", f"--config={overlay}"]
    argv += ["-c", "last one.yaml", "--trainer.max_steps", "3"]
    argv += ["--ckpt_path", "last", "--trainer.default_root_dir=elsewhere"]
    lines = end_of_fit(root, argv, capsys, monkeypatch, logger=RunLogger(root))
    assert f"Run directory: {root}" in lines
    mlflow, test = [shlex.split(line) for line in lines[-2:]]
    assert mlflow == ["mlflow", "ui", "--backend-store-uri", f"sqlite:///{root}/mlflow.db"]
    assert test == [
        "aflow-grpo", "test", "--config", "configs/quickstart.yaml", f"--config={overlay}",
        "-c", "last one.yaml", "--trainer.max_steps", "3", "--trainer.default_root_dir", str(root),
        "--ckpt_path", "last",
    ]  # fmt: skip


def test_next_commands_hide_what_was_typed_as_a_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["aflow-grpo", "fit", "--llm.tiers=[{name: a, api_key: sk-1, api_key_env: A_KEY}]"]
    argv += ['--llm.tiers=[{"api_key": "sk-2"}, {"api_key": "$NAME"}]']
    argv += ["--model.policy.tier.api_key", "sk-3", "--model.policy.tier.api_key=sk-4"]
    test = shlex.split(end_of_fit(tmp_path, argv, capsys, monkeypatch)[-1])
    assert test[2:7] == [
        "--llm.tiers=[{name: a, api_key: (hidden), api_key_env: A_KEY}]",
        '--llm.tiers=[{"api_key": "(hidden)"}, {"api_key": "$NAME"}]',
        "--model.policy.tier.api_key", "(hidden)", "--model.policy.tier.api_key=(hidden)",
    ]  # fmt: skip


def test_without_mlflow_no_command_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = end_of_fit(tmp_path, ["aflow-grpo", "fit"], capsys, monkeypatch)
    assert not [line for line in lines if "mlflow ui" in line]
    assert lines[-1].strip() == (
        f"aflow-grpo test --trainer.default_root_dir {tmp_path} --ckpt_path last"
    )


def test_one_evaluation_is_no_before_and_after(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "\n".join(end_of_fit(tmp_path, ["aflow-grpo", "fit"], capsys, monkeypatch))
    assert "Validation, after 3 steps" in text
    assert "25%" in text and "→" not in text
