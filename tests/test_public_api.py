"""What `import aflow_grpo` offers: light, sorted, documented, and what `docs/api.md` says."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import aflow_grpo

HEAVY = ("torch", "transformers", "lightning", "mlflow", "numpy", "openai", "rich", "yaml")
ROOT = Path(__file__).resolve().parents[1]
NAMES = [name for name in aflow_grpo.__all__ if name != "__version__"]


def test_importing_it_costs_nothing() -> None:
    code = (
        "import sys, time; began = time.process_time(); import aflow_grpo\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], time.process_time() - began)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, _, seconds = done.stdout.rpartition(" ")
    assert loaded == "[]"
    assert float(seconds) < 0.1


def test_a_fixed_workflow_answers_without_torch() -> None:
    code = (
        "import sys, aflow_grpo\n"
        "answer = aflow_grpo.solve('What is 17 + 4?', gold='21').answer\n"
        "print(answer is not None, 'torch' in sys.modules, 'lightning' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "False"]


def test_names_are_sorted_and_the_same_for_editors() -> None:
    assert sorted(NAMES) == NAMES and len(set(NAMES)) == len(NAMES)
    assert set(aflow_grpo.__all__) <= set(dir(aflow_grpo))
    tree = ast.parse(Path(aflow_grpo.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        name.name: str(node.module).removeprefix("aflow_grpo.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    assert seen == aflow_grpo._WHERE
    assert list(aflow_grpo._WHERE) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there_and_documented(name: str) -> None:
    thing = getattr(aflow_grpo, name)
    assert thing.__name__ == name
    assert inspect.getdoc(thing) and not (inspect.getdoc(thing) or "").startswith(f"{name}(")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'slove'"):
        aflow_grpo.slove  # noqa: B018


def test_the_page_lists_the_names() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    assert _public_names().with_names(page) == page, "run python docs/public_names.py"


def _public_names() -> ModuleType:
    spec = importlib.util.spec_from_file_location("public_names", ROOT / "docs" / "public_names.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
