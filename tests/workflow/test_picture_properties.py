"""Whatever the code: a picture comes out, in valid XML and Mermaid, with nothing over anything."""

from __future__ import annotations

import ast
import itertools
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_texts import HOSTILE, call_of, hostile_texts, programs

from aflow_grpo.records import WorkflowSource
from aflow_grpo.workflow.picture import (
    WorkflowGraph,
    as_plain,
    to_mermaid,
    to_outline,
    to_svg,
    workflow_graph,
)
from aflow_grpo.workflow.picture.control import control_edges
from aflow_grpo.workflow.picture.draft import MAX_NODES
from aflow_grpo.workflow.picture.graph import Arm, Branch, Flow, Frame, Node, every_node
from aflow_grpo.workflow.picture.mermaid import escaped
from aflow_grpo.workflow.picture.svg import shapes_of
from aflow_grpo.workflow.syntax import SourceError, parse_source

TEXT = r'"[^"#&<>`\\*~\[\]{}()|;$%@^]*(?:(?:#\d+;|<br/>)[^"#&<>`\\*~\[\]{}()|;$%@^]*)*"'
MERMAID = (
    re.compile(r"flowchart TD"),
    re.compile(r"\s+subgraph f\d+\[" + TEXT + r"\]"),
    re.compile(r"\s+end"),
    re.compile(r"\s+n\d+(\(\[|\{|\[|\()" + TEXT + r"(\]\)|\}|\]|\)):::[a-z]+"),
    re.compile(r"\s+n\d+ (-->|==>|-\.->)(\|" + TEXT + r"\|)? n\d+"),
    re.compile(r"\s+classDef [a-z]+ [a-z0-9#:, -]+"),
    re.compile(r'\s+more\["… and \d+ boxes more"\]:::step'),
)


def check(graph: WorkflowGraph) -> None:
    """What holds for every picture."""
    nodes = list(every_node(graph.body))
    known = {node.id for node in nodes}
    assert len(known) == len(nodes) <= MAX_NODES
    assert all(flow.source in known and flow.target in known for flow in graph.flows)
    check_svg(to_svg(graph))
    for line in to_mermaid(graph).rstrip("\n").split("\n"):
        assert any(form.fullmatch(line) for form in MERMAID), line
    assert to_outline(graph).replace("\n", "").isprintable()
    as_plain(graph)
    check_places(graph)


def check_svg(text: str) -> None:
    root = ET.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags <= {"svg", "title", "desc", "style", "rect", "path", "text", "g"}
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert not ids
    attributes = {name for element in root.iter() for name in element.attrib}
    assert not any(name.startswith("on") or "href" in name for name in attributes)
    assert "url(" not in text and "@import" not in text
    assert "".join(root.itertext()).replace("\n", "").isprintable()


def check_places(graph: WorkflowGraph) -> None:
    shapes = shapes_of(graph)
    boxes = [placed.bounds for placed in shapes.boxes]
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    for label in shapes.labels:
        assert not any(label.bounds.overlaps(box) for box in boxes), label.text
    for placed in shapes.boxes:
        for line in placed.box.lines:
            assert line.width <= placed.box.width
        for frame in shapes.frames:
            inside = (
                frame.bounds.left < placed.bounds.left
                and placed.bounds.right < frame.bounds.right
                and frame.bounds.top < placed.bounds.top
                and placed.bounds.bottom < frame.bounds.bottom
            )
            assert inside or not placed.bounds.overlaps(frame.bounds)


@given(programs())
@settings(max_examples=60, deadline=None)
def test_any_program_is_drawn_with_all_its_operators(code: str) -> None:
    graph = workflow_graph(WorkflowSource(code))
    check(graph)
    try:
        parse_source(code)
    except SourceError:
        assert graph.faults
        return
    assert not graph.faults
    reached = {"n0"}
    edges = control_edges(graph.body)
    for _ in edges:
        reached |= {edge.target for edge in edges if edge.source in reached}
    assert reached == {node.id for node in every_node(graph.body)}


@given(st.text(max_size=200))
@settings(max_examples=40, deadline=None)
def test_any_text_is_drawn(text: str) -> None:
    graph = workflow_graph(WorkflowSource(text))
    check(graph)
    assert graph.faults


@given(programs(), st.integers(0, 400), st.integers(0, 40))
@settings(max_examples=40, deadline=None)
def test_a_damaged_program_is_drawn(code: str, at: int, cut: int) -> None:
    check(workflow_graph(WorkflowSource(code[:at] + code[at + cut :])))


@given(hostile_texts(), hostile_texts())
@settings(max_examples=40, deadline=None)
def test_hostile_texts_are_only_text(prompt: str, key: str) -> None:
    lines = (
        "r = await self.custom(input=problem, instruction=self.prompts['p'])",
        f"x = r[{key!r}]",
        f"if x == {key!r}:",
        f"    return {key!r}, 0",
        "last = await self.custom(input=x)",
        f"return last[{key!r}], 0",
    )
    graph = workflow_graph(WorkflowSource(call_of(*lines), {"p": prompt, "custom": prompt}))
    check(graph)


@pytest.mark.parametrize("prompt", HOSTILE, ids=ascii)
def test_a_hostile_prompt_in_the_picture(prompt: str) -> None:
    code = call_of("r = await self.custom(input=problem)", "return r, 0")
    graph = workflow_graph(WorkflowSource(code, {"custom": prompt}))
    check(graph)
    assert "<script" not in to_svg(graph)


def test_nesting_and_length_are_bounded() -> None:
    deep = [f"{'    ' * level}for x{level} in range(2):" for level in range(15)]
    code = call_of(*deep, "    " * 15 + "r = await self.custom(input=problem)", "return r, 0")
    graph = workflow_graph(WorkflowSource(code))
    check(graph)
    assert any("1 operator calls nested deeper" in node.title for node in every_node(graph.body))
    many = [f"r{n} = await self.custom(input=problem)" for n in range(300)]
    graph = workflow_graph(WorkflowSource(call_of(*many, "return r1, 0")))
    check(graph)
    assert graph.omitted == 300 + 2 - MAX_NODES
    assert f"… and {graph.omitted} boxes more" in to_svg(graph)
    assert f"… and {graph.omitted} boxes more" in to_mermaid(graph)
    chain = "problem" + ".x" * 110
    check(workflow_graph(WorkflowSource(call_of(f"return {chain}, 0"))))


def test_helpers_that_multiply_stay_bounded() -> None:
    helpers = "".join(
        f"    async def h{n}(self, t):\n" + f"        t = await self.h{n + 1}(t)\n" * 9
        for n in range(6)
    )
    last = "    async def h6(self, t):\n        return await self.custom(input=t)\n"
    code = call_of("return await self.h0(problem), 0") + helpers + last
    graph = workflow_graph(WorkflowSource(code))
    check(graph)
    assert ast.parse(code) and graph.omitted > 0


def test_a_graph_made_by_hand_is_escaped_too() -> None:
    nodes = tuple(Node(f"n{n}", "step", text, text) for n, text in enumerate(HOSTILE))
    flows = tuple(Flow("n0", f"n{n}", text) for n, text in enumerate(HOSTILE) if n > 1)
    frame = Frame("loop", HOSTILE[0], (Branch("if", nodes[0], (Arm(HOSTILE[2], nodes[1:]),)),))
    graph = WorkflowGraph(HOSTILE[6], (frame,), flows)
    check_svg(to_svg(graph))
    check_places(graph)


def test_words_on_arrows_leave_room_between_arms() -> None:
    pair = "(await self.review(problem, await self.custom(problem)))['a_key_that_is_very_long']"
    high = repr("high " * 60)
    tall = f"self.custom(await self.custom(await self.custom(problem, {high}), {high}), {high})"
    calls = ", ".join([f"self.custom(input={pair})", tall] * 2)
    check(
        workflow_graph(WorkflowSource(call_of(f"r = await asyncio.gather({calls})", "return r, 0")))
    )
    lines = (
        "long_name_of_a_value = await self.custom(problem)",
        *(f"{word} len(problem) == {n}:\n            long_name_of_a_value = await self.review("
          "problem, long_name_of_a_value)\n            r = await self.format(problem, "
          "long_name_of_a_value)" for n, word in enumerate(("if", "elif", "elif"))),
        "return r, 0",
    )  # fmt: skip
    check(workflow_graph(WorkflowSource(call_of(*lines))))


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ('say "hi" #1', "say #34;hi#34; #35;1"),
        ("answer_generate", "answer_generate"),
        ("_draft_ `x`", "#95;draft#95; #96;x#96;"),
        ("1. one\n- two", "1#46; one<br/>#45; two"),
        ("<b>&", "#60;b#62;#38;"),
        ("http://a", "http#58;#47;#47;a"),
    ],
)
def test_a_label_of_mermaid(text: str, written: str) -> None:
    assert escaped(text) == written
