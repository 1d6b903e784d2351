"""`aflow-grpo experiment`: what is refused before anything runs."""

from __future__ import annotations

import fcntl
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aflow_grpo.commands.experiment import run_experiment

TEXT = """
question: Is it so?
worlds: {development: [901]}
replicates: 1
arms: {one: {train: false}}
judge: {new: {}}
"""


def write(folder: Path, text: str = TEXT) -> str:
    file = folder / "experiment.yaml"
    file.write_text(text)
    return str(file)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    """What is said, in one line, with that exit code."""
    assert run_experiment(arguments) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("aflow-grpo experiment: ")
    assert told.err.count("\n") == 1
    return told.err


def test_an_unknown_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no experiment of that name" in refused(capsys, "nonsense")


def test_a_folder_that_is_called_like_a_shipped_experiment(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faults").mkdir()
    assert "--workers=0" in refused(capsys, "faults", "--workers=0")
    (tmp_path / "file").touch()
    # The shipped one is found: what is wrong is the output.
    assert "file" in refused(capsys, "faults", "--development", "--output=file", code=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("question: Is it so?", "analysis: guess\nquestion: Why"), "analysis='guess'"),
        (("judge: {new: {}}", "judge: {}"), "sets to judge them on"),
        (("judge: {new: {}}", "judge: {new: }"), "judge.new: expected settings"),
        (("replicates: 1", "replicates: 0"), "replicates=0: expected 1 to 100"),
        (("replicates: 1", "metrics: [luck]"), "there is no 'luck', expected some of direct"),
        (("question: Is it so?", "analysis: trained_vs_fixed\nquestion: Why"), "options.policy"),
        (("arms: {one", "arms: {'a b': , a-b"), "its folder would be that of 'a b'"),
        (("{one: {train: false}}", "{one: {configs: a.yaml}}"), "configs='a.yaml': expected a"),
        (("{one: {train: false}}", "{one: {train: false}, two: {of: one}}"), "trains none"),
        (("{one: {train: false}}", "[one]"), "arms=.*: expected a mapping"),
        (("[901]", "901"), "worlds.development: expected a list of numbers"),
        (("question: Is it so?", "a: 1"), "unknown key 'a'"),
        (("question: Is it so?", ""), "no question"),
    ],
)  # fmt: skip
def test_a_wrong_file_makes_no_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    output = tmp_path / "output"
    file = write(tmp_path, TEXT.replace(*change))
    told = refused(capsys, file, "--development", f"--output={output}")
    assert re.search(message, told), told
    assert not output.exists()


def test_two_in_one_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "development").mkdir()
    hold = (
        "import fcntl, sys\nwith open(sys.argv[1], 'a') as lock:\n"
        "    fcntl.lockf(lock, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    )
    lock = tmp_path / "development" / "experiment.lock"
    other = [sys.executable, "-I", "-c", hold, str(lock)]
    with subprocess.Popen(other, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        told = refused(capsys, write(tmp_path), "--development", f"--output={tmp_path}")
        holder.communicate()
    assert "an experiment is being made there" in told
    with lock.open("a") as free:
        fcntl.lockf(free, fcntl.LOCK_EX | fcntl.LOCK_NB)
