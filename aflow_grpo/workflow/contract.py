"""The ten operators that a workflow may await, stated once, as data.

The policy prompt, the validator, the interpreter's prelude, the operators' signatures, the
simulator and the documentation are all derived from `OPERATORS`; names and interfaces are AFlow's
(arXiv 2410.10762), with real booleans where AFlow's standalone code returns strings.
"""

from __future__ import annotations

from aflow_grpo.records import Domain, OperatorSpec, Parameter, ReturnKey

__all__ = ["CALL_SIGNATURE", "OPERATORS", "OPERATORS_BY_ATTRIBUTE", "allowed_operators"]

CALL_SIGNATURE = "async def __call__(self, problem: str, entry_point: str = None)"
"""The canonical signature; `entry_point` may be left out."""

_PROBLEM = Parameter("problem", "str", "the problem's text")
_SOLUTION = Parameter("solution", "str", "the solution to work on")
_SOLUTIONS = Parameter("solutions", "list[str]", "the candidate solutions")
_ENTRY_POINT = Parameter("entry_point", "str", "name of the function to write")
_MODE = Parameter("mode", "str", "accepted for compatibility, ignored", required=False)
_OPTIONAL_PROBLEM = Parameter("problem", "str", "the problem's text", required=False, default="")
_ALL: tuple[Domain, ...] = ("math", "code", "qa")

OPERATORS: tuple[OperatorSpec, ...] = (
    OperatorSpec(
        name="Custom",
        attribute="custom",
        summary="Answers the input under an instruction of your own.",
        parameters=(
            Parameter("input", "str", "what to work on, usually the problem"),
            Parameter("instruction", "str", "what to do with it", required=False, default=""),
        ),
        returns=(ReturnKey("response", "str", "the model's text"),),
        llm_calls=(1, 1),
        domains=_ALL,
        recommended=(),
        marker="[custom]",
    ),
    OperatorSpec(
        name="AnswerGenerate",
        attribute="answer_generate",
        summary="Thinks step by step, then gives a concise answer.",
        parameters=(Parameter("input", "str", "the problem's text"), _MODE),
        returns=(
            ReturnKey("thought", "str", "the reasoning"),
            ReturnKey("answer", "str", "the concise answer"),
        ),
        llm_calls=(1, 1),
        domains=("math", "qa"),
        recommended=("math", "qa"),
        marker="[answer_generate]",
    ),
    OperatorSpec(
        name="CustomCodeGenerate",
        attribute="custom_code_generate",
        summary="Writes Python code with the given entry point.",
        parameters=(
            _PROBLEM,
            _ENTRY_POINT,
            Parameter("instruction", "str", "how to write it", required=False, default=""),
        ),
        returns=(ReturnKey("response", "str", "the code"),),
        llm_calls=(1, 1),
        domains=("code",),
        recommended=("code",),
        marker="[custom_code_generate]",
    ),
    OperatorSpec(
        name="ScEnsemble",
        attribute="sc_ensemble",
        summary="Picks the most consistent of several solutions.",
        parameters=(_SOLUTIONS, _OPTIONAL_PROBLEM),
        returns=(ReturnKey("response", "str", "the chosen solution"),),
        llm_calls=(0, 2),
        domains=_ALL,
        recommended=("qa",),
        marker="[sc_ensemble]",
    ),
    OperatorSpec(
        name="Programmer",
        attribute="programmer",
        summary="Writes a Python function solve(), runs it, returns code and output.",
        parameters=(
            _PROBLEM,
            Parameter("analysis", "str", "hints for the code", required=False, default="None"),
        ),
        returns=(
            ReturnKey("code", "str", "the program"),
            ReturnKey("output", "str", "what it computed"),
        ),
        llm_calls=(1, 3),
        domains=("math", "code"),
        recommended=("math",),
        marker="[programmer]",
    ),
    OperatorSpec(
        name="Test",
        attribute="test",
        summary="Runs code on the public tests and mends it when they fail.",
        parameters=(
            _PROBLEM,
            _SOLUTION,
            _ENTRY_POINT,
            Parameter("test_loop", "int", "most rounds of mending", required=False, default=3),
        ),
        returns=(
            ReturnKey("result", "bool", "whether the public tests pass"),
            ReturnKey("solution", "str", "the code, mended if need be"),
        ),
        llm_calls=(0, 3),
        domains=("code",),
        recommended=("code",),
        marker="[test]",
    ),
    OperatorSpec(
        name="Format",
        attribute="format",
        summary="Extracts the short final answer from a solution.",
        parameters=(_PROBLEM, _SOLUTION, _MODE),
        returns=(
            ReturnKey("solution", "str", "the short answer"),
            ReturnKey("response", "str", "the same short answer"),
        ),
        llm_calls=(1, 1),
        domains=("math", "qa"),
        recommended=("qa",),
        marker="[format]",
    ),
    OperatorSpec(
        name="Review",
        attribute="review",
        summary="Judges a solution and explains what is wrong.",
        parameters=(_PROBLEM, _SOLUTION, _MODE),
        returns=(
            ReturnKey("review_result", "bool", "False when the solution looks wrong"),
            ReturnKey("feedback", "str", "what to mend"),
        ),
        llm_calls=(1, 1),
        domains=_ALL,
        recommended=("math",),
        marker="[review]",
    ),
    OperatorSpec(
        name="Revise",
        attribute="revise",
        summary="Rewrites a solution following feedback.",
        parameters=(
            _PROBLEM,
            _SOLUTION,
            Parameter("feedback", "str", "what to mend"),
            _MODE,
        ),
        returns=(ReturnKey("solution", "str", "the rewritten solution"),),
        llm_calls=(1, 1),
        domains=_ALL,
        recommended=(),
        marker="[revise]",
    ),
    OperatorSpec(
        name="MdEnsemble",
        attribute="md_ensemble",
        summary="Picks the best of several solutions by five shuffled votes.",
        parameters=(_SOLUTIONS, _OPTIONAL_PROBLEM, _MODE),
        returns=(ReturnKey("solution", "str", "the chosen solution"),),
        llm_calls=(0, 5),
        domains=_ALL,
        recommended=(),
        marker="[md_ensemble]",
    ),
)

OPERATORS_BY_ATTRIBUTE: dict[str, OperatorSpec] = {spec.attribute: spec for spec in OPERATORS}


def allowed_operators(domain: Domain) -> tuple[OperatorSpec, ...]:
    """The operators that a workflow for `domain` may await, in the contract's order."""
    return tuple(spec for spec in OPERATORS if domain in spec.domains)
