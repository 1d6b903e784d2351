"""The ten operators that a workflow may await, stated once, as data.

The policy prompt, the validator, the interpreter's prelude, the operators' signatures, the
simulator and the documentation are all derived from an `OperatorSet`; `TEN_OPERATORS` is the one
that everything uses unless a user adds an operator of their own. Names and interfaces are AFlow's
(arXiv 2410.10762), with real booleans where its standalone code returns strings. Where published
systems call one result differently, all of their keys are returned: one is the main key, which
prompts show, the others repeat its value.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from aflow_grpo.errors import ConfigError
from aflow_grpo.records import Domain
from aflow_grpo.workflow.spec import OperatorSpec, Parameter, ReturnKey

__all__ = ["CALL_SIGNATURE", "OPERATORS", "TEN_OPERATORS", "OperatorSet"]

CALL_SIGNATURE = "async def __call__(self, problem: str, entry_point: str = None)"
"""The canonical signature; `entry_point` may be left out."""


@dataclass(frozen=True)
class OperatorSet:
    """The operators that exist; hashable, so that what is derived from it can be kept.

    Args:
        specs: Their contracts, in the order in which prompts and docs name them.

    Raises:
        ConfigError: Two operators share a name, an attribute or the opening of a marker.
    """

    specs: tuple[OperatorSpec, ...]

    def __post_init__(self) -> None:
        for one, other in combinations(self.specs, 2):
            for field in ("name", "attribute"):
                taken = getattr(one, field)
                if getattr(other, field) == taken:
                    raise ConfigError(
                        f"operator {other.name!r}: {field}={taken!r} is taken by {one.name!r};"
                        " give it another"
                    )
            if one.marker.startswith(other.marker) or other.marker.startswith(one.marker):
                raise ConfigError(
                    f"operator {other.name!r}: marker={other.marker!r} cannot be told from"
                    f" {one.marker!r} of {one.name!r}; give it another"
                )

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self.specs)  # a hundred small hashes, asked for with every workflow

    @cached_property
    def by_attribute(self) -> dict[str, OperatorSpec]:
        """Name on `self` -> contract."""
        return {spec.attribute: spec for spec in self.specs}

    @cached_property
    def by_class(self) -> dict[str, OperatorSpec]:
        """Class name -> contract."""
        return {spec.name: spec for spec in self.specs}

    @property
    def markers(self) -> dict[str, str]:
        """Name on `self` -> opening of the system message."""
        return {spec.attribute: spec.marker for spec in self.specs}

    def allowed(self, domain: Domain) -> tuple[OperatorSpec, ...]:
        """The operators that a workflow for `domain` may await."""
        return tuple(spec for spec in self.specs if domain in spec.domains)

    def offered(self, domain: Domain) -> tuple[OperatorSpec, ...]:
        """The operators that a prompt offers: allowed and not discouraged."""
        return tuple(spec for spec in self.allowed(domain) if domain not in spec.discouraged)

    def extended(self, specs: Iterable[OperatorSpec]) -> OperatorSet:
        """This set and further operators after it."""
        return OperatorSet((*self.specs, *specs))


_PROBLEM = Parameter("problem", "str", "the problem's text", as_text=True)
_SOLUTION = Parameter("solution", "str", "the solution to work on", as_text=True)
_SOLUTIONS = Parameter("solutions", "list[str]", "the candidate solutions", as_text=True)
_ENTRY_POINT = Parameter("entry_point", "str", "name of the function to write", as_text=True)
_MODE = Parameter("mode", "str", "accepted for compatibility, ignored", required=False, shown=False)
_OPTIONAL_PROBLEM = Parameter(
    "problem", "str", "the problem's text", required=False, default="", as_text=True
)
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
        parameters=(Parameter("input", "str", "the problem's text", as_text=True), _MODE),
        returns=(
            ReturnKey("thought", "str", "the reasoning"),
            ReturnKey("answer", "str", "the concise answer"),
        ),
        llm_calls=(1, 2),
        domains=_ALL,
        recommended=("math", "qa"),
        discouraged=("code",),
        marker="[answer_generate]",
    ),
    OperatorSpec(
        name="CustomCodeGenerate",
        attribute="custom_code_generate",
        summary="Writes Python code with the given entry point.",
        parameters=(
            Parameter("problem", "str", "the problem's text"),
            _ENTRY_POINT,
            Parameter("instruction", "str", "how to write it", required=False, default=""),
        ),
        returns=(
            ReturnKey("response", "str", "the code"),
            ReturnKey("code", "str", "the code", alias_of="response"),
        ),
        llm_calls=(1, 1),
        domains=_ALL,
        recommended=("code",),
        discouraged=("math", "qa"),
        marker="[custom_code_generate]",
    ),
    OperatorSpec(
        name="ScEnsemble",
        attribute="sc_ensemble",
        summary="Picks the most consistent of several solutions.",
        parameters=(_SOLUTIONS, _OPTIONAL_PROBLEM),
        returns=(
            ReturnKey("response", "str", "the chosen solution"),
            ReturnKey("solution", "str", "the chosen solution", alias_of="response"),
        ),
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
            Parameter(
                "analysis",
                "str",
                "hints for the code",
                required=False,
                default="None",
                as_text=True,
            ),
        ),
        returns=(
            ReturnKey("code", "str", "the program"),
            ReturnKey("output", "str", "what it computed"),
        ),
        llm_calls=(1, 3),
        domains=_ALL,
        recommended=("math",),
        discouraged=("qa",),
        marker="[programmer]",
    ),
    OperatorSpec(
        name="Test",
        attribute="test",
        summary="Runs code on the public tests and mends it when they fail.",
        parameters=(
            _PROBLEM,
            Parameter("solution", "str", "the code to test", as_text=True),
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
            ReturnKey("response", "str", "the short answer", alias_of="solution"),
        ),
        llm_calls=(1, 2),
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
        llm_calls=(1, 2),
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
            Parameter("feedback", "str", "what to mend", as_text=True),
            _MODE,
        ),
        returns=(
            ReturnKey("solution", "str", "the rewritten solution"),
            ReturnKey("response", "str", "the rewritten solution", alias_of="solution"),
        ),
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
        returns=(
            ReturnKey("solution", "str", "the chosen solution"),
            ReturnKey("response", "str", "the chosen solution", alias_of="solution"),
        ),
        llm_calls=(0, 5),
        domains=_ALL,
        recommended=(),
        marker="[md_ensemble]",
    ),
)

TEN_OPERATORS = OperatorSet(OPERATORS)
