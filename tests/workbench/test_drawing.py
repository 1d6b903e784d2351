"""`draw`: a workflow from wherever it is, as a picture for a program or a notebook."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from aflow_grpo.errors import ConfigError
from aflow_grpo.records import WorkflowSource
from aflow_grpo.workbench.drawing import draw, read_workflow
from aflow_grpo.workflow.library import library
from aflow_grpo.workflow.picture import to_mermaid, to_outline, to_svg, workflow_graph

DOCS = Path(__file__).parents[2] / "docs"
CODE = """class Workflow:
    async def __call__(self, problem):
        result = await self.custom(input=problem, instruction=prompt_custom.SOLVE)
        return result["response"], 0
"""


def test_text_path_source_and_name_give_the_same_picture(tmp_path: Path) -> None:
    source = library("math")["cascade"]
    expected = to_svg(workflow_graph(source))
    hybrid = json.dumps({"prompts": {}, "graph_code": source.graph_code})
    for name, text in (("w.json", hybrid), ("w.py", source.graph_code)):
        path = tmp_path / name
        path.write_text(text)
        assert draw(path) == draw(str(path)) == draw(text) == expected
    assert draw(source) == draw("cascade") == expected
    row = json.dumps({"id": 1, "workflow": {"graph_code": source.graph_code, "prompts": None}})
    assert draw(row) == expected
    assert draw(source, "mermaid") == to_mermaid(workflow_graph(source))


def test_a_notebook_shows_the_picture() -> None:
    picture = draw("direct")
    assert ET.fromstring(picture._repr_svg_()).tag.endswith("svg")  # type: ignore[attr-defined]
    assert not hasattr(draw("direct", "mermaid"), "_repr_svg_")


def test_a_folder_of_two_files(tmp_path: Path) -> None:
    (tmp_path / "graph.py").write_text(CODE)
    (tmp_path / "prompt.py").write_text("SOLVE = '''Solve it well.'''\n")
    assert "Solve it well." in draw(tmp_path)
    assert draw(tmp_path / "graph.py") == draw(tmp_path)
    (tmp_path / "prompt.py").unlink()
    read = read_workflow(tmp_path)
    assert [finding.rule for finding in read.findings] == ["undefined-prompt"]
    assert not read.valid


def test_the_domain_decides() -> None:
    assert read_workflow("test_revise").valid
    assert read_workflow("sc3", "qa").source == library("qa")["sc3"]
    testing = library("code")["code_test"]
    assert not read_workflow(testing, "math").valid and read_workflow(testing).valid
    with pytest.raises(ConfigError, match="'code_test' is for code; there is none for math"):
        read_workflow("code_test", "math")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("cascad", "'cascad': no such file; .*did you mean cascade\\?"),
        ("zzz", "fixed workflows: direct, custom"),
        ("x" * 5000, "no such file"),
        ("a\0b", "no such file"),
    ],
)
def test_what_is_nowhere(given: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        draw(given)


def test_a_folder_without_a_workflow_and_another_format(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"it has no graph\.py"):
        draw(tmp_path)
    with pytest.raises(ConfigError, match="format='png' is unknown; expected 'svg' or 'mermaid'"):
        draw("direct", "png")  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["no workflow\n", "{", '{"graph_code": 3}', "{}\n", "\n"])
def test_what_is_no_workflow_is_drawn_as_that(text: str) -> None:
    read = read_workflow(text)
    assert read.source is None and not read.valid and read.findings
    assert "No workflow" in draw(text)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "w.py"
    path.write_bytes(b"\xff\xfe\x00class")
    assert not read_workflow(path).valid
    assert not read_workflow(WorkflowSource("\ud800")).valid


@pytest.mark.parametrize("name", ["self_refine", "cascade_agreement"])
def test_the_pictures_of_the_docs_are_those_of_today(name: str) -> None:
    shown = DOCS / "images" / f"{name}.svg"
    assert shown.read_text(encoding="utf-8") == draw(name), (
        f"run: aflow-grpo describe workflow {name} --svg docs/images/{name}.svg"
    )


def test_the_tree_of_the_docs_is_that_of_today() -> None:
    outline = to_outline(read_workflow("cascade_review", "qa").graph)
    assert f"cascade_review: valid\n\n{outline}\n" in (DOCS / "pictures.md").read_text()
