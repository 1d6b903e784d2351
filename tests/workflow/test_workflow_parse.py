"""Parsing: which texts are a workflow as written, which are mended, which hold none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aflow_grpo.records import FaultKind
from aflow_grpo.workflow.parse import parse_completion
from aflow_grpo.workflow.syntax import MAX_SOURCE_CHARS

CODE = "class Workflow:\n    async def __call__(self, problem):\n        return problem, 0\n"
PROMPTS = {"custom": 'Say "yes".'}
HYBRID = json.dumps({"prompts": PROMPTS, "graph_code": CODE})
PYTHON_DICT = "{'prompts': {'custom': 'Say \"yes\".'}, 'graph_code': '''" + CODE + "'''}"


@pytest.mark.parametrize(
    "text",
    [
        HYBRID,
        f"  \n{HYBRID}\n\n",
        f"```json\n{HYBRID}\n```",
        f"```\n{HYBRID}```",
        json.dumps(json.loads(HYBRID), indent=4),
        json.dumps({**json.loads(HYBRID), "thought": "extra keys are ignored"}),
    ],
)
def test_hybrid_form_as_written(text: str) -> None:
    result = parse_completion(text)
    assert result.findings == ()
    assert result.source is not None
    assert result.source.graph_code == CODE
    assert result.source.prompts == PROMPTS
    assert result.source.hybrid and not result.source.repaired


@pytest.mark.parametrize(
    "text", [CODE, f"```python\n{CODE}```", f"```\n{CODE}\n```", f"\n\n{CODE}"]
)
def test_code_alone_as_written(text: str) -> None:
    source = parse_completion(text).source
    assert source is not None
    assert source.graph_code.strip() == CODE.strip()
    assert not source.hybrid and not source.repaired and not source.prompts


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"Here it is:\n{HYBRID}", id="prose before"),
        pytest.param(f"{HYBRID}\nThis solves {{it}}.", id="prose after"),
        pytest.param(f"Sure {{ok}}!\n```json\n{HYBRID}\n```\nDone.", id="prose around a fence"),
        pytest.param(HYBRID.replace("\\n", "\n"), id="raw newlines"),
        pytest.param(HYBRID[:-1] + ",}", id="trailing comma"),
        pytest.param(HYBRID[:-1], id="missing closing brace"),
        pytest.param(PYTHON_DICT, id="python dictionary"),
    ],
)
def test_hybrid_form_mended(text: str) -> None:
    source = parse_completion(text).source
    assert source is not None
    assert source.graph_code.strip() == CODE.strip()
    assert source.prompts == PROMPTS
    assert source.hybrid and source.repaired


def test_fence_inside_graph_code_is_mended() -> None:
    text = json.dumps({"prompts": {}, "graph_code": f"```python\n{CODE}```"})
    source = parse_completion(text).source
    assert source is not None and source.repaired
    assert source.graph_code == CODE


@pytest.mark.parametrize(
    "text",
    [
        f"Here is the workflow:\n\n{CODE}",
        f"{CODE}\nThis workflow answers at once.",
        f"I think:\n{CODE}\nThat's all, folks.",
        f"First some words.\n```python\n{CODE}```\nand more words",
    ],
)
def test_code_amid_prose_is_mended(text: str) -> None:
    source = parse_completion(text).source
    assert source is not None
    assert source.graph_code.strip() == CODE.strip()
    assert source.repaired and not source.hybrid


@pytest.mark.parametrize(
    "broken",
    ["class Workflow:\n  async def __call__(self problem):\n    return 1, 2", "class A(:\n"],
)
def test_faulty_code_is_left_to_the_validator(broken: str) -> None:
    source = parse_completion(broken).source
    assert source is not None
    assert source.graph_code == broken.strip()
    assert not source.repaired


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("", FaultKind.NO_WORKFLOW, "empty"),
        ("```\n```", FaultKind.NO_WORKFLOW, "empty"),
        ("I cannot do that.", FaultKind.NO_WORKFLOW, "neither"),
        ("[1, 2]", FaultKind.NO_WORKFLOW, "neither"),
        ('{"prompts": {}}', FaultKind.NO_WORKFLOW, "missing"),
        ('{"graph_code": 3}', FaultKind.NO_WORKFLOW, "a int"),
        ('{"graph_code": "  "}', FaultKind.NO_WORKFLOW, "a str"),
        ('{"graph_code": ["class A: pass"]}', FaultKind.NO_WORKFLOW, "a list"),
        ('{"prompts": [], "graph_code": "x"}', FaultKind.BAD_STRUCTURE, "a list"),
        ('{"prompts": {"a": 1}, "graph_code": "x"}', FaultKind.BAD_STRUCTURE, "'a'"),
        ('{"prompts": {"a": "\\ud800"}, "graph_code": "x"}', FaultKind.BAD_STRUCTURE, "surrogate"),
        ("class A: pass # \ud800", FaultKind.NO_WORKFLOW, "surrogate"),
        ("x" * (MAX_SOURCE_CHARS + 1), FaultKind.NO_WORKFLOW, "at most"),
    ],
)
def test_texts_without_a_workflow(text: str, kind: FaultKind, words: str) -> None:
    result = parse_completion(text)
    assert result.source is None
    (finding,) = result.findings
    assert finding.kind is kind
    assert words in finding.message


@pytest.mark.parametrize(
    "text",
    [
        "[" * 90_000,
        '{"a":' * 19_000,
        '{"graph_code":' * 6_000,
        '{"graph_code": ' + "1" * 9_000 + "}",
        "{'graph_code': " + "(" * 50_000,
        "class A:\n x = " + "-" * 90_000 + "1",
        "class A:\n x = a" + ".b" * 40_000,
        "\0class A: pass",
        'class A:\n  x = "\\d \\ud800"',
        "\ud800{",
        "```" * 30_000,
        "{'" * 30_000,
        "class " * 15_000,
        "a" * 10**6,
    ],
    ids=lambda text: text[:16].encode("ascii", "replace").decode().replace("\0", "0"),
)
def test_hostile_texts_end_in_a_result(text: str) -> None:
    result = parse_completion(text)
    assert (result.source is None) == bool(result.findings)


_PIECES = st.sampled_from(
    [
        "{",
        "}",
        '"',
        "'",
        ",",
        ":",
        "\n",
        "```",
        "```json\n",
        "\\",
        CODE,
        HYBRID,
        "class A:",
        "graph_code",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(), st.lists(st.one_of(_PIECES, st.text(max_size=5))).map("".join)))
def test_never_raises(text: str) -> None:
    result = parse_completion(text)
    assert (result.source is None) == bool(result.findings)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(), st.text()), st.text(min_size=1).filter(lambda t: t.strip()))
def test_strict_json_round_trips(prompts: dict[str, str], code: str) -> None:
    source = parse_completion(json.dumps({"prompts": prompts, "graph_code": code})).source
    assert source is not None
    assert source.prompts == prompts
    assert source.repaired or source.graph_code == code
