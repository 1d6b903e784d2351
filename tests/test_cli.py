"""The trainer verbs from the outside: exit codes, messages, metrics, signals.

Exit codes: 0 done, 2 wrong usage or settings, 130 Ctrl-C, 143 SIGTERM.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from trainer_runs import (
    INTERRUPTED,
    TERMINATED,
    checkpoint_of,
    metrics_of,
    new_root,
    run_ids,
    run_verb,
    write_settings,
)

from aflow_grpo.records import DOMAINS

HEADLINE = (
    "direct_execution_rate",
    "direct_execution_rate_greedy",
    "accuracy",
    "reward",
    "cost_usd_per_problem",
    "fallback_rate",
)
HEAVY = ("torch", "lightning", "transformers", "mlflow", "jsonargparse")
PATIENCE_S = 120
"""For a process to import everything on a busy machine."""


# Usage


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, "aflow-grpo fit --config"),
        (["--version"], 0, "."),
        ([], 2, "usage: aflow-grpo"),
        (["train"], 2, "there is no verb 'train'"),
    ],
)
def test_the_front_door_answers_without_a_heavy_import(
    arguments: list[str], code: int, said: str
) -> None:
    program = (
        "import sys; from aflow_grpo.__main__ import main; code = main(sys.argv[1:]); "
        f"assert not [m for m in {HEAVY!r} if m in sys.modules]; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    assert said in (done.stderr if arguments == ["train"] else done.stdout)


def test_a_verbs_help_lists_our_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("fit", "--help") == 0
    shown = capsys.readouterr().out
    for option in ("--model.grpo.group_size", "--rollout.rollout.concurrency", "--ckpt_path"):
        assert option in shown
    assert "Workflows sampled per problem" in shown


WRONG = [
    (["--config", "nowhere.yaml"], "nowhere.yaml"),
    (["--config", "{tmp}/unknown.yaml"], "Did you mean model.grpo.group_size?"),
    (["--config", "{tmp}/broken.yaml"], "Problems parsing config"),
    (["--model.grpo.group_siz", "4"], "Did you mean model.grpo.group_size?"),
    (["--model.grpo.group_size", "many"], "Expected a <class 'int'>. Got value: many"),
    (["--model.grpo.group_size", "1"], "model.grpo.group_size=1: expected at least 2"),
    (["--model.policy.init_args.modle", "x"], "'modle' is not accepted"),
    (["--model.policy.model", "/nowhere/at/all"], "no such folder"),
    (["--data.train", "[{dataset: jsonl, path: nowhere.jsonl}]"], "no such file"),
    (["--rollout.simulator", "null"], "rollout.tiers is empty and rollout.simulator is null"),
    (["--ckpt_path", "last"], "last.ckpt does not exist"),
    (["surplus"], "unrecognized arguments: surplus"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_setting_is_explained_in_a_few_lines(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "unknown.yaml").write_text("model: {grpo: {group_siz: 4}}\n")
    (tmp_path / "broken.yaml").write_text("model:\n  - grpo: [\n")
    root = new_root(tmp_path / "run")
    given = [
        argument.format(tmp=tmp_path) if "{tmp}" in argument else argument for argument in arguments
    ]
    assert run_verb("fit", f"--trainer.default_root_dir={root}", *given) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert error.startswith("aflow-grpo fit: ")
    assert len(error.splitlines()) <= 6 and "Traceback" not in error
    assert not (root / "checkpoints").exists()


# One run directory, three verbs


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory in which one step was trained, then validated, then tested."""
    folder = tmp_path_factory.mktemp("judged")
    settings = write_settings(folder, trainer__max_steps=1, model__evaluation__at_start=True)
    root = folder / "run"
    common = [f"--config={settings}", f"--trainer.default_root_dir={root}"]
    assert run_verb("fit", *common) == 0
    for verb in ("validate", "test"):
        assert run_verb(verb, *common, "--ckpt_path=last") == 0
    yield root


def headline(split: str) -> set[str]:
    """Names of the headline metrics, in total and per domain."""
    return {
        f"{split}/{name}{end}" for name in HEADLINE for end in ("", *(f"/{d}" for d in DOMAINS))
    }


def test_fit_logs_the_headline_metrics_at_its_start_and_its_end(judged: Path) -> None:
    logged = metrics_of(judged)
    for step in (0, 1):
        assert headline("val") <= {name for name, at in logged if at == step}
    assert all(0 <= logged[f"val/{name}", 1] <= 1 for name in HEADLINE if name.endswith("rate"))


def test_validate_and_test_judge_the_checkpoint_in_runs_of_their_own(judged: Path) -> None:
    fit, validated, tested = (metrics_of(judged, verb) for verb in ("fit", "validate", "test"))
    assert headline("val") <= {name for name, step in validated if step == 1}
    assert headline("test") <= {name for name, step in tested if step == 1}
    # The same policy, problems and seeds as the fit's last evaluation, so the same figures.
    assert {key: fit[key] for key in validated} == validated
    assert len({*run_ids(judged), *run_ids(judged, "validate"), *run_ids(judged, "test")}) == 3


def test_the_checkpoint_is_not_changed_by_judging_it(judged: Path) -> None:
    assert checkpoint_of(judged)["aflow_grpo"]["iteration"] == 1
    assert os.listdir(judged / "checkpoints") == ["last.ckpt"]


def test_what_was_trained_differs_from_what_was_there_before(judged: Path) -> None:
    from aflow_grpo.policy.policy import Policy

    policy = Policy("tiny")
    policy.setup()
    before = policy.trainable_state_dict()
    after = checkpoint_of(judged)["state_dict"]
    assert {f"policy.{name}" for name in before} == after.keys()
    assert any(not torch.equal(before[name], after[f"policy.{name}"]) for name in before)


# Signals


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        (signal.SIGINT, INTERRUPTED, "interrupted"),
        (signal.SIGTERM, TERMINATED, "terminated"),
    ],
)
def test_a_signal_ends_the_run_soon_cleanly_and_resumably(
    name: signal.Signals, code: int, said: str, tmp_path: Path
) -> None:
    """As from a terminal (Ctrl-C reaches the whole process group) and from a scheduler."""
    root = new_root(tmp_path / "run")
    settings = write_settings(tmp_path, trainer__max_steps=10_000, progress__quiet=False)
    arguments = [f"--config={settings}", f"--trainer.default_root_dir={root}"]
    process = subprocess.Popen(
        # Slow answers: the signal comes while workflows are executing.
        [
            sys.executable,
            "-m",
            "aflow_grpo",
            "fit",
            *arguments,
            "--rollout.simulator.latency_ms=200",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    watchdog = threading.Timer(PATIENCE_S, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        assert any(re.match(r"step 1/", line) for line in process.stdout), process.stderr
        family = psutil.Process(process.pid).children(recursive=True)
        started = time.monotonic()
        if name is signal.SIGINT:
            os.killpg(process.pid, name)
        else:
            process.send_signal(name)
        _, errors = process.communicate()
        seconds = time.monotonic() - started
    finally:
        watchdog.cancel()
        process.kill()
    assert (process.returncode, "Traceback" in errors) == (code, False), errors
    assert f"aflow-grpo fit: {said}." in errors and "--ckpt_path last" in errors
    assert seconds < 10
    assert len(family) >= 3, "simulator, sandbox and interpreter"
    _, alive = psutil.wait_procs(family, timeout=5)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    assert checkpoint_of(root)["aflow_grpo"]["iteration"] >= 1
