"""The notebook of the documentation, run in a real Jupyter kernel, where an event loop runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "notebooks" / "first-steps.ipynb"
PATIENCE_S = 300
"""For one cell, on a busy machine."""


def text_of(cell: Any) -> str:
    """What a cell printed or showed as text."""
    shown = [output.get("text", "") for output in cell.outputs]
    shown += [output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "".join(shown)


def test_it_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells and all(not cell.outputs and cell.execution_count is None for cell in cells)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning:zmq")
def test_every_cell_runs_in_a_kernel(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(
        notebook, timeout=PATIENCE_S, kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()  # fmt: skip
    solved, drawn, trained, used, looked = [
        cell for cell in notebook.cells if cell.cell_type == "code"
    ]
    assert "answer_generate" in text_of(solved) and "of 10" in text_of(solved)
    assert any("image/svg+xml" in output.get("data", {}) for output in drawn.outputs)
    assert "val/accuracy: " in text_of(trained)
    lines = text_of(used).splitlines()
    assert len([line for line in lines if line.split()[0] in ("math", "code", "qa")]) == 6
    assert "first-steps" in text_of(looked)
    assert (tmp_path / "first-steps.html").stat().st_size > 10_000
    assert (tmp_path / "runs" / "first-steps" / "checkpoints" / "last.ckpt").is_file()
