"""The code that surrounds a workflow inside the interpreter: written in its language, not ours.

`prelude_code` runs before the graph code and defines the operators, `self.llm` and what AFlow's
import lines would bring; `driver_code` runs after it, creates the workflow and returns its outcome
as plain texts. Each operator awaits one external function, `_host_operator`, which the host
answers with the operator's result and the cost so far; a second one, `_host_syntax`, says whether a
text is Python. No host object ever enters.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from keyword import iskeyword

from aflow_grpo.workflow.anatomy import WorkflowClass
from aflow_grpo.workflow.contract import OperatorSet

__all__ = [
    "HOST_FUNCTION",
    "SYNTAX_FUNCTION",
    "all_prompts_code",
    "driver_code",
    "operator_names",
    "prelude_code",
]

HOST_FUNCTION = "_host_operator"
"""Name of the external function for operators; called as (attribute, positional, keywords)."""

SYNTAX_FUNCTION = "_host_syntax"
"""Name of the one that says what is wrong with a Python text: [message, line], or nothing."""

_PRELUDE = f"""
import asyncio

class _CostManager:
    def __init__(self):
        self.total_cost = 0.0

class _Llm:
    def __init__(self):
        self.cost_manager = _CostManager()
    def get_usage_summary(self):
        total = self.cost_manager.total_cost
        return dict(total_cost=total, total_input_tokens=0, total_output_tokens=0)

_llm = _Llm()
CostManager = _CostManager

def create_llm_instance(*args, **kwargs):
    return _llm

class _Operator:
    def __init__(self, attribute):
        self.attribute = attribute
    async def __call__(self, *args, **kwargs):
        reply = await {HOST_FUNCTION}(self.attribute, list(args), kwargs)
        _llm.cost_manager.total_cost = reply[1]
        return reply[0]

class _Operators:
    def __init__(self):
        self.kind = "operators"

class _Prompts:
    def __init__(self):
        self.kind = "prompts"

operator = _Operators()
prompt_custom = _Prompts()
DatasetType = None

def _creator(attribute):
    def create(*args, **kwargs):
        return _Operator(attribute)
    return create

for _name, _attribute in _names:
    setattr(operator, _name, _creator(_attribute))
for _name, _text in _prompts.items():
    setattr(prompt_custom, _name, _text)

async def _caught(awaitable):
    try:
        return await awaitable
    except Exception as error:
        return error

async def _gather(*awaitables, return_exceptions=False):
    if return_exceptions:
        awaitables = [_caught(awaitable) for awaitable in awaitables]
    return await asyncio.gather(*awaitables)

def _task(awaitable, *args, **kwargs):
    return awaitable

async def _wait_for(awaitable, timeout=None):
    return await awaitable

async def _outcome(workflow, arguments, longest):
    returned = await workflow(**arguments)
    if not isinstance(returned, tuple) or len(returned) != 2:
        return ["not_a_pair", type(returned).__name__]
    answer = returned[0]
    if not isinstance(answer, (str, int, float)):
        return ["not_text", type(answer).__name__]
    text = str(answer)
    if len(text) > longest:
        return ["too_long", str(len(text))]
    return ["answer", text]
"""


def operator_names(operators: OperatorSet) -> list[list[str]]:
    """The prelude's input `_names`: class and attribute of each operator."""
    return [[spec.name, spec.attribute] for spec in operators.specs]


@lru_cache(maxsize=8)
def prelude_code(operators: OperatorSet) -> str:
    """Defines what a workflow finds; takes the inputs `_names` and `_prompts`."""
    creators = "\n".join(f"{name} = operator.{name}" for name in operators.by_class)
    return f"{_PRELUDE}\n{creators}\n"


def all_prompts_code(names: Iterable[str]) -> str:
    """What `from prompt import *` brings: the prompts that Python could name so."""
    public = (n for n in names if n.isidentifier() and not n.startswith("_") and not iskeyword(n))
    return "".join(f"{name} = prompt_custom.{name}\n" for name in public)


def driver_code(workflow: WorkflowClass, longest_answer: int, dataset: str | None = None) -> str:
    """Creates the workflow and runs it; takes the inputs `_problem`, `_entry_point`, `_prompts`.

    Its value is a pair of texts: ``answer`` and the answer, or what is wrong with the return value
    (``not_a_pair``, ``not_text``, ``too_long``) and a detail.

    Args:
        workflow: The class to run.
        longest_answer: In characters.
        dataset: What `__init__` gets as `dataset`.
    """
    name = workflow.node.name
    known = workflow.known_attributes - {"llm", "prompts"}
    lines = [f"{name}.llm = _llm", f"{name}.prompts = _prompts"]
    if "__init__" not in workflow.methods:
        lines += [
            f'{name}.{spec.attribute} = _Operator("{spec.attribute}")'
            for spec in workflow.offered.specs
            if spec.attribute not in known
        ]
    signature = workflow.call.args
    parameters = [argument.arg for argument in (*signature.args, *signature.kwonlyargs)]
    arguments = [f'"{workflow.problem_parameter}": _problem']
    if "entry_point" in parameters:
        arguments.append('"entry_point": _entry_point')
    lines.append(f"_workflow = {name}({_creation_arguments(workflow, dataset)})")
    if "prompts" not in workflow.assigned_attributes:
        lines.append("_workflow.prompts = _prompts")
    lines.append(f"await _outcome(_workflow, {{{', '.join(arguments)}}}, {longest_answer})")
    return "\n".join(lines) + "\n"


def _creation_arguments(workflow: WorkflowClass, dataset: str | None) -> str:
    """What `__init__` gets, by name: (name, llm_config, dataset) in AFlow's convention."""
    init = workflow.methods.get("__init__")
    if init is None:
        return ""
    positional = [*init.args.posonlyargs, *init.args.args][1:]
    required = positional[: len(positional) - len(init.args.defaults)]
    names = [argument.arg for argument in required]
    keyword_only = [
        argument.arg
        for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True)
        if default is None
    ]
    values = {n: _creation_value(n, dataset) for n in [*names, *keyword_only]}
    return ", ".join([values[n] for n in names] + [f"{n}={values[n]}" for n in keyword_only])


def _creation_value(parameter: str, dataset: str | None) -> str:
    if "llm" in parameter:
        return "_llm"
    if parameter == "dataset":
        return repr(dataset)
    return '"workflow"' if parameter == "name" else "None"
