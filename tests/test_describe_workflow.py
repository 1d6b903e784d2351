"""`aflow-grpo describe workflow`: findings, tree, pictures and exit codes, as a user would ask."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from aflow_grpo.__main__ import main
from aflow_grpo.commands.describe import make_parser
from aflow_grpo.workflow.library import library
from aflow_grpo.workflow.picture import to_mermaid, to_svg, workflow_graph

FAULTY = """class Workflow:
    async def __call__(self, problem):
        r = await self.custm(input=problem)
        s = self.custom(input=problem)
        return r["response"], 0
"""


def described(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["describe", "workflow", *arguments])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_a_fixed_workflow(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = described(capsys, "cascade_review", "--domain", "qa")
    assert (code, err) == (0, "")
    assert out == (
        "cascade_review: valid\n\nWorkflow\n├─ problem\n"
        "├─ [1] answer_generate  ← problem\n"
        '├─ [2] review  ← problem, [1] result["answer"]\n'
        '├─ if review["review_result"]\n'
        "│  └─ yes:\n"
        '│     └─ answer  result["answer"]  ← [1] result["answer"]\n'
        "├─ for _ in range(2), at once\n"
        "│  └─ [3] answer_generate  ← problem\n"
        "├─ [4] sc_ensemble  ← problem, [1] solutions, [3] solutions\n"
        '└─ answer  chosen["response"]  ← [4] chosen["response"]\n'
    )


def test_findings_with_rule_line_and_hint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "faulty.py"
    path.write_text(FAULTY)
    code, out, _ = described(capsys, str(path))
    assert code == 1
    lines = out.split("\n")
    assert lines[0] == f"{path}: invalid, 2 faults"
    assert lines[1].startswith("  line 3: `self.custm` is no operator")
    assert lines[1].endswith("[fault: unknown-operator]")
    assert lines[2] == "      r = await self.custm(input=problem)"
    assert lines[3] == "      → Did you mean `self.custom`?"
    assert "├─ [1] custm  no such operator  ← problem" in lines
    code, out, _ = described(capsys, "code_test", "--domain", "code")
    assert code == 0


def test_pictures_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = workflow_graph(library("math")["sc3"])
    svg, mermaid = tmp_path / "new" / "sc3.svg", tmp_path / "sc3.mmd"
    code, _, err = described(capsys, "sc3", "--svg", str(svg), "--mermaid", str(mermaid))
    assert code == 0 and err == f"wrote {svg}\nwrote {mermaid}\n"
    assert svg.read_text(encoding="utf-8") == to_svg(graph)
    assert mermaid.read_text(encoding="utf-8") == to_mermaid(graph)
    for given in (["--mermaid"], ["--mermaid", "-"]):
        code, out, err = described(capsys, "sc3", *given)
        assert (code, out, err) == (0, to_mermaid(graph), "sc3: valid\n")


def test_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = described(capsys, "sc3", "--json")
    said = json.loads(out)
    assert code == 0 and said["valid"] and said["findings"] == []
    assert [node["title"] for node in said["graph"]["nodes"]] == [
        "problem", "answer_generate", "sc_ensemble", "answer",
    ]  # fmt: skip


def test_what_is_piped_in() -> None:
    command = [sys.executable, "-m", "aflow_grpo", "describe", "workflow", "-"]
    hostile = FAULTY.replace("custm(input=problem)", "custom('\x1b[31m\x07\\ud800')")
    found = subprocess.run(command, input=hostile.encode(), capture_output=True, check=False)
    text = found.stdout.decode()
    assert found.returncode == 1
    assert text.startswith("standard input: invalid") and text.replace("\n", "").isprintable()
    nothing = subprocess.run(command, input=b"", capture_output=True, check=False)
    assert nothing.returncode == 1 and b"the completion is empty" in nothing.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.py"], "'nowhere.py': no such file"),
        (["sc3", "--json", "--mermaid"], "--json and --mermaid both print"),
        (["code_test", "--domain", "math"], "is for code; there is none for math"),
        (["sc3", "--svg", "/proc/nothing/x.svg"], "cannot be written"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = described(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("aflow-grpo describe: ") and said in err and err.count("\n") == 1


def test_help_opens_with_an_example() -> None:
    assert "describe" in make_parser().prog
    command = [sys.executable, "-m", "aflow_grpo", "describe", "workflow", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "aflow-grpo describe workflow self_refine --svg" in " ".join(text.split())


def test_the_svg_is_xml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.svg"
    described(capsys, "self_refine", "--svg", str(path))
    assert ET.parse(path).getroot().attrib["role"] == "img"


def test_it_answers_without_heavy_imports() -> None:
    code = (
        "import sys, aflow_grpo.commands.describe;"
        "print([m for m in ('torch', 'mlflow', 'plotly', 'numpy') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
