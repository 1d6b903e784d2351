"""The rules about operators, their results and the prompts, as data."""

from __future__ import annotations

from aflow_grpo.records import FaultKind
from aflow_grpo.workflow.rule import Rule

__all__ = ["OPERATOR_RULES"]

K = FaultKind
_CALL = "    async def __call__(self, problem):\n"

OPERATOR_RULES: tuple[Rule, ...] = (
    Rule(
        "unknown-operator",
        K.UNKNOWN_OPERATOR,
        "an attribute of `self` that is no operator and is never assigned",
        "The line raises an AttributeError.",
        "Use one of the operators that the prompt lists.",
        "r = await self.solve(input=problem)\nreturn problem, 0",
    ),
    Rule(
        "operator-not-created",
        K.UNKNOWN_OPERATOR,
        "an operator that a class with an `__init__` never creates there",
        "The line raises an AttributeError.",
        "Create it in `__init__`, or leave `__init__` out: then all operators are there.",
        "class Workflow:\n    def __init__(self, llm):\n"
        "        self.custom = operator.Custom(llm)\n"
        f'{_CALL}        r = await self.review(problem, "2")\n        return r["feedback"], 0\n',
    ),
    Rule(
        "unknown-operator-class",
        K.UNKNOWN_OPERATOR,
        "an operator class that does not exist",
        "Creating it raises an AttributeError.",
        "Use one of the ten operator classes.",
        "class Workflow:\n    def __init__(self, llm):\n"
        "        self.solve = operator.Solver(llm)\n"
        f"{_CALL}        return problem, 0\n",
    ),
    Rule(
        "unknown-llm-member",
        K.UNKNOWN_OPERATOR,
        "a member of `self.llm` that does not tell costs",
        "`self.llm` calls no model.",
        "Call models through operators.",
        "r = await self.llm.ask(problem)\nreturn r, 0",
    ),
    Rule(
        "forbidden-operator",
        K.FORBIDDEN_OPERATOR,
        "an operator that this domain may not use",
        "It has nothing to work on there: mathematics and questions have no tests.",
        "Use an operator of this domain.",
        'r = await self.test(problem, "2", "f")\nreturn r["solution"], 0',
    ),
    Rule(
        "operator-not-enabled",
        K.FORBIDDEN_OPERATOR,
        "an operator that the settings do not offer",
        "Only the operators in `operators.enabled` may be used.",
        "Use an enabled operator.",
        "",
    ),
    Rule(
        "not-recommended",
        K.FORBIDDEN_OPERATOR,
        "an operator that seldom helps in this domain",
        "It costs calls and rarely mends an answer.",
        "Use an operator that the prompt recommends.",
        'r = await self.programmer(problem)\nreturn r["output"], 0',
        "warn",
        "qa",
    ),
    Rule(
        "untested-code",
        K.FORBIDDEN_OPERATOR,
        "a workflow for a code problem that never runs the tests",
        "Testing and mending is what helps most there.",
        "Pass the code through `test` before returning it.",
        'r = await self.custom(input=problem)\nreturn r["response"], 0',
        "warn",
        "code",
    ),
    Rule(
        "unknown-argument",
        K.BAD_ARGUMENTS,
        "an argument that the operator does not have, or too many",
        "The call raises a TypeError.",
        "Use the parameters that the operator has.",
        "r = await self.custom(input=problem, text=problem)\nreturn problem, 0",
    ),
    Rule(
        "missing-argument",
        K.BAD_ARGUMENTS,
        "a call without an argument that the operator needs",
        "The call raises a TypeError.",
        "Give all parameters that have no default.",
        "r = await self.review(problem=problem)\nreturn problem, 0",
    ),
    Rule(
        "repeated-argument",
        K.BAD_ARGUMENTS,
        "an argument that is given twice",
        "The call raises a TypeError.",
        "Give it once, by position or by name.",
        "r = await self.custom(problem, input=problem)\nreturn problem, 0",
    ),
    Rule(
        "argument-type",
        K.BAD_ARGUMENTS,
        "an argument of a type that the parameter surely does not take",
        "The call raises a TypeError.",
        "Give text where text is expected and a list of texts where a list is.",
        'r = await self.sc_ensemble(solutions="2")\nreturn problem, 0',
    ),
    Rule(
        "missing-await",
        K.NOT_AWAITED,
        "an operator call whose result is used without `await`",
        "A coroutine is no result: the call is never made.",
        'Write `r = await self.custom(...)` and then `r["response"]`.',
        'r = self.custom(input=problem)\nreturn r["response"], 0',
    ),
    Rule(
        "awaits-no-coroutine",
        K.NOT_AWAITED,
        "`await` on something that is surely no coroutine",
        "The line raises a TypeError.",
        "Leave `await` out.",
        "r = await str(problem)\nreturn r, 0",
    ),
    Rule(
        "unknown-key",
        K.UNDEFINED_NAME,
        "a key that the operator's result does not have",
        "The line raises a KeyError.",
        "Read one of the keys that the operator returns.",
        'r = await self.custom(input=problem)\nreturn r["answer"], 0',
    ),
    Rule(
        "result-attribute",
        K.UNDEFINED_NAME,
        "an attribute of an operator's result",
        "Results are dictionaries: the line raises an AttributeError.",
        'Read a key, e.g. `r["response"]`.',
        "r = await self.custom(input=problem)\nreturn r.response, 0",
    ),
    Rule(
        "result-as-text",
        K.BAD_ARGUMENTS,
        "an operator's whole result where its text is meant",
        "A dictionary is no text: the line raises a TypeError.",
        'Read a key, e.g. `r["response"]`.',
        'r = await self.custom(input=problem)\nreturn r + "!", 0',
    ),
    Rule(
        "undefined-prompt",
        K.UNKNOWN_PROMPT,
        "a prompt constant that is not defined (`prompt_custom.NAME`)",
        "The line raises an AttributeError.",
        "Define it in the prompts, or write the instruction as text.",
        "r = await self.custom(problem, prompt_custom.SOLVE)\nreturn problem, 0",
    ),
    Rule(
        "undefined-prompt-key",
        K.UNKNOWN_PROMPT,
        'a key of `self.prompts["name"]` that is not defined',
        "The line raises a KeyError.",
        "Define it in the prompts, or write the instruction as text.",
        'r = await self.custom(problem, self.prompts["solve"])\nreturn problem, 0',
    ),
)
