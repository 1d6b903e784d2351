"""What an operator is: a contract, checked arguments, one asynchronous step, a checked result.

Arguments come from code that the policy wrote, so they may be anything: what does not fit the
contract is a `WorkflowFault` that says what was given and what was expected, never a bug of ours
three frames further down. Results come from replies of a model, so fields may be missing: what
leaves an operator has exactly the keys and types of its contract, or is a `WorkflowFault` too.
Not covered: which operators a domain may use, and whether a call is well-formed before it runs
(`workflow`), budgets and deadlines (`execution`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self, TypeVar

from aflow_grpo.errors import WorkflowFault
from aflow_grpo.llm.session import Formatter
from aflow_grpo.llm.structured import ReplyForm
from aflow_grpo.records import FaultKind, LLMCall, Usage, VisibleProblem
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.workflow.binding import BindError, bind
from aflow_grpo.workflow.contract import TEN_OPERATORS
from aflow_grpo.workflow.spec import OperatorSpec

__all__ = ["LLM", "Arguments", "BranchingLLM", "Operator", "Result", "Surroundings", "contract"]

T = TypeVar("T")

Result = dict[str, str | bool]
"""What an operator returns to the workflow; the keys are those of its contract."""

_INSTRUCTION = "instruction"


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
        self,
        prompt: str,
        formatter: Formatter[T],
        *,
        system: str = "",
        form: ReplyForm | None = None,
    ) -> T:
        """The parsed reply; a reply that `formatter` refuses is asked for once more.

        With `form`, an endpoint that can be held to a JSON object is asked for that instead.
        """
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

    @property
    def calls(self) -> tuple[LLMCall, ...]:
        """Every call that has ended, in the order in which they were asked."""
        ...

    def branch(self, index: int, operator: str = "") -> BranchingLLM:
        """The branch with this number; the same number gives the same seeds."""
        ...


@dataclass(frozen=True)
class Surroundings:
    """What an operator can be built on, for one execution."""

    sandbox: Sandbox
    """Runs code that a model wrote."""
    problem: VisibleProblem
    """The problem as a solver may know it."""


def contract(attribute: str) -> OperatorSpec:
    """The contract of one of the ten operators, by the name that workflows know it by."""
    return TEN_OPERATORS.by_attribute[attribute]


class Operator(ABC):
    """One operator; stateless between calls, so that one instance serves concurrent ones.

    A subclass states its contract as `spec` and does its work in `run`. One that needs more than
    the executor overrides `build`.
    """

    spec: ClassVar[OperatorSpec]

    @classmethod
    def build(cls, surroundings: Surroundings) -> Self:
        """The operator for one execution."""
        return cls()

    @abstractmethod
    async def run(self, llm: LLM, given: Arguments) -> Result:
        """The operator's work.

        Args:
            llm: The executor. The system message opens with `self.spec.marker`.
            given: The call's arguments, checked.

        Returns:
            The main keys of the contract; aliases are added.
        """

    async def __call__(self, llm: LLM, /, **arguments: Any) -> Result:
        """Run the operator on a workflow's arguments.

        Args:
            llm: The executor.
            **arguments: By the names of the contract; `instruction` besides, for every operator.

        Raises:
            WorkflowFault: An argument is unknown, missing or of the wrong shape (`exception`), or
                the result does not fit the contract (`bad_result`).
            Unavailable: The executor did not answer.
        """
        result = await self.run(llm, Arguments.check(self.spec, arguments))
        return _complete(self.spec, result)


class Arguments:
    """One call's arguments, complete and of the contract's types.

    Args:
        values: By parameter name; made by `check`.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    @classmethod
    def check(cls, spec: OperatorSpec, given: Mapping[str, Any]) -> Arguments:
        """Fill in defaults and convert what can be converted.

        Raises:
            WorkflowFault: An argument is unknown, missing or of the wrong shape.
        """
        rest = dict(given)
        extra = {}
        if all(parameter.name != _INSTRUCTION for parameter in spec.parameters):
            extra[_INSTRUCTION] = str(rest.pop(_INSTRUCTION, None) or "")
        try:
            return cls(bind(spec, (), rest) | extra)
        except BindError as error:
            raise WorkflowFault(FaultKind.EXCEPTION, str(error)) from None

    def text(self, name: str) -> str:
        """A text argument; empty where the contract's default is None."""
        value = self._values[name]
        assert value is None or isinstance(value, str)
        return value or ""

    def number(self, name: str) -> int:
        """An integer or boolean argument."""
        value = self._values[name]
        assert isinstance(value, int)
        return value

    def texts(self, name: str) -> list[str]:
        """An argument that is a list of texts."""
        value = self._values[name]
        assert isinstance(value, list)
        return value


def _complete(spec: OperatorSpec, result: Mapping[str, Any]) -> Result:
    """The result with the contract's aliases, in the contract's order.

    Raises:
        WorkflowFault: It has other keys or types than the contract.
    """
    if not isinstance(result, Mapping):
        raise _bad_result(spec, f"is a {type(result).__name__}; expected a dictionary")
    types: dict[str, type] = {"str": str, "bool": bool}
    for key in spec.main_returns:
        if key.name not in result:
            raise _bad_result(spec, f"misses the key {key.name!r}")
    complete: Result = {}
    for key in spec.returns:
        value: Any = result.get(key.name, result.get(key.alias_of))
        fits = isinstance(value, types[key.type])
        if not fits:
            raise _bad_result(
                spec, f"has a {type(value).__name__} under {key.name!r}; expected {key.type}"
            )
        complete[key.name] = value
    unknown = [str(name) for name in result if name not in complete]
    if unknown:
        raise _bad_result(spec, f"has the key {unknown[0]!r:.40}, which its contract does not know")
    return complete


def _bad_result(spec: OperatorSpec, problem: str) -> WorkflowFault:
    return WorkflowFault(FaultKind.BAD_RESULT, f"{spec.attribute}: its result {problem}")
