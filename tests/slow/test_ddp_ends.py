"""Two ranks that Lightning has started: however one ends, both do, soon and leaving nothing.

Each run is made by a command of its own, as a user gives it, and ended at the second of its steps.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from rank_processes import LAUNCHED, fit_on_ranks, left_behind
from trainer_runs import checkpoint_of, metrics_of, new_root, run_ids, run_verb, write_settings

pytestmark = pytest.mark.slow
TESTS = Path(__file__).parents[1]
STEPS = 4
ENDS = [
    (1, "raise", 1, "rank 1 ended with exit code 1; its own message says why."),
    (1, "SIGTERM", 1, "rank 1 was stopped by SIGTERM."),
    (1, "SIGKILL", 1, "rank 1 was killed by SIGKILL."),
    (0, "SIGTERM", 143, "aflow-grpo fit: terminated."),
    (0, "SIGINT", 130, "aflow-grpo fit: interrupted."),
    (0, "SIGKILL", -9, ""),
]
"""(rank, what happens to it, exit code of the command, what it says)."""


def launch(settings: Path, root: Path, *more: str) -> "subprocess.Popen[str]":
    arguments = ["fit", f"--config={settings}", f"--trainer.default_root_dir={root}", *LAUNCHED]
    return subprocess.Popen(
        [sys.executable, "-m", "aflow_grpo", *arguments, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        start_new_session=True,  # a Ctrl-C of the test's is for this group alone
    )


def failing(rank: int, how: str) -> str:
    init = f"{{rank: {rank}, iteration: 1, how: {how}}}"
    return f"--trainer.callbacks=[{{class_path: rank_processes.Failing, init_args: {init}}}]"


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    return write_settings(tmp_path, trainer__max_steps=STEPS, checkpoint__every_n_iterations=1)


@pytest.mark.parametrize(
    ("rank", "how", "code", "said"), ENDS, ids=[f"{r}-{h}" for r, h, *_ in ENDS]
)
def test_both_end_and_the_run_continues_afterwards(
    settings: Path, tmp_path: Path, rank: int, how: str, code: int, said: str
) -> None:
    root = new_root(tmp_path / "run")
    command = launch(settings, root, failing(rank, how))
    out, error = command.communicate(timeout=240)
    assert command.returncode == code, error
    assert said in error
    assert out.count("loading") == 1
    wait_until_gone(root, 0.0 if code != -9 else 15.0)
    assert checkpoint_of(root)["aflow_grpo"]["iteration"] == 1
    assert run_verb("fit", f"--config={settings}", f"--trainer.default_root_dir={root}",
                    "--ckpt_path=last") == 0  # fmt: skip
    assert checkpoint_of(root)["aflow_grpo"]["iteration"] == STEPS
    assert len(run_ids(root)) == 1


def test_ctrl_c_on_a_terminal_reaches_both_and_the_first_decides(
    settings: Path, tmp_path: Path
) -> None:
    root = new_root(tmp_path / "run")
    command = launch(settings, root)
    while not (root / "checkpoints" / "last.ckpt").exists():
        assert command.poll() is None
        time.sleep(0.1)
    os.killpg(command.pid, signal.SIGINT)
    _, error = command.communicate(timeout=60)
    assert command.returncode == 130, error
    assert error.count("interrupted") == 1
    wait_until_gone(root, 0.0)


def test_a_run_of_one_process_continues_on_two(settings: Path, tmp_path: Path) -> None:
    root, straight = new_root(tmp_path / "run"), new_root(tmp_path / "straight")
    arguments = [f"--config={settings}", f"--trainer.default_root_dir={root}"]
    assert run_verb("fit", *arguments, failing(0, "SIGINT")) == 130
    assert fit_on_ranks(settings, root, "--ckpt_path=last") == [0, 0]
    assert run_verb("fit", arguments[0], f"--trainer.default_root_dir={straight}") == 0
    assert metrics_of(root) == pytest.approx(metrics_of(straight), rel=1e-5)


def wait_until_gone(root: Path, timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while (rest := left_behind(root)) and time.monotonic() < end:
        time.sleep(0.2)
    assert not rest, [process.pid for process in psutil.process_iter()]
