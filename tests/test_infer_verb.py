"""`aflow-grpo infer` by fixed workflows: what it prints, its files, and how it ends."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from trainer_runs import INTERRUPTED, run_verb

from aflow_grpo.assets import shipped_path
from aflow_grpo.commands.infer import make_parser
from aflow_grpo.exits import Exit
from aflow_grpo.workbench.answer_file import AnswerFile
from aflow_grpo.workbench.questions import load_problems
from aflow_grpo.workbench.solving import Solver

SAMPLE = shipped_path("data/sample/val.jsonl").read_text(encoding="utf-8").splitlines()
KEYS = {
    "id", "dataset", "domain", "question", "member", "workflow", "status", "direct", "answered_by",
    "tiers", "answer", "operators", "usage", "cost_usd", "seconds", "findings", "score", "reward",
    "fault_kind", "message", "written_by", "note",
}  # fmt: skip


def write(folder: Path, *lines: str) -> Path:
    path = folder / "asked.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_one_problem_for_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("infer", "--problem", "What is 17 + 4?", "--gold", "21") == Exit.DONE
    out, err = capsys.readouterr()
    titles = [line.split()[0] for line in out.splitlines() if line and not line.startswith(" ")]
    assert titles == ["problem", "workflow", "operators", "answer", "reward"]
    assert "└── answer_generate" in out and "tier simulator" in out and " points" in out
    assert err.startswith("aflow-grpo infer: starting …")


def test_json_is_one_document_and_the_documents_own_options_work(
    capsys: pytest.CaptureFixture[str],
) -> None:
    forms = (("--domain", "--gold"), ("--problem-type", "--ground-truth"),
             ("--problem_type", "--ground_truth"))  # fmt: skip
    asked = [("--problem", "How old is Bo?", d, "qa", g, "21", "--json") for d, g in forms]
    one, other, third = (make_parser().parse_args(list(form)) for form in asked)
    assert one == other == third and (one.domain, one.gold) == ("qa", "21")
    assert run_verb("infer", *asked[1]) == Exit.DONE
    (line,) = capsys.readouterr().out.splitlines()
    row = json.loads(line)
    assert set(row) == KEYS and row["domain"] == "qa" and row["score"] is not None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "expected one of --problem TEXT and --input FILE."),
        (("--problem", "x", "--input", "a", "--output", "b"), "expected one of --problem TEXT"),
        (("--input", "a"), "--input and --output go together"),
        (("--input", "a", "--output", "b", "--gold", "1"), "--gold is for --problem"),
        (("--input", "nope.jsonl", "--output", "b"), "nope.jsonl: no such file"),
        (("--problem", "x", "--domain", "maths"), "--domain=maths: expected one of math, code, qa"),
        (("--problem", "x", "--checkpoint", "nowhere"), "nowhere: no such file or directory"),
        (("--problem", "x", "--llm.budget_us", "1"), "Did you mean llm.budget_usd?"),
        (("--problem", "x", "--samples", "-1"), "--samples=-1: expected 0"),
        (("--problem", "x", "--config", "configs/llm/openai.yaml"), "No API key for tier"),
    ],
)
def test_bad_input_is_a_line_and_exit_code_2(
    arguments: tuple[str, ...],
    told: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    try:
        code = run_verb("infer", *arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    assert code == Exit.USAGE and out == "" and "Traceback" not in err
    assert told in err
    assert sum(line.startswith("aflow-grpo infer: ") for line in err.splitlines()) <= 2


def test_no_answer_is_exit_code_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("class Workflow:\n    async def __call__(self, problem):\n        return 1/0")
    assert run_verb("infer", "--problem", "1 + 1?", "--workflow", broken) == Exit.FAILED
    assert "nobody answered" in capsys.readouterr().out


def test_a_file_is_answered_and_bad_rows_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = write(tmp_path, *SAMPLE[:5], '{"question": 3}', '{"problem": "1 + 1?"}')
    output = tmp_path / "new" / "answers.jsonl"
    code = run_verb("infer", "--input", asked, "--output", output, "--domain", "math")
    out, err = capsys.readouterr()
    assert code == Exit.FAILED  # a row is bad
    assert f"{asked}, line 6, field 'question': found int 3" in err
    answered = rows(output)
    wanted = {json.loads(line)["id"] for line in SAMPLE[:5]} | {"asked.jsonl/7"}
    assert {row["id"] for row in answered} == wanted and len(answered) == 6
    assert {row["reward"] is None for row in answered if row["id"] == "asked.jsonl/7"} == {True}
    assert out.startswith("6 answers, 100% ran as written") and " of 5 right" in out


def test_what_is_there_is_not_asked_again_and_half_a_line_is_cut_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = '{"question": "How much is 5 + 6?", "domain": "math", "gold": 11}'
    asked, output = write(tmp_path, own, *SAMPLE[:5]), tmp_path / "answers.jsonl"
    assert run_verb("infer", "--input", asked, "--output", output) == Exit.DONE
    whole = output.read_bytes().splitlines(keepends=True)
    output.write_bytes(b"".join(whole[:4]) + whole[4][:30])
    assert run_verb("infer", "--input", asked, "--output", output) == Exit.DONE
    out = capsys.readouterr().out.splitlines()[-1]
    assert out.startswith("2 answers and 4 that were there already")
    again = output.read_bytes().splitlines(keepends=True)
    assert again[:4] == whole[:4] and len(again) == 6
    usage = [json.loads(line)["usage"] for line in again[4:]]
    assert all(u["billed_usd"] == 0 < u["cost_usd"] for u in usage)  # the journal had them


def test_two_policies_two_questions_and_two_processes_are_kept_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked, output = write(tmp_path, SAMPLE[0]), tmp_path / "answers.jsonl"
    arguments = ("infer", "--input", asked, "--output", output)
    assert run_verb(*arguments) == Exit.DONE
    assert run_verb(*arguments, "--workflow", "io") == Exit.USAGE
    assert "would be of the fixed workflow `io`. Give another" in capsys.readouterr().err
    row = json.loads(SAMPLE[0])
    write(tmp_path, json.dumps({**row, "question": "Something else?"}))
    assert run_verb(*arguments) == Exit.USAGE
    assert f"line 1 answers another question under the id {row['id']!r}" in capsys.readouterr().err
    problem = load_problems("sample", "val")[:1]
    with Solver() as solver, AnswerFile(solver, problem, output):
        code = _elsewhere(*map(str, arguments))
    assert code.returncode == Exit.USAGE and "another process is writing it" in code.stderr
    output.write_text("# notes\n")
    assert run_verb(*arguments) == Exit.USAGE
    assert "line 1 is no answer of this verb" in capsys.readouterr().err
    assert output.read_text() == "# notes\n"


def _elsewhere(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aflow_grpo", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_a_signal_leaves_whole_lines_and_the_same_command_continues(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked, output = write(tmp_path, *SAMPLE[:8]), tmp_path / "answers.jsonl"
    arguments = ("infer", "--input", str(asked), "--output", str(output))
    slowly = ("--llm.simulator.latency_ms", "300", "--rollout.rollout.concurrency", "1", "--json")
    command = [sys.executable, "-m", "aflow_grpo", *arguments, *slowly]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        first = json.loads(process.stdout.readline())
        process.send_signal(signal.Signals[name])
        process.stdout.read()
        err = process.stderr.read()
    assert process.returncode == (INTERRUPTED if name == "SIGINT" else -signal.SIGKILL)
    kept = rows(output)
    assert kept[0] == {**first, "samples": 0} and len(kept) < 8
    if name == "SIGINT":
        assert f"{len(kept)} of 8 answers are in {output}; the same command continues." in err
        with sqlite3.connect(f"{output}.journal.db") as journal:
            assert journal.execute("select count(*) from calls").fetchone()[0] >= len(kept)
    assert run_verb(*arguments) == Exit.DONE
    capsys.readouterr()
    assert rows(output)[: len(kept)] == kept and len({row["id"] for row in rows(output)}) == 8


def test_sampled_and_most_probable_real_and_made_up_are_not_mixed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked, output = write(tmp_path, *SAMPLE[:1]), tmp_path / "answers.jsonl"
    common = ("--input", str(asked), "--output", str(output))
    assert run_verb("infer", *common) == Exit.DONE
    before = output.read_bytes()
    assert run_verb("infer", *common, "--samples", "2") == Exit.USAGE
    assert "--samples 0" in capsys.readouterr().err
    output.write_bytes(before.replace(b'"simulator"', b'"primary"'))
    assert run_verb("infer", *common) == Exit.USAGE
    assert "are of a real one, and this command's would be" in capsys.readouterr().err
