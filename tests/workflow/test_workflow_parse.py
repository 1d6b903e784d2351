"""Parsing: which texts are a workflow as written, which are mended, which hold none."""

from __future__ import annotations

import json
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aflow_grpo.records import FaultKind
from aflow_grpo.workflow.parse import parse_completion
from aflow_grpo.workflow.syntax import MAX_SOURCE_CHARS
from aflow_grpo.workflow.validate import validate

CODE = "class Workflow:\n    async def __call__(self, problem):\n        return problem, 0\n"
PROMPTS = {"custom": 'Say "yes".'}
HYBRID = json.dumps({"prompts": PROMPTS, "graph_code": CODE})
RICH_CODE = """\
class Workflow:
    async def __call__(self, problem):
        r = await self.custom(input=problem, instruction="Say {x}, \\"y\\"")
        d = {"a": 1, "b": [1, 2]}
        found = re.findall(r"\\bword\\d", r["response"])  # it's fine
        return "\\n".join(["it's", *found]), 0
"""
RICH_PROMPTS = {"custom": 'Say "yes": it\'s, fine.'}
RICH = json.dumps({"prompts": RICH_PROMPTS, "graph_code": RICH_CODE})
_OPENED = '{"prompts": {"custom": "Say \\"yes\\": it\'s, fine."}, '
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


def _half_escaped(code: str) -> str:
    """As models escape when they forget that the code itself has backslashes."""
    return code.replace("\\n", "<n>").replace("\n", "\\n").replace("<n>", "\\\\n")


MENDED = {
    "raw line ends": RICH.replace("\\\\n", "<n>").replace("\\n", "\n").replace("<n>", "\\\\n"),
    "raw line ends, \\n in code": RICH.replace("\\\\n", "<n>")
    .replace("\\n", "\n")
    .replace("<n>", "\\n"),
    "trailing comma": RICH[:-1] + ",}",
    "trailing commas": RICH.replace('."}', '.",}')[:-1] + ",\n}",
    "closing brace missing": RICH[:-1],
    "comma missing": RICH.replace('}, "graph', '} "graph'),
    "Python dictionary": repr(json.loads(RICH)),
    "Python dictionary, joined literals": f"{{'prompts': {RICH_PROMPTS!r}, 'graph_code': ("
    + " ".join(repr(line) for line in RICH_CODE.splitlines(keepends=True))
    + ")}",
    "triple quotes": f'{_OPENED}"graph_code": """{RICH_CODE}"""}}',
    "single triple quotes": f"{_OPENED}'graph_code': '''{RICH_CODE}'''}}",
    "raw triple quotes": f'{_OPENED}"graph_code": r"""{RICH_CODE}"""}}',
    "back quotes": f'{_OPENED}"graph_code": `{RICH_CODE}`}}',
    "unquoted keys": "{prompts: {custom: "
    + json.dumps(RICH_PROMPTS["custom"])
    + f"}}, graph_code: {json.dumps(RICH_CODE)}}}",
    "comments": f"{{ // mine\n{RICH[1:-1]} /* all */ # done\n}}",
    "quotes and line ends bare": f'{_OPENED}"graph_code": "{RICH_CODE}"}}',
    "quotes bare, code first": f'{{"graph_code": "{RICH_CODE}", "prompts": '
    + json.dumps(RICH_PROMPTS)
    + "}",
    "quotes bare": f'{_OPENED}"graph_code": "{_half_escaped(RICH_CODE)}"}}',
    "thoughts before": f'<think>\nMaybe {{"prompts": 1}}.\n</think>\n{RICH}',
    "fence and comma": f"Sure:\n```json\n{RICH[:-1]},}}\n```\nIt {{works}}.",
    "more keys": f'{{"thought": "use x", "n": 3e0, "ok": true, "l": [1, "a"], {RICH[1:-1]},}}',
}


@pytest.mark.parametrize("text", MENDED.values(), ids=MENDED)
def test_what_models_write_is_read_without_loss(text: str) -> None:
    source = parse_completion(text).source
    assert source is not None
    assert source.graph_code.strip() == RICH_CODE.strip()
    assert source.prompts == RICH_PROMPTS
    assert source.hybrid and source.repaired and not source.lossy


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(HYBRID[:-2], id="string that never ends"),
        pytest.param(
            f'{{"prompts": {{"custom": oops}}, "graph_code": "\n{CODE}"}}', id="part of an object"
        ),
    ],
)
def test_what_may_have_lost_text_is_marked(text: str) -> None:
    source = parse_completion(text).source
    assert source is not None
    assert CODE.strip() in source.graph_code
    assert source.repaired and source.lossy


def test_a_mended_fault_keeps_its_line() -> None:
    text = HYBRID.replace("return problem", "return = problem")[:-1] + ",}"
    source = parse_completion(text).source
    assert source is not None and source.repaired
    (finding,) = validate(source, "math")
    assert (finding.kind, finding.line) == (FaultKind.SYNTAX_ERROR, 3)


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


@pytest.mark.parametrize(
    ("head", "unit"),
    [
        ("", "["), ("", "{"), ("", '"'), ("", "\\"), ("", '{"'), ("", "{'"), ("", '{"a":'),
        ("", '{"graph_code":"'), ("", '"}'), ("", "```\n"), ("", "<graph>\n"), ("", "<think>"),
        ("", "# prompt.py\n"), ("```", " "), ("", "a\n"), ("", "class "), ("", "/*"), ("", "\t"),
        ('{"graph_code": "', '"}'), ('{"graph_code": "', '"\n}'), ('{"graph_code": "', "\\n"),
        ('{"graph_code": "', '","graph":'), ('{"graph_code": """', "B = A + A\n"),
        ("<graph>class A: pass</graph><prompt>", "B = dedent(A)\n"),
        ('# prompt.py\nA = "' + "x" * 40_000 + '"\n', "B = A + A\n"),
    ],
)  # fmt: skip
def test_time_is_bounded_for_the_longest_texts(head: str, unit: str) -> None:
    text = (head + unit * MAX_SOURCE_CHARS)[:MAX_SOURCE_CHARS]
    started = time.process_time()
    parse_completion(text)
    assert time.process_time() - started < 2.0  # measured: 0.25 at most


@pytest.mark.parametrize("seed", range(40))
def test_mutations_of_sound_workflows_end_in_a_result(seed: int) -> None:
    rng = random.Random(seed)
    text = rng.choice([RICH, *MENDED.values(), f"<graph>{CODE}</graph><prompt>A = 'x'</prompt>"])
    for _ in range(25):
        at, to = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        piece = rng.choice(["", "\0", '"', "\\", "\ud800", "}", "\n", '"""', "```", text[at:to]])
        text = text[:at] + piece + text[at + rng.randrange(3) :]
        result = parse_completion(text)
        assert (result.source is None) == bool(result.findings)
        for finding in result.findings:
            assert finding.rule and finding.hint and finding.severity == "reject"


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
        "<graph>",
        "</graph>",
        "<prompt>",
        "# prompt.py\n",
        '"""',
        "//",
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
