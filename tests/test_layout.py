"""The floors stay light, and the shipped files are found."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import aflow_grpo
from aflow_grpo.assets import shipped_path

PACKAGE = Path(aflow_grpo.__file__).parent
HEAVY = ("torch", "transformers", "peft", "lightning", "mlflow", "bitsandbytes")
LIGHT = [
    "records",
    "errors",
    "seeds",
    "assets",
    "data.jsonl",
    "data.sources",
    "data.sampler",
    "data.generate",
    "workflow.parse",
    "workflow.validate",
    "workflow.interpreter",
    "workflow.policy_prompt",
    "workflow.library",
    "sandbox",
    "llm.client",
    "llm.simulator",
    "operators",
    "scoring",
    "execution",
    "rewards",
    "rollout",
    "__main__",
]


def test_light_floors_import_no_heavy_library() -> None:
    imports = "; ".join(f"import aflow_grpo.{name}" for name in LIGHT)
    code = f"import sys; {imports}; print([m for m in {HEAVY!r} if m in sys.modules])"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_no_file_or_function_is_too_long(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name} is too long"


def test_shipped_files_are_found() -> None:
    assert shipped_path("configs/quickstart.yaml").is_file()
    assert shipped_path("data/sample/train.jsonl").is_file()


def test_what_is_not_shipped_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"configs/nothing\.yaml is not shipped"):
        shipped_path("configs/nothing.yaml")
