"""The child process of `under_cpython`: cases from stdin, one JSON line of outcomes."""

from __future__ import annotations
import __future__

import asyncio
import importlib.abc
import importlib.machinery
import json
import resource
import signal
import sys
import types
from typing import Any

sys.path[:0] = sys.argv[1:]

from aflow_grpo.workflow.binding import BindError, bind_arguments  # noqa: E402
from aflow_grpo.workflow.contract import OPERATORS  # noqa: E402
from aflow_grpo.workflow.limits import InterpreterLimits  # noqa: E402
from aflow_grpo.workflow.spec import OperatorSpec  # noqa: E402

PROBLEM, ENTRY_POINT = "2+3?", "solve"
ROOTS = {"workspace", "scripts", "metagpt"}


class OutOfBudget(BaseException):
    """The case made too many calls or ran for too long; nothing in it may catch this."""


class Llm:
    """What `create_llm_instance` gives."""

    def __init__(self) -> None:
        self.cost_manager = types.SimpleNamespace(total_cost=0.0)

    def get_usage_summary(self) -> dict[str, float]:
        return {"total_cost": self.cost_manager.total_cost}


class Run:
    """The stubs of one case."""

    def __init__(self, prompts: dict[str, str]) -> None:
        self.calls: list[tuple[str, str]] = []
        self.llm = Llm()
        self.prompts = prompts
        self.operator = types.ModuleType("operator_stub")
        self.prompt = types.ModuleType("prompt_stub")
        for spec in OPERATORS:
            setattr(self.operator, spec.name, self.maker(spec))
        for name, text in prompts.items():
            setattr(self.prompt, name, text)

    def maker(self, spec: OperatorSpec) -> Any:
        run = self

        class Stub:
            def __init__(self, llm: Any = None, *args: Any, **kwargs: Any) -> None:
                pass

            async def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
                return run.call(spec, args, kwargs)

        Stub.__name__ = spec.name
        return Stub

    def call(self, spec: OperatorSpec, args: Any, kwargs: Any) -> dict[str, Any]:
        try:
            bound = bind_arguments(spec, args, kwargs, self.prompts, 200_000)
        except BindError as error:
            raise TypeError(str(error)) from None
        if len(self.calls) >= InterpreterLimits().max_operator_calls:
            raise OutOfBudget("call budget")
        text = f"{spec.attribute}#{len(self.calls)}"
        self.calls.append((spec.attribute, json.dumps(bound, sort_keys=True)))
        return {key.name: True if key.type == "bool" else text for key in spec.returns}

    def names(self) -> dict[str, Any]:
        """What the prelude defines."""
        classes = {spec.name: getattr(self.operator, spec.name) for spec in OPERATORS}
        return classes | {
            "__name__": "graph",
            "asyncio": asyncio,
            "operator": self.operator,
            "prompt_custom": self.prompt,
            "create_llm_instance": lambda *args, **kwargs: self.llm,
            "DatasetType": str,
        }

    def module(self, name: str) -> types.ModuleType:
        """A module of AFlow's, by the last part of its path."""
        last = name.split(".")[-1]
        if last in ("operator", "prompt"):
            return self.operator if last == "operator" else self.prompt
        module = types.ModuleType(name)
        module.__path__ = []
        module.create_llm_instance = lambda *args, **kwargs: self.llm  # type: ignore[attr-defined]
        module.DatasetType = str  # type: ignore[attr-defined]
        module.CostManager = lambda: types.SimpleNamespace(total_cost=0.0)  # type: ignore[attr-defined]
        return module


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports AFlow's modules as stubs."""

    run: Run

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name.split(".")[0] not in ROOTS:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> types.ModuleType:
        return self.run.module(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def workflow_of(run: Run, code: str) -> Any:
    """The workflow that a module's code defines, created."""
    module = sys.modules["graph"] = types.ModuleType("graph")  # dataclasses look it up
    namespace = module.__dict__
    namespace.update(run.names())
    flags = __future__.annotations.compiler_flag  # never evaluated inside, so neither here
    exec(compile(code, "graph.py", "exec", flags, dont_inherit=True), namespace)
    classes = [
        value
        for value in namespace.values()
        if isinstance(value, type)
        and value.__module__ == "graph"
        and asyncio.iscoroutinefunction(value.__dict__.get("__call__"))
    ]
    (cls,) = classes
    has_init = "__init__" in cls.__dict__
    cls.llm, cls.prompts = run.llm, run.prompts  # type: ignore[attr-defined]
    if not has_init:
        for spec in OPERATORS:
            if not hasattr(cls, spec.attribute):
                setattr(cls, spec.attribute, getattr(run.operator, spec.name)(run.llm))
        return cls()
    return cls(name="workflow", llm_config=None, dataset=None)


def outcome(finder: Finder, code: str, prompts: dict[str, str]) -> list[Any]:
    """[answer or None, error, calls] of one case."""
    run = finder.run = Run(prompts)
    for name in [n for n in sys.modules if n.split(".")[0] in ROOTS]:
        del sys.modules[name]
    signal.setitimer(signal.ITIMER_REAL, 2.0)
    try:
        workflow = workflow_of(run, code)
        takes_entry_point = "entry_point" in type(workflow).__call__.__code__.co_varnames
        options = {"entry_point": ENTRY_POINT} if takes_entry_point else {}
        answer, _ = asyncio.run(workflow(problem=PROBLEM, **options))
        if not isinstance(answer, (str, int, float)):
            return [None, f"answer is a {type(answer).__name__}", run.calls]
        return [str(answer), "", run.calls]
    except (Exception, OutOfBudget, SystemExit) as error:
        return [None, f"{type(error).__name__}: {error}", run.calls]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _expired(*_: Any) -> None:
    raise OutOfBudget("two seconds")


def main() -> None:
    """Runs what stdin holds."""
    resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    signal.signal(signal.SIGALRM, _expired)
    cases = json.load(sys.stdin)
    finder = Finder()
    sys.meta_path.insert(0, finder)
    printed, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps([outcome(finder, code, prompts) for code, prompts in cases]), file=printed)


if __name__ == "__main__":
    main()
