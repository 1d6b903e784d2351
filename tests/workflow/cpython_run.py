"""Runs workflows under CPython with stand-in operators: the reference of the differential test.

A program of its own, so that the workflows (ours, from this directory) never run in the test's
process: reads JSON from stdin, a list of codes, and prints a list of [answer or error, calls].
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.abc
import importlib.machinery
import io
import json
import sys
from collections.abc import Mapping
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

from aflow_grpo.workflow.binding import BindError, bind_arguments
from aflow_grpo.workflow.contract import OPERATORS

PROBLEM = "Tom has 3 boxes of 12 pens and gives 5 away. How many are left?"
ENTRY_POINT = "solve"
PROMPTS = {"SOLVE": "Solve {it}.", "REVIEW_PROMPT": "Be strict.", "custom": "In short."}
LONGEST_ARGUMENTS = 200_000


def reply(attribute: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What an operator answers: texts and verdicts that depend on the call alone."""
    seed = sum(map(ord, attribute + json.dumps(dict(arguments), sort_keys=True)))
    (spec,) = (spec for spec in OPERATORS if spec.attribute == attribute)
    answers = ["31", "The answer is \\boxed{31}.", "29", " 31 ", "def solve():\n    return 31"]
    return {
        key.name: seed % 3 > 0 if key.type == "bool" else answers[seed % len(answers)]
        for key in spec.returns
    }


class Calls:
    """Makes the operators of one workflow and keeps a record of their calls."""

    def __init__(self) -> None:
        self.made: list[list[Any]] = []
        self.llm = SimpleNamespace(
            cost_manager=SimpleNamespace(total_cost=0.0),
            get_usage_summary=lambda: {"total_cost": self.llm.cost_manager.total_cost},
        )

    def operator(self, spec: Any) -> Any:
        calls = self

        class Operator:
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                pass

            async def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
                try:
                    bound = bind_arguments(spec, args, kwargs, PROMPTS, LONGEST_ARGUMENTS)
                except BindError as error:
                    raise TypeError(str(error)) from None
                calls.made.append([spec.attribute, bound])
                await asyncio.sleep(0)
                calls.llm.cost_manager.total_cost = round(0.01 * len(calls.made), 2)
                return reply(spec.attribute, bound)

        return Operator


class AFlowModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules that AFlow's graph files import."""

    namespace: ClassVar[dict[str, Any]] = {}
    roots = ("workspace", "scripts", "metagpt", "prompt_custom", "prompt", "operators")

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.split(".")[0] in self.roots:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> ModuleType:
        module = ModuleType(spec.name)
        module.__dict__.update(self.namespace)
        return module

    def exec_module(self, module: ModuleType) -> None:
        pass


def run(code: str) -> list[Any]:
    """Answer or error of one workflow, and its calls."""
    for name in [n for n in sys.modules if n.split(".")[0] in AFlowModules.roots]:
        del sys.modules[name]
    calls = Calls()
    operators = {spec.name: calls.operator(spec) for spec in OPERATORS}
    module = ModuleType("workflow")
    sys.modules["workflow"] = module  # dataclasses look their module up
    namespace = module.__dict__
    namespace |= {
        "asyncio": asyncio,
        "operator": SimpleNamespace(**operators),
        "prompt_custom": SimpleNamespace(**PROMPTS),
        "DatasetType": str,
        "create_llm_instance": lambda *_: calls.llm,
        **operators,
    }
    AFlowModules.namespace = {
        k: v for k, v in (namespace | PROMPTS).items() if not k.startswith("__") and k != "asyncio"
    }
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            exec(compile(code, "<workflow>", "exec"), namespace)
            answer = asyncio.run(called(namespace, calls, operators))
    except Exception as error:
        return [f"{type(error).__name__}", calls.made]
    return [f"answer {answer}", calls.made]


async def called(namespace: dict[str, Any], calls: Calls, operators: dict[str, Any]) -> str:
    """Creates the workflow as AFlow does and awaits it."""
    found = [
        value
        for value in namespace.values()
        if isinstance(value, type) and value.__module__ == "workflow" and "__call__" in dir(value)
    ]
    kind = namespace.get("Workflow") or found[-1]
    kind.llm = calls.llm
    kind.prompts = dict(PROMPTS)
    if "__init__" in kind.__dict__:
        arguments = kind.__init__.__code__.co_varnames[1 : kind.__init__.__code__.co_argcount]
        required = arguments[: len(arguments) - len(kind.__init__.__defaults__ or ())]
        workflow = kind(*[calls.llm if "llm" in name else "workflow" for name in required])
    else:
        for spec in OPERATORS:
            if not hasattr(kind, spec.attribute):
                setattr(kind, spec.attribute, operators[spec.name]())
        workflow = kind()
    code = kind.__call__.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    given = {"entry_point": ENTRY_POINT} if "entry_point" in names else {}
    answer, _ = await workflow(PROBLEM, **given)
    return str(answer)


if __name__ == "__main__":
    sys.meta_path.insert(0, AFlowModules())
    json.dump([run(code) for code in json.load(sys.stdin)], sys.stdout)
