"""`fit --preflight`: one real iteration that leaves nothing but paid-for answers, and its page."""

import contextlib
import hashlib
import io
import math
import resource
import sqlite3
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from made_rollouts import rollout
from rich.console import Console
from trainer_runs import (
    checkpoint_of,
    journaled_calls,
    metrics_of,
    new_root,
    paid_calls,
    run_ids,
    run_verb,
    write_settings,
)

from aflow_grpo.records import Status, Usage
from aflow_grpo.rewards import RewardSettings
from aflow_grpo.training.forecast import ForecastRange, Phases, Plan, step_figures
from aflow_grpo.training.preflight import (
    Memory,
    PreflightFindings,
    peak_rss_bytes,
    preflight_view,
)

WIDTH = 80
SPENDING = '--trainer.callbacks=[{"class_path": "trainer_runs.Spending"}]'
OWN_FILES = {"journal.db", "journal.db.lock", "run.lock"}
LABELS = (
    "direct execution", "accuracy", "statuses", "prompt tokens", "completion tokens", "groups",
    "memory, peak", "seconds", "time", "list cost",
)  # fmt: skip

# A preflight, the run's first step, a preflight from its checkpoint, the second step


class Said(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str


class Story(NamedTuple):
    """Commands in one run directory, in their order, and what lay there after each."""

    root: Path
    first: Said
    files_after_first: Mapping[str, str]
    calls_after_first: int
    usd_after_first: float
    calls_after_fit: int
    before_second: Mapping[str, str]
    second: Said
    after_second: Mapping[str, str]
    none_left: Said


def files_in(root: Path) -> dict[str, str]:
    """Digest of every file below `root`, by its path in it, but what SQLite keeps while reading."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


def journaled_usd(root: Path) -> float:
    """List cost of the answers that the journal of `root` holds."""
    with contextlib.closing(sqlite3.connect(root / "journal.db")) as database:
        return float(database.execute("select sum(cost_usd) from calls").fetchone()[0])


def said(*arguments: str) -> Said:
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = run_verb(*arguments)
    return Said(code, out.getvalue() + errors.getvalue())


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("preflight")
    settings = write_settings(
        folder,
        trainer__max_steps=40,
        # Both would keep an ordinary trainer at work after its first step.
        trainer__min_steps=3,
        trainer__val_check_interval=1,
        # What a run may always log to and call; a preflight must not.
        trainer__logger={"class_path": "lightning.pytorch.loggers.CSVLogger",
                         "init_args": {"save_dir": str(folder / "csv")}},
        trainer__callbacks=[{"class_path": "trainer_runs.Spending"}],
        model__evaluation__at_start=True,
        model__evaluation__execute_every=1,
        model__grpo__group_size=3,
        progress__quiet=False,
    )  # fmt: skip
    root = folder / "my [bold]run[/bold] :fire:"
    usual = [f"--config={settings}", f"--trainer.default_root_dir={root}"]
    # An ordinary run, apart from what would pay for more than its steps.
    steps_only = [
        "--trainer.logger=null", SPENDING, "--trainer.min_steps=null", "--progress.quiet=true",
        "--trainer.limit_val_batches=0", "--model.evaluation.at_start=false",
        "--model.evaluation.at_end=false",
    ]  # fmt: skip
    last = "--ckpt_path=last"

    first = said("fit", *usual, "--preflight")
    files_after_first = files_in(root)
    calls_after_first, usd_after_first = journaled_calls(root), journaled_usd(root)
    assert not (folder / "csv").exists()
    assert run_verb("fit", *usual, *steps_only, "--trainer.max_steps=1") == 0
    calls_after_fit = journaled_calls(root)
    before_second = files_in(root)
    second = said("fit", *usual, "--preflight", last)
    after_second = files_in(root)
    none_left = said("fit", *usual, "--preflight", last, "--trainer.max_steps=1")
    assert files_in(root) == after_second
    assert run_verb("fit", *usual, *steps_only, last, "--trainer.max_steps=2") == 0
    return Story(
        root, first, files_after_first, calls_after_first, usd_after_first, calls_after_fit,
        before_second, second, after_second, none_left,
    )  # fmt: skip


def test_a_preflight_prints_about_a_screen_that_fits_and_ends_well(story: Story) -> None:
    for code, out in (story.first, story.second):
        assert code == 0, out
        lines = out.splitlines()
        assert len(lines) <= 45
        assert all(len(line) <= WIDTH for line in lines)
        for label in LABELS:
            assert sum(line.strip().startswith(label) for line in lines) == 1, label
        assert "[bold]run[/bold] :fire:" in out.replace("\n", "")


def test_a_preflight_tells_what_it_will_cost(story: Story) -> None:
    text = " ".join(story.first.out.split())
    assert "iteration 1, 6 workflows for 2 problems" in text
    assert "Forecast for 40 iterations" in text
    # Evaluations before and after of 6 problems x 2; 40 quick ones of 6.
    assert f"{40 * 6} in training, {2 * 12 + 40 * 6} in evaluations time" in text
    assert "answers are in the journal: the run will not pay for them again" in text
    assert "model.grpo.group_size=3: rewards are compared" in text


def test_a_preflight_leaves_nothing_but_the_executors_answers(story: Story) -> None:
    assert set(story.files_after_first) == OWN_FILES
    assert story.calls_after_first > 0


def test_a_preflight_pays_for_one_step_and_no_evaluation(story: Story) -> None:
    step_usd = metrics_of(story.root)["train/cost_usd_total", 1]
    assert story.usd_after_first == pytest.approx(step_usd)


def test_what_a_preflight_paid_for_the_run_does_not_pay_for_again(story: Story) -> None:
    assert story.calls_after_fit == story.calls_after_first
    assert paid_calls(story.root) == [0, 0], "calls paid for by the run's first and second step"


def test_a_preflight_from_a_checkpoint_judges_its_policy_and_changes_nothing(story: Story) -> None:
    text = " ".join(story.second.out.split())
    assert "iteration 2, 6 workflows" in text
    assert "Forecast for 39 iterations" in text
    assert f"{39 * 6} in training, {12 + 39 * 6} in evaluations time" in text
    changed = {
        name
        for name in story.before_second.keys() | story.after_second.keys()
        if story.before_second.get(name) != story.after_second.get(name)
    }
    assert changed <= OWN_FILES
    assert "checkpoints/last.ckpt" in story.before_second
    assert len(run_ids(story.root)) == 1
    assert checkpoint_of(story.root)["aflow_grpo"]["iteration"] == 2, "the run went on unhindered"


def test_a_run_without_a_step_left_has_nothing_to_try(story: Story) -> None:
    code, out = story.none_left
    assert code == 2
    assert "aflow-grpo fit --preflight: trainer.max_steps=1: 1 steps are done" in out


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_only_fit_has_a_preflight(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = new_root(tmp_path / "run")
    assert run_verb(verb, f"--trainer.default_root_dir={root}", "--preflight") == 2
    assert "--preflight" in capsys.readouterr().err
    assert not (root / "journal.db").exists()


def test_the_help_of_fit_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("fit", "--help") == 0
    assert "--preflight" in capsys.readouterr().out


# The page

MADE = [
    rollout(group=0, total=9.0, correct=True, usage=Usage(3, 3, 90, 9, 4e-4, 4e-4), seconds=2.0),
    rollout(group=0, member=1, total=-9.0, status=Status.INVALID),
    rollout("qa", group=1, total=-9.0, status=Status.INVALID),
    rollout("qa", group=1, member=1, total=-9.0, status=Status.CUT),
]
FINDINGS = PreflightFindings(
    root="runs/x",
    iteration=1,
    figures=step_figures(MADE, RewardSettings()),
    max_prompt_tokens=640,
    max_new_tokens=384,
    memory=Memory(3 * 2**30),
    phases=Phases(12.4, 2.25, 9.5, 40.0),
    usage=Usage(3, 3, 90, 9, 4e-4, 4e-4),
    replayed=0,
    simulated=False,
    journal=True,
    plan=Plan(500, 32_000, 1_200, 200, 0),
    endless=False,
    forecast=ForecastRange(3600 * 12.34, 3600 * 45.6, 3.456, 28.9),
    warnings=[],
)


def page(found: PreflightFindings) -> str:
    console = Console(file=io.StringIO(), width=WIDTH, highlight=False, markup=False, emoji=False)
    console.print(preflight_view(found))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= WIDTH
    return " ".join(text.split())


def test_the_page_says_what_was_found() -> None:
    text = page(FINDINGS)
    for part in (
        "direct execution 25% of 4 (95 % interval 5% to 70%)",
        "statuses invalid 2, ok 1, cut 1",
        "1 of 2 with a signal, 1 (50%) of zero variance",
        "3.00 GiB of this process",
        "load 12; step 52: sample 2.25, execute 9.50, update 40",
        "3 calls by 1 workflows, list cost $0.0004, billed $0.0004",
        "time 12 to 46 hours (740 to 2736 minutes)",
        "list cost 3.46 to 28.90 USD",
        "if every workflow ran and cost $0.000400, as the 1 did that called the executor",
        "the run will not pay for them again",
        "No warnings.",
    ):
        assert part in text, part
    assert "GPU" not in text and "simulated" not in text and "sets no end" not in text


def test_the_page_of_a_step_in_which_nothing_could_be_judged() -> None:
    masked = [rollout(status=Status.UNAVAILABLE, group=g) for g in (0, 1)]
    figures = step_figures(masked, RewardSettings())
    text = page(replace(FINDINGS, figures=figures, usage=Usage(), journal=True))
    assert "direct execution unknown: no workflow could be judged" in text
    assert "0 of 0 with a signal, 0 of zero variance" in text
    assert "cost $0.000360 (3 calls: assumed, none made any here)" in text
    assert "not pay for them again" not in text


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"memory": Memory(2**30, 12 * 2**30, 80 * 2**30)}, "GPU 12.00 of 80.0 GiB"),
        ({"simulated": True}, "billed nothing"),
        ({"replayed": 2}, "The journal answered 2 of the 3 calls at once"),
        ({"forecast": ForecastRange(36e4, 72e4, 0, 0)}, "time 100 to 200 hours"),
        ({"endless": True}, "(trainer.max_steps=-1 sets no end)"),
        ({"forecast": ForecastRange(60, 60, 0.5, 0.5)}, "list cost about 0.50 USD"),
        ({"root": "[red]a[/red] :fire: " + "very/long" * 20}, "[red]a[/red] :fire:"),
        ({"warnings": ["[link=x]k.e.y[/link]: " + "because " * 40]}, "! [link=x]k.e.y[/link]"),
    ],
)
def test_what_else_the_page_can_say(changes: dict[str, object], part: str) -> None:
    text = page(replace(FINDINGS, **changes))  # type: ignore[arg-type]
    assert part in text


# Memory


def test_the_peak_of_memory_is_in_bytes_on_linux_and_macos() -> None:
    held = bytearray(b"x") * (64 << 20)
    raw = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert peak_rss_bytes("linux") >= raw * 1024
    assert peak_rss_bytes("darwin") == pytest.approx(peak_rss_bytes("linux") / 1024, rel=0.1)
    assert len(held) < peak_rss_bytes() < 2**40
    status = Path("/proc/self/status")
    if sys.platform == "linux" and status.exists():
        (line,) = [row for row in status.read_text().splitlines() if row.startswith("VmHWM")]
        assert math.isclose(peak_rss_bytes(), int(line.split()[1]) * 1024, rel_tol=0.25)
