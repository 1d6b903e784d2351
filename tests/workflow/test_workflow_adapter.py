"""The adapter: real AFlow-style code runs, and every line keeps its number."""

from __future__ import annotations

import ast

import pytest
from workflow_catalogue import SOUND, call
from workflow_host import Host, run

from aflow_grpo.workflow.adapter import adapt, as_text
from aflow_grpo.workflow.syntax import parse_source

AFLOW_GRAPH = '''\
from typing import Literal
import workspace.GSM8K.workflows.template.operator as operator
import workspace.GSM8K.workflows.round_7.prompt as prompt_custom
from metagpt.provider.llm_provider_registry import create_llm_instance
from metagpt.utils.cost_manager import CostManager

DatasetType = Literal["HumanEval", "MBPP", "GSM8K", "MATH", "HotpotQA", "DROP"]

class Workflow:
    def __init__(
        self,
        name: str,
        llm_config,
        dataset: DatasetType,
    ) -> None:
        self.name = name
        self.dataset = dataset
        self.llm = create_llm_instance(llm_config)
        self.custom = operator.Custom(self.llm)
        self.sc_ensemble = operator.ScEnsemble(self.llm)

    async def __call__(self, problem: str):
        """
        Implementation of the workflow
        """
        solutions = []
        for _ in range(3):
            solution = await self.custom(input=problem, instruction=prompt_custom.SOLVE)
            solutions.append(solution["response"])
        final = await self.sc_ensemble(solutions=solutions, problem=problem)
        return final["response"], self.llm.cost_manager.total_cost
'''


def test_aflow_graph_file_runs_as_it_is() -> None:
    host = Host()
    outcome = run(AFLOW_GRAPH, host, prompts={"SOLVE": "Think."})
    assert outcome.answer == "sc_ensemble#3"
    assert [arguments.get("instruction") for _, _, arguments in host.calls] == ["Think."] * 3 + [
        None
    ]


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        pytest.param(
            "class Base:\n    pass\n"
            "class Workflow(\n    Base,\n    object,\n):\n"
            "    async def __call__(self, problem):\n        return 'based', 0\n",
            "based",
            id="base class over several lines",
        ),
        pytest.param(call("x = {'a': 1, 'b': 2}", "del x['a']", "return str(x), 0"), "{'b': 2}"),
        pytest.param(call("x = y = 1", "del x, y", "return 'gone', 0"), "gone", id="del names"),
        pytest.param(
            "import asyncio\n"
            + call(
                "async def bad(): raise ValueError('x')",
                "rs = await asyncio.gather(bad(), self.custom('a'), return_exceptions=True)",
                "return str(rs[0]) + rs[1]['response'], 0",
            ),
            "xcustom#0",
            id="gather with exceptions",
        ),
        pytest.param(
            "import asyncio\n"
            + call(
                "task = asyncio.create_task(self.custom('a'))",
                "try:",
                "    r = await asyncio.wait_for(task, timeout=5)",
                "except asyncio.TimeoutError:",
                "    return 'late', 0",
                "return r['response'], 0",
            ),
            "custom#0",
            id="task with timeout",
        ),
        pytest.param(
            call("return 'fine', 0") + "if __name__ == '__main__':\n    1 / 0\n", "fine", id="main"
        ),
        pytest.param(
            "from scripts.operators import Custom as C, ScEnsemble\n"
            "from .prompt import SOLVE\n"
            "class W:\n    def __init__(self, config=None):\n        self.c = C(None)\n"
            "    async def __call__(self, problem):\n"
            "        return (await self.c(problem, SOLVE))['response'], 0\n",
            "custom#0",
            id="names imported singly",
        ),
        pytest.param(call("x: list[int] = [1]", "return x[0], 0"), "1", id="annotation"),
    ],
)
def test_what_the_interpreter_lacks_is_rewritten(code: str, answer: str) -> None:
    outcome = run(code, prompts={"SOLVE": "s"})
    assert outcome.fault is None, outcome.fault
    assert outcome.answer == answer


@pytest.mark.parametrize("code", [*SOUND.values(), AFLOW_GRAPH])
def test_every_line_is_traced_back(code: str) -> None:
    adapted = adapt(code)
    after = {
        node.name: adapted.line(node.lineno, node.col_offset + 1)
        for node in ast.walk(parse_source(adapted.code))
        if isinstance(node, ast.AsyncFunctionDef)
    }
    before = {
        node.name: node.lineno
        for node in ast.walk(parse_source(code))
        if isinstance(node, ast.AsyncFunctionDef)
    }
    assert after == before


def test_plain_code_reaches_the_interpreter_as_written() -> None:
    code = "# A comment.\n" + call("r = await self.custom( problem )", "return r['response'], 0")
    adapted = adapt(code)
    assert (adapted.code, adapted.parts) == (code, "")


def test_line_inside_a_long_expression_is_the_inner_one() -> None:
    code = call("del problem[0]", "return {", "    'a': 1,", "    'b': 1 / 0,", "}, 0")
    outcome = run(code)
    assert outcome.fault is not None and outcome.fault.line == 3
    outcome = run(code.replace("del problem[0]", "del problem"))
    assert outcome.fault is not None and outcome.fault.line == 6


def test_only_needed_parts_are_fed() -> None:
    parts = adapt("import statistics\n" + call("return statistics.mode([1]), 0")).parts
    assert "_statistics_mode" in parts and "_statistics_median" not in parts


def test_nested_quotes_of_newer_python_do_not_stop_the_rewriting() -> None:
    tree = ast.parse("import os\nx = f'{a!r:>{w}} {{}} {1:03d}'\n")
    value = tree.body[1]
    assert isinstance(value, ast.Assign) and isinstance(value.value, ast.JoinedStr)
    part = value.value.values[0]
    assert isinstance(part, ast.FormattedValue)
    part.value = ast.Constant("q'\"\\n'''\"\"\"")
    assert "'{!r:>{}} {{}} {:03d}'.format(" in as_text(ast.fix_missing_locations(tree))
