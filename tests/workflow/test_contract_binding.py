"""What a workflow passes to an operator: taken where AFlow takes it, refused where it raises."""

from __future__ import annotations

import re
from typing import Any

import pytest
from workflow_host import Host, run

from aflow_grpo.workflow.binding import BindError, bind, bind_arguments
from aflow_grpo.workflow.contract import TEN_OPERATORS

TEN = TEN_OPERATORS.by_attribute


def passed(attribute: str, arguments: str, parameter: str) -> Any:
    """What the host gets for `parameter` when a workflow makes the call."""
    host = Host()
    code = (
        "class Workflow:\n    async def __call__(self, problem):\n"
        '        result = await self.custom(input="p", instruction="i")\n'
        f"        r = await self.{attribute}({arguments})\n"
        '        return "done", 0\n'
    )
    outcome = run(code, host)
    assert outcome.fault is None, outcome.fault
    return host.calls[1][2][parameter]


@pytest.mark.parametrize(
    ("attribute", "arguments", "parameter", "expected"),
    [
        ("format", "problem, result", "solution", "{'response': 'custom#0'}"),
        ("review", "problem=problem, solution=[1, 'a', None]", "solution", "[1, 'a', None]"),
        ("review", "problem=problem, solution=None", "solution", "None"),
        ("revise", "problem, 'x', ('a', 2.5)", "feedback", "('a', 2.5)"),
        ("programmer", "problem, {'n': {1: True}}", "analysis", "{'n': {1: True}}"),
        ("programmer", "problem, None", "analysis", "None"),
        ("answer_generate", "3.0", "input", "3.0"),
        ("answer_generate", "{1}", "input", "{1}"),
        ("test", "problem, result, None", "entry_point", "None"),
        (
            "sc_ensemble",
            "[result, None, 4]",
            "solutions",
            ["{'response': 'custom#0'}", "None", "4"],
        ),
        ("md_ensemble", "('a', 'b')", "solutions", ["a", "b"]),
        ("custom", "input=7, instruction=None", "input", "7"),
        ("custom", "input=7, instruction=None", "instruction", ""),
    ],
)
def test_what_a_prompt_template_would_take_is_taken_as_its_text(
    attribute: str, arguments: str, parameter: str, expected: Any
) -> None:
    assert passed(attribute, arguments, parameter) == expected


@pytest.mark.parametrize(
    ("attribute", "arguments", "message"),
    [
        ("custom", "result", "is a dictionary with 'response'; expected text"),
        ("custom", "input=None", "'input' is None; expected text"),
        ("custom_code_generate", "[problem], 'f', 'i'", "'problem' is a list; expected text"),
        ("sc_ensemble", "problem", "is the text '2\\+3\\?'; expected a list of texts"),
        ("sc_ensemble", "[]", "is an empty list"),
        ("test", "problem, 'c', 'f', 'many'", "'test_loop' is the text 'many'; expected int"),
        ("test", "problem, 'c', 'f', 1.5", "'test_loop' is a float; expected int"),
        ("review", "problem", "misses the argument 'solution'"),
        ("review", "problem, 'a', None, 'b'", "at most 3 arguments, got 4"),
        ("review", "problem, problem=problem, solution='a'", "got 'problem' twice"),
        ("review", "problem, answer='a'", "no parameter 'answer'; it has problem, solution, mode"),
    ],
)
def test_what_does_not_fit_is_a_type_error_inside_the_workflow(
    attribute: str, arguments: str, message: str
) -> None:
    code = (
        "class Workflow:\n    async def __call__(self, problem):\n"
        '        result = await self.custom(input="p", instruction="i")\n'
        "        try:\n"
        f"            await self.{attribute}({arguments})\n"
        "        except TypeError as error:\n"
        "            return str(error), 0\n"
        '        return "taken", 0\n'
    )
    host = Host()
    assert re.search(message, run(code, host).answer or "")
    assert len(host.calls) == 1


def test_prompts_give_the_instruction_that_a_call_leaves_out() -> None:
    for key in ("custom", "Custom"):
        bound = bind_arguments(TEN["custom"], ("p",), {}, {key: "Be brief."}, 100)
        assert bound == {"input": "p", "instruction": "Be brief."}
    bound = bind_arguments(TEN["custom"], ("p", "Mine."), {}, {"custom": "Be brief."}, 100)
    assert bound["instruction"] == "Mine."
    bound = bind_arguments(TEN["review"], ("p", "s"), {}, {"Review": "Be strict."}, 100)
    assert bound == {"problem": "p", "solution": "s", "mode": None, "instruction": "Be strict."}


def test_too_much_text_is_refused_before_it_is_sent() -> None:
    fits = bind_arguments(TEN["sc_ensemble"], (["aa", "bb"], "c"), {}, {}, 5)
    assert fits == {"solutions": ["aa", "bb"], "problem": "c"}
    with pytest.raises(BindError, match=r"sc_ensemble\(\) got 6 characters; at most 5 are sent"):
        bind_arguments(TEN["sc_ensemble"], (["aa", "bb"], "cc"), {}, {}, 5)


@pytest.mark.parametrize("value", [10**5000, {"n": 10**5000}], ids=["alone", "inside"])
def test_number_of_thousands_of_digits_is_refused(value: Any) -> None:
    with pytest.raises(BindError, match="too long a number or too deep a structure"):
        bind(TEN["review"], ("p", value), {})
