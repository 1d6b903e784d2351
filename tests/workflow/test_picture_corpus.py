"""Every workflow that the tests of this room hold is drawn, sound or faulty, in milliseconds."""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import abuse_corpus
import pytest
from catalogue import FAULTY_CASES, SOUND_CASES, Case
from picture_texts import call_of
from workflow_catalogue import SOUND, call

from aflow_grpo.records import DOMAINS, WorkflowSource
from aflow_grpo.workflow.library import library
from aflow_grpo.workflow.picture import (
    as_plain,
    to_mermaid,
    to_outline,
    to_svg,
    workflow_graph,
)
from aflow_grpo.workflow.picture.graph import every_node
from aflow_grpo.workflow.validate import is_valid, validate

HERE = Path(__file__).parent


def texts() -> dict[str, WorkflowSource]:
    found = {f"{d}/{n}": source for d in DOMAINS for n, source in library(d).items()}
    found |= {f"catalogue/{case.name}": case.source for case in (*SOUND_CASES, *FAULTY_CASES)}
    found |= {f"sound/{name}": WorkflowSource(code) for name, code in SOUND.items()}
    for corpus in (abuse_corpus.ACTS, abuse_corpus.READS, abuse_corpus.STRAINS):
        found |= {f"abuse/{name}": WorkflowSource(code) for name, code in corpus.items()}
    for name in ("workflows.txt", "snippets.txt"):
        for part in re.split(r"(?m)^=== ", (HERE / name).read_text())[1:]:
            title, _, body = part.partition("\n")
            code = body if "class Workflow" in body else call(*body.rstrip().split("\n"))
            found[f"{name}/{title}"] = WorkflowSource(code)
    return found


def test_every_workflow_of_the_tests_is_drawn() -> None:
    corpus = texts()
    assert len(corpus) >= 500
    started = time.process_time()
    for name, source in corpus.items():
        graph = workflow_graph(source)
        assert ET.fromstring(to_svg(graph)).tag.endswith("svg"), name
        assert to_mermaid(graph).startswith("flowchart TD\n"), name
        assert to_outline(graph) and as_plain(graph)["nodes"], name
    # 1 ms each; the bound is for a machine that is busy.
    assert (time.process_time() - started) / len(corpus) < 0.02


@pytest.mark.parametrize("case", SOUND_CASES, ids=lambda case: case.name)
def test_a_sound_workflow_shows_operators_and_an_answer(case: Case) -> None:
    source = case.source
    assert is_valid(validate(source, case.domain))
    graph = workflow_graph(source)
    assert not graph.faults and not graph.omitted
    kinds = {node.kind for node in every_node(graph.body)}
    # What may end without an answer shows that, too.
    warned = any(rule == "path-without-return" for rule, _ in case.expected)
    assert "end" in kinds and ("fault" in kinds) == warned
    awaited = re.search(r"await self\.\w+\(", source.graph_code) is not None
    assert ("operator" in kinds) or not awaited


def test_two_hundred_lines_stay_readable() -> None:
    lines = []
    long = "on and on " * 30
    for n in range(40):
        lines += [
            f"r{n} = await self.custom(input=problem, instruction={long!r})",
            f"if r{n}['response'] == '{n}':",
            f"    r{n} = await self.review(problem=problem, solution=r{n}['response'])",
            f"text{n} = r{n}.get('response', '').strip()",
        ]  # fmt: skip
    graph = workflow_graph(WorkflowSource(call_of(*lines, "return text39, 0")))
    text = to_svg(graph)
    root = ET.fromstring(text)
    assert float(root.attrib["width"]) < 900
    assert graph.omitted == 22 and len(text) < 120_000
