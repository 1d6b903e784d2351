"""AFlow's two files in one text: which ways of writing are read, what is said of faults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from workflow_host import Host, run

from aflow_grpo.records import FaultKind
from aflow_grpo.workflow.parse import parse_completion
from aflow_grpo.workflow.parse_files import fences, prompt_constants
from aflow_grpo.workflow.validate import rejections, validate

GRAPH = """\
from typing import Literal
import workspace.MATH.workflows.template.operator as operator
import workspace.MATH.workflows.round_3.prompt as prompt_custom
from scripts.async_llm import create_llm_instance

DatasetType = Literal["HumanEval", "MATH"]

class Workflow:
    def __init__(self, name: str, llm_config, dataset: DatasetType) -> None:
        self.name = name
        self.dataset = dataset
        self.llm = create_llm_instance(llm_config)
        self.custom = operator.Custom(self.llm)

    async def __call__(self, problem: str):
        solution = await self.custom(input=problem, instruction=prompt_custom.SOLVE_PROMPT)
        return solution['response'], self.llm.get_usage_summary()["total_cost"]
"""
SOLVE = "Solve it in <answer> tags.\nUse `{x}`.\n"
PROMPT = f'SOLVE_PROMPT = """{SOLVE}"""\n\nOTHER = (\n    "one "\n    "two"\n)\n'
CONSTANTS = {"SOLVE_PROMPT": SOLVE, "OTHER": "one two"}
FENCED = f"```python\n{GRAPH}```"

AS_WRITTEN = [
    pytest.param(f"<graph>\n{GRAPH}</graph>\n<prompt>\n{PROMPT}</prompt>", id="tags"),
    pytest.param(
        f"<modification>Add a step.</modification>\n<graph>\n{FENCED}\n</graph>\n"
        f"<prompt>\n```python\n{PROMPT}```\n</prompt>",
        id="tags as AFlow's optimiser writes",
    ),
    pytest.param(f"<prompt>{PROMPT}</prompt><modification>x</modification>\n<graph>{GRAPH}</graph>",
        id="tags, prompts first"),
    pytest.param(f"# graph.py\n{GRAPH}\n# prompt.py\n{PROMPT}", id="comments"),
    pytest.param(f"# prompt.py\n{PROMPT}\n# graph.py\n{GRAPH}", id="comments, prompts first"),
    pytest.param(
        f"```python\n# File: round_3/prompt.py\n{PROMPT}\n# === round_3/graph.py ===\n{GRAPH}```",
        id="comments in one fence",
    ),
    pytest.param(f"{GRAPH}\n# prompt.py\n{PROMPT}", id="one comment"),
    pytest.param(f"graph.py:\n{FENCED}\n\nprompt.py:\n```python\n{PROMPT}```", id="labels"),
    pytest.param(
        f"### 1. `graph.py`\n{FENCED}\n\n### 2. `prompt.py`\n```python\n{PROMPT}```", id="headings"
    ),
    pytest.param(f"```python graph.py\n{GRAPH}```\n```python:prompt.py\n{PROMPT}```", id="infos"),
    pytest.param(f"**prompt.py**\n```\n{PROMPT}```\n**graph.py**\n{FENCED}", id="bold"),
    pytest.param(f"{FENCED}\n```python\n{PROMPT}\n```", id="unnamed"),
    pytest.param(json.dumps({"graph": GRAPH, "prompt": PROMPT}), id="object"),
    pytest.param(json.dumps({"graph.py": GRAPH, "prompt.py": PROMPT}), id="object of files"),
    pytest.param(json.dumps({"graph": GRAPH, "prompt": CONSTANTS}), id="object of constants"),
    pytest.param(json.dumps({"graph_code": GRAPH, "prompts": PROMPT}), id="prompts as a file"),
]  # fmt: skip


@pytest.mark.parametrize("text", AS_WRITTEN)
def test_two_files_as_written(text: str) -> None:
    result = parse_completion(text)
    source = result.source
    assert source is not None, result.findings
    assert source.prompts == CONSTANTS
    assert not source.hybrid and not source.repaired and not source.lossy
    assert not rejections(validate(source, "math"))


@pytest.mark.parametrize(
    "text",
    [
        f"I add a step.\n<graph>\n{GRAPH}</graph>\n<prompt>\n{PROMPT}</prompt>",
        f"<graph>\n{GRAPH}</graph>\n<prompt>\n{PROMPT}",
        f"Here is `graph.py`:\n{FENCED}\nand prompt.py has this:\n```python\n{PROMPT}```\nEnjoy!",
        f"Some thoughts first.\n# graph.py\n{GRAPH}\n# prompt.py\n{PROMPT}",
        '{"graph": """' + GRAPH + '""", "prompt": \'\'\'' + PROMPT + "'''}",
    ],
    ids=["prose", "tag never closed", "prose and fences", "prose and comments", "no JSON"],
)
def test_two_files_mended(text: str) -> None:
    source = parse_completion(text).source
    assert source is not None and source.repaired and not source.lossy
    assert source.prompts == CONSTANTS
    assert not rejections(validate(source, "math"))


@pytest.mark.parametrize("text", AS_WRITTEN)
def test_the_prompt_reaches_the_operator(text: str) -> None:
    source = parse_completion(text).source
    assert source is not None
    host = Host()
    outcome = run(source.graph_code, host, prompts=source.prompts)
    assert outcome.answer == "custom#0", outcome.fault
    assert host.calls[0][2]["instruction"] == SOLVE


@pytest.mark.parametrize(
    "prompt",
    [
        '# XXX_PROMPT = """\n#\n# Solve it.\n#\n# """',
        '"""No prompts yet."""',
        "from typing import Literal",
        'FEW_SHOT = ["a", "b"]',
    ],
)
def test_a_prompt_file_without_texts_is_no_prompts(prompt: str) -> None:
    graph = GRAPH.replace("prompt_custom.SOLVE_PROMPT", '""')
    for text in (
        f"<graph>\n{graph}\n</graph>\n<prompt>\n{prompt}\n</prompt>",
        json.dumps({"graph": graph, "prompt": prompt}),
    ):
        result = parse_completion(text)
        assert result.source is not None and result.source.prompts == {}
        assert not rejections(validate(result.source, "math"))
    result = parse_completion(f"<graph>\n{GRAPH}\n</graph>\n<prompt>\n{prompt}\n</prompt>")
    assert result.source is not None
    (finding,) = rejections(validate(result.source, "math"))
    assert (finding.kind, finding.line) == (FaultKind.UNKNOWN_PROMPT, 16)


def test_an_empty_prompt_file_is_no_prompts() -> None:
    source = parse_completion(f"<graph>\n{GRAPH}</graph>\n<prompt>\n</prompt>").source
    assert source is not None and source.prompts == {}
    (finding,) = rejections(validate(source, "math"))
    assert (finding.kind, finding.line) == (FaultKind.UNKNOWN_PROMPT, 16)


@pytest.mark.parametrize(
    "text",
    [
        "<graph>\n{graph}</graph>\n<prompt>\n{prompt}</prompt>",
        "# graph.py\n{graph}\n# prompt.py\n{prompt}",
        "graph.py\n```python\n{graph}```\nprompt.py\n```python\n{prompt}```",
    ],
    ids=["tags", "comments", "fences"],
)
def test_a_faulty_prompt_file_is_named_with_its_own_line(text: str) -> None:
    prompt = 'A_PROMPT = "fine"\nSOLVE_PROMPT = "never closed\n'
    result = parse_completion(text.format(graph=GRAPH, prompt=prompt))
    assert result.source is None
    (finding,) = result.findings
    first = 1 if "# prompt.py" in text else 0
    assert (finding.kind, finding.line) == (FaultKind.SYNTAX_ERROR, 2 + first)
    assert finding.message.startswith("prompt.py: unterminated string")
    assert finding.source == 'SOLVE_PROMPT = "never closed'


def test_a_faulty_graph_file_keeps_its_lines() -> None:
    broken = GRAPH.replace("self.llm = create", "self.llm = = create")
    source = parse_completion(f"<graph>\n{broken}</graph>\n<prompt>{PROMPT}</prompt>").source
    assert source is not None
    (finding,) = rejections(validate(source, "math"))
    assert (finding.kind, finding.line) == (FaultKind.SYNTAX_ERROR, 12)


def test_constants_that_the_graph_reads_bare_make_one_module() -> None:
    graph = GRAPH.replace("prompt_custom.SOLVE_PROMPT", "SOLVE_PROMPT")
    text = f"# prompt.py\n{PROMPT}\n# graph.py\n{graph}"
    source = parse_completion(text).source
    assert source is not None and source.graph_code == text.strip()
    assert not rejections(validate(source, "math"))


def test_a_constant_imported_by_name_is_not_bare() -> None:
    graph = GRAPH.replace("prompt_custom.SOLVE_PROMPT", "SOLVE_PROMPT").replace(
        "import workspace.MATH.workflows.round_3.prompt as prompt_custom", "from prompt import *"
    )
    source = parse_completion(f"# prompt.py\n{PROMPT}\n# graph.py\n{graph}").source
    assert source is not None and source.graph_code.startswith("# graph.py\n")
    assert run(source.graph_code, prompts=source.prompts).answer == "custom#0"


def test_code_that_only_mentions_the_files_is_one_file() -> None:
    code = GRAPH.replace("prompt_custom.SOLVE_PROMPT", '"See prompt.py and graph.py."')
    source = parse_completion(f"# This replaces graph.py and prompt.py\n{code}").source
    assert source is not None and source.prompts == {} and not source.repaired


@pytest.mark.parametrize(
    ("code", "constants"),
    [
        ("", {}),
        ("A = 'x'\nB: str = A + 'y'\nB += 'z'", {"A": "x", "B": "xyz"}),
        ("A = 'x'\nB = f'{A}-{{}}'", {"A": "x", "B": "x-{}"}),
        ("import textwrap\nA = textwrap.dedent('''\n  x\n  y''').strip()", {"A": "x\ny"}),
        (
            "A = '{x}-{}'\nB = A.format('y', x='z')\nC = A.replace('{}', B)",
            {
                "A": "{x}-{}",
                "B": "z-y",
                "C": "{x}-z-y",
            },
        ),
        ("A = '{x:>9}{y.z}'\nB = A.format(x='x', y='y')\nC = A.format(x=1)", {"A": "{x:>9}{y.z}"}),
        ("A, B = 'x', 'y'\nC, D = 'z'", {"A": "x", "B": "y"}),
        ("A = B = 'x'", {"A": "x", "B": "x"}),
        ("A = 'x'\nA = 3", {}),
        ("A = ['x']\nB = open('f').read()\nC = f'{D}'\nD = f('x')", {}),
        ("A = 'x'\nA *= 3\nB = '-' * 10**9", {"A": "xxx"}),
        ("A = '\\n'.join(['x', 'y'])\nB = ', '.join(A)\nC = ''.join([])", {"A": "x\ny", "C": ""}),
        ("```python\nA = 'x'\n```", {"A": "x"}),
    ],
)
def test_constants_of_a_prompt_file(code: str, constants: dict[str, str]) -> None:
    assert prompt_constants(code) == constants


def test_constants_that_grow_without_end_are_refused() -> None:
    assert prompt_constants("A = 'x'\n" + "A = A + A\n" * 60) == {}
    finding = prompt_constants(f"A = '{'x' * 50_000}'\n" + "B = A + A\n" * 60)
    assert not isinstance(finding, dict)
    assert (finding.rule, finding.line) == ("too-long", 5)


def test_a_fence_inside_a_fence_belongs_to_it() -> None:
    inner = 'A = """Reply with\n```python\ncode\n```\nonly."""\n'
    (block,) = fences(f"prompt.py\n```python\n{inner}```\n")
    assert (block.info, block.label, block.body) == ("python", "prompt.py", inner)


def test_constants_above_the_class_and_the_older_class_name() -> None:
    code = 'SOLVE = "Solve {problem}"\nLETTERS = ["a", "b"]\n\n' + GRAPH.replace(
        "class Workflow", "class SolveGraph"
    ).replace("prompt_custom.SOLVE_PROMPT", "SOLVE.format(problem=LETTERS[1])").replace(
        'get_usage_summary()["total_cost"]', "cost_manager.total_cost"
    )
    source = parse_completion(code).source
    assert source is not None and not source.repaired
    assert not rejections(validate(source, "math"))
    host = Host()
    assert run(source.graph_code, host).answer == "custom#0"
    assert host.calls[0][2]["instruction"] == "Solve b"


def test_the_examples_of_the_docs_page_are_what_it_says() -> None:
    page = Path(__file__).parents[2] / "docs" / "workflow-language.md"
    examples = [block.body for block in fences(page.read_text(encoding="utf-8"))]
    sources = [parse_completion(example).source for example in examples]
    for source in sources:
        assert source is not None and not source.lossy
        assert not rejections(validate(source, "math"))
        assert run(source.graph_code, prompts=source.prompts).answer == "custom#0"
    told = [(source.hybrid, source.repaired) for source in sources if source is not None]
    assert told == [(True, False), (False, False), (True, True)]
