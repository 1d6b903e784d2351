"""What an operator is: a contract, checked arguments, and one asynchronous step on an LLM.

Arguments come from code that the policy wrote, so they may be anything. Numbers and booleans
become text where text is expected; whatever else has the wrong shape is a `WorkflowFault` that
says what was given and what was expected, never a bug of ours three frames further down.
Not covered: which operators a domain may use, and whether a call is well-formed before it runs
(`workflow`), budgets and deadlines (`execution`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, TypeVar

from aflow_grpo.errors import WorkflowFault
from aflow_grpo.llm.session import Formatter
from aflow_grpo.records import FaultKind, OperatorSpec, Parameter, Usage
from aflow_grpo.workflow.contract import OPERATORS_BY_ATTRIBUTE

__all__ = ["LLM", "Arguments", "BranchingLLM", "Operator", "Result", "contract"]

T = TypeVar("T")

Result = dict[str, str | bool]
"""What an operator returns to the workflow; the keys are those of its contract."""


class LLM(Protocol):
    """What an operator needs of the executor."""

    async def __call__(
        self,
        prompt: str,
        *,
        system: str = "",
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> str:
        """The executor's reply."""
        ...

    async def call_with_format(
        self, prompt: str, formatter: Formatter[T], *, system: str = ""
    ) -> T:
        """The parsed reply; a reply that `formatter` refuses is asked for once more."""
        ...


class BranchingLLM(LLM, Protocol):
    """An executor session that gives each operator call a branch with its own count."""

    @property
    def usage(self) -> Usage:
        """What this session and its branches consumed."""
        ...

    @property
    def tiers_used(self) -> tuple[str, ...]:
        """Which tier answered, in order of the calls."""
        ...

    def branch(self, index: int) -> BranchingLLM:
        """The branch with this number; the same number gives the same seeds."""
        ...


def contract(attribute: str) -> OperatorSpec:
    """The contract of the operator that workflows know as `attribute`."""
    return OPERATORS_BY_ATTRIBUTE[attribute]


class Operator(ABC):
    """One operator; stateless between calls, so that one instance serves concurrent ones."""

    spec: ClassVar[OperatorSpec]

    async def __call__(self, llm: LLM, /, **arguments: Any) -> Result:
        """Run the operator on a workflow's arguments.

        Args:
            llm: The executor.
            **arguments: By the names of the contract; `instruction` besides, for every operator.

        Raises:
            WorkflowFault: An argument is unknown, missing or of the wrong shape.
            Unavailable: The executor did not answer.
        """
        return await self._run(llm, Arguments.check(self.spec, arguments))

    @abstractmethod
    async def _run(self, llm: LLM, given: Arguments) -> Result:
        """The operator's work, on checked arguments."""


class Arguments:
    """One call's arguments, complete and of the contract's types.

    Args:
        values: By parameter name; made by `check`.
    """

    def __init__(self, values: Mapping[str, str | int | list[str]]) -> None:
        self._values = values

    @classmethod
    def check(cls, spec: OperatorSpec, given: Mapping[str, Any]) -> Arguments:
        """Fill in defaults and convert what can be converted.

        Raises:
            WorkflowFault: An argument is unknown, missing or of the wrong shape.
        """
        parameters = {parameter.name: parameter for parameter in spec.parameters}
        parameters.setdefault(
            "instruction", Parameter("instruction", "str", "how to do it", False, "")
        )
        for name in given:
            if name not in parameters:
                known = ", ".join(parameter.name for parameter in spec.parameters)
                raise _fault(spec, name, f"unknown argument; it takes {known}")
        values: dict[str, str | int | list[str]] = {}
        for name, parameter in parameters.items():
            value = given.get(name)
            if value is None:
                if parameter.required:
                    raise _fault(spec, name, "is missing or None")
                value = "" if parameter.default is None else parameter.default
            values[name] = _convert(spec, parameter, value)
        return cls(values)

    def text(self, name: str) -> str:
        """A text argument."""
        value = self._values[name]
        assert isinstance(value, str)
        return value

    def number(self, name: str) -> int:
        """An integer argument."""
        value = self._values[name]
        assert isinstance(value, int)
        return value

    def texts(self, name: str) -> list[str]:
        """An argument that is a list of texts."""
        value = self._values[name]
        assert isinstance(value, list)
        return value


def _convert(spec: OperatorSpec, parameter: Parameter, value: Any) -> str | int | list[str]:
    if parameter.type == "int":
        return _as_int(spec, parameter.name, value)
    if parameter.type == "list[str]":
        if isinstance(value, (str, bytes)) or not isinstance(value, (list, tuple)):
            raise _fault(spec, parameter.name, f"expected a list of texts, got {_shape(value)}")
        return [_as_text(spec, f"{parameter.name}[{i}]", item) for i, item in enumerate(value)]
    return _as_text(spec, parameter.name, value)


def _as_text(spec: OperatorSpec, name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, int, float)):
        try:
            return str(value)
        except ValueError:  # an integer of thousands of digits
            raise _fault(spec, name, "a number with too many digits") from None
    raise _fault(spec, name, f"expected text, got {_shape(value)}")


def _as_int(spec: OperatorSpec, name: str, value: Any) -> int:
    try:
        number = float(value) if isinstance(value, (bool, int, float, str)) else None
        if number is not None and number == int(number):
            return int(number)
    except (ValueError, OverflowError):
        pass
    raise _fault(spec, name, f"expected a whole number, got {_shape(value)}")


def _shape(value: Any) -> str:
    if isinstance(value, Mapping):
        keys = ", ".join(repr(str(key)) for key in list(value)[:4])
        return f"a dictionary with {keys or 'no keys'}: pass one of its values"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    return "None" if value is None else f"a {type(value).__name__}"


def _fault(spec: OperatorSpec, name: str, problem: str) -> WorkflowFault:
    return WorkflowFault(FaultKind.EXCEPTION, f"{spec.attribute}({name}=...): {problem}")
