"""The interpreter against CPython: the same calls, the same answers, line by line of Python.

`workflows.txt` holds workflows in the style of AFlow, `snippets.txt` corners of the language and of
the library. What still differs is listed below, with the reason; the list must be exact.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cpython_run import ENTRY_POINT, PROBLEM, PROMPTS, reply
from workflow_catalogue import SOUND, call

from aflow_grpo.records import WorkflowSource
from aflow_grpo.workflow.interpreter import Interpreter

HERE = Path(__file__).parent

ANY_ORDER = {"as completed"}
"""Workflows whose calls CPython itself makes in no particular order."""
DIFFERENCES = {
    "RuntimeError etc": "ConnectionError is OSError",
    "base64": "no such module",
    "bool dunder": "an object's own __bool__ counts in bool(), not in conditions",
    "bytes": "bytes of a list",
    "ChainMap": "no such class",
    "class nested": "classes in a class body are not taken",
    "contextmanager": "generators that are entered are not taken",
    "dataclass methods": "no dataclasses.asdict",
    "dataclass order": "no order=True",
    "del attr": "a deleted attribute is None",
    "docstring": "functions have no __doc__",
    "errs": "some messages are those of a newer Python",
    "exc chaining": "no __cause__",
    "exc str multi args": "several arguments become one text",
    "float as ratio": "no float.as_integer_ratio",
    "float hex": "no conjugate()",
    "fractions": "no such module",
    "func attrs": "functions take no attributes",
    "functools": "no cmp_to_key",
    "generator send": "generators that receive values are not taken",
    "genexp lazy": "a generator expression bound to a name is computed at once",
    "getattr dunder": "__getattr__ is not called",
    "inherit": "no issubclass",
    "inspect": "no such function",
    "int methods": "no int.to_bytes",
    "isinstance": "no issubclass",
    "lt dunder": "__lt__ is not called",
    "map lazy": "map is computed at once",
    "os path": "no such module",
    "range ops": "no range.index",
    "re unicode": "re.error is called PatternError, as in a newer Python",
    "traceback": "format_exc gives its first line only",
    "unicodedata": "no such module",
    "unpack err": "some messages are those of a newer Python",
    "uuid": "no such module",
    "vars dict": "no vars()",
    "wraps": "a wrapped function keeps its own name",
}
"""Snippets that do not do what they do under CPython -> why."""


def blocks(name: str) -> Iterator[tuple[str, str]]:
    """Title and text of each block of a file."""
    for block in (HERE / name).read_text(encoding="utf-8").split("=== ")[1:]:
        title, _, text = block.partition("\n")
        yield title, text


def workflow(text: str) -> str:
    """A block as a module: bodies become a `__call__`, their imports stand above it."""
    if "class Workflow" in text:
        return text
    lines = text.rstrip("\n").split("\n")
    imports = [line for line in lines if line.startswith(("import ", "from "))]
    return "\n".join([*imports, call(*(line for line in lines if line not in imports))])


def snippet(text: str) -> str:
    """A block that binds `out` as a workflow that answers with it."""
    return text + "\n" + call("return repr(out), 0")


WORKFLOWS = {name: workflow(text) for name, text in blocks("workflows.txt")} | SOUND
SNIPPETS = {name: snippet(text) for name, text in blocks("snippets.txt")}
CASES = WORKFLOWS | SNIPPETS


@pytest.fixture(scope="module")
def in_cpython() -> dict[str, Any]:
    ended = subprocess.run(
        [sys.executable, str(HERE / "cpython_run.py")],
        input=json.dumps(list(CASES.values())),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=HERE.parents[1],
        env={"PYTHONHASHSEED": "0", "PYTHONPATH": str(HERE.parents[1])},
    )
    return dict(zip(CASES, json.loads(ended.stdout), strict=True))


async def run(interpreter: Interpreter, code: str) -> list[Any]:
    calls: list[list[Any]] = []

    async def operator(index: int, attribute: str, arguments: Any) -> Any:
        calls.append([attribute, json.loads(json.dumps(dict(arguments)))])
        return reply(attribute, arguments)

    outcome = await interpreter.run(
        WorkflowSource(code, PROMPTS),
        problem=PROBLEM,
        entry_point=ENTRY_POINT,
        call_operator=operator,
        get_cost=lambda: round(0.01 * len(calls), 2),
    )
    if outcome.fault is not None:
        return [outcome.fault.message.split(":")[0], calls]
    return [f"answer {outcome.answer}", calls]


@pytest.fixture(scope="module")
def inside() -> dict[str, Any]:
    async def everything() -> dict[str, Any]:
        async with Interpreter(workers=2) as interpreter:
            return {name: await run(interpreter, code) for name, code in CASES.items()}

    return asyncio.run(everything())


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflow_runs_as_under_cpython(
    name: str, in_cpython: dict[str, Any], inside: dict[str, Any]
) -> None:
    answer, calls = in_cpython[name]
    assert inside[name][0] == answer
    order = (lambda made: sorted(made, key=str)) if name in ANY_ORDER else list
    assert order(inside[name][1]) == order(calls)


def test_snippets_differ_only_where_it_is_known(
    in_cpython: dict[str, Any], inside: dict[str, Any]
) -> None:
    assert {n for n in SNIPPETS if inside[n] != in_cpython[n]} == set(DIFFERENCES)
