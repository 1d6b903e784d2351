"""What the operators call: one rollout's view of the executor, with its own seeds and usage.

The interface is the source documents' wrapper: call it with a prompt, ask it for its usage. Each
call's seed is derived from the session's seed and the call's number, so replies do not depend on
the order in which concurrent calls return. Not here: tiers, retries, the journal (`client`).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from aflow_grpo.errors import ConfigError, Unavailable, WorkflowFault
from aflow_grpo.llm.structured import ReplyForm
from aflow_grpo.records import FaultKind, LLMCall, Usage
from aflow_grpo.seeds import derive_seed

__all__ = ["Formatter", "LLMSession", "Reply", "Request", "SpendLimits"]

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Formatter(Protocol[T_co]):
    """Turns a reply's text into a value."""

    def parse(self, text: str) -> T_co:
        """The value; raises ValueError, saying what is missing, when the text is malformed."""
        ...


@dataclass(frozen=True)
class Request:
    """One call, before a tier fills in its model and defaults."""

    prompt: str
    system: str
    seed: int
    temperature: float | None = None
    """None: the tier's."""
    max_tokens: int | None = None
    """None: the tier's."""
    execution: int = 0
    """Which execution asks: its session's seed."""
    place: str = ""
    """Where in it: number of the operator call, number of the call in it, e.g. ``3.0``; a second
    request after a malformed reply ends with ``again``."""
    operator: str = ""
    """Which operator asks, by the name that workflows know it by."""
    form: ReplyForm | None = None
    """How to ask for a JSON object instead, where the tier can; None: `prompt` alone."""


@dataclass(frozen=True)
class SpendLimits:
    """What one workflow may consume; what is on its way when a limit is reached still counts."""

    max_usd: float | None = None
    """List cost in USD; null for no limit."""
    max_tokens: int | None = None
    """Prompt and completion tokens together; null for no limit."""

    def __post_init__(self) -> None:
        for name in ("max_usd", "max_tokens"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"llm.workflow.{name}={value!r}: expected more than 0, or null.")

    def check(self, usage: Usage) -> None:
        """Refuse the next call when `usage` has reached a limit.

        Raises:
            WorkflowFault: It has.
        """
        tokens = usage.prompt_tokens + usage.completion_tokens
        if self.max_usd is not None and usage.cost_usd >= self.max_usd:
            told = f"{usage.cost_usd:.6f} USD; llm.workflow.max_usd allows {self.max_usd:g}"
        elif self.max_tokens is not None and tokens >= self.max_tokens:
            told = f"{tokens} tokens; llm.workflow.max_tokens allows {self.max_tokens}"
        else:
            return
        raise WorkflowFault(FaultKind.SPEND_LIMIT, f"The workflow has consumed {told}.")


@dataclass(frozen=True)
class Reply:
    """What became of a request: a text, or the fault to raise; the usage in both cases."""

    text: str
    usage: Usage
    tier: str = ""
    model: str = ""
    fault: Unavailable | WorkflowFault | None = None
    finish_reason: str = ""
    """As the endpoint said: `stop`, `length`, ...; empty when it said nothing."""
    cached_tokens: int = 0
    """Prompt tokens that the endpoint had in its cache."""
    structured: bool = False
    """Whether a JSON object was asked for."""


class LLMSession:
    """Calls the executor and keeps count; made by `ExecutorClient.session` and `branch`.

    Args:
        ask: Answers a request.
        seed: All seeds of the session's calls are derived from it.
        limits: What it and its branches may consume.
    """

    def __init__(
        self,
        ask: Callable[[Request], Awaitable[Reply]],
        seed: int,
        limits: SpendLimits = SpendLimits(),
    ) -> None:
        self._ask = ask
        self._seed = seed
        self._limits = limits
        self._root = self
        self._parent: LLMSession | None = None
        self._path: tuple[int, ...] = ()
        self._operator = ""
        self._number_of_calls = 0
        self._usage = Usage()
        self._calls: dict[tuple[int, ...], LLMCall] = {}

    async def __call__(
        self,
        prompt: str,
        *,
        system: str = "",
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> str:
        """The executor's reply to `prompt`.

        Args:
            prompt: The user message.
            system: The system message; none is sent when empty.
            temperature: None: the tier's.
            max_tokens: None: the tier's.

        Raises:
            Unavailable: No tier answered.
            WorkflowFault: The prompt does not fit any tier's context, or a limit is reached.
        """
        number = self._next_number()
        request = Request(prompt, system, derive_seed(self._seed, number), temperature, max_tokens)
        return await self._send(request, number)

    async def call_with_format(
        self,
        prompt: str,
        formatter: Formatter[T],
        *,
        system: str = "",
        form: ReplyForm | None = None,
    ) -> T:
        """Like a call, parsed by `formatter`; a malformed reply is asked for once more.

        Args:
            prompt: The user message.
            formatter: Reads the reply, whether it is text or, with `form`, a JSON object.
            system: The system message; none is sent when empty.
            form: Asks for a JSON object in place of `prompt`, where the tier takes that.

        Raises:
            Unavailable: No tier answered.
            WorkflowFault: The second reply is malformed too, or a limit is reached.
        """
        number = self._next_number()
        request = Request(prompt, system, derive_seed(self._seed, number), form=form)
        text = await self._send(request, number)
        try:
            return formatter.parse(text)
        except ValueError as error:
            complaint = f"\n\nYour previous reply could not be used: {error} Reply again."
        # Its seed hangs on the call's number, not on how many calls came in between.
        again = replace(
            request,
            prompt=prompt + complaint,
            seed=derive_seed(request.seed, "again"),
            form=None if form is None else replace(form, prompt=form.prompt + complaint),
        )
        text = await self._send(again, number, again=True)
        try:
            return formatter.parse(text)
        except ValueError as error:
            raise WorkflowFault(
                FaultKind.MALFORMED_REPLY, f"The executor's reply was malformed twice: {error}"
            ) from error

    def branch(self, index: int, operator: str = "") -> LLMSession:
        """A session with counters of its own, which this one includes, and seeds of its own.

        Args:
            index: Which branch; the same index gives the same seeds.
            operator: Which operator will ask.
        """
        branch = LLMSession(self._ask, derive_seed(self._seed, "branch", index), self._limits)
        branch._root = self._root
        branch._parent = self
        branch._path = (*self._path, index)
        branch._operator = operator
        return branch

    @property
    def usage(self) -> Usage:
        """What this session and its branches consumed so far."""
        return self._usage

    @property
    def calls(self) -> tuple[LLMCall, ...]:
        """Every call that has ended, in the order in which they were asked; own calls first."""
        return tuple(self._calls[place] for place in sorted(self._calls, key=_own_first))

    @property
    def tiers_used(self) -> tuple[str, ...]:
        """Which tier answered, in order of the calls (not of the replies); own calls first."""
        return tuple(call.tier for call in self.calls if call.tier)

    def get_usage_summary(self) -> dict[str, Any]:
        """The usage under the source documents' names; `total_cost` is the list cost in USD."""
        usage = self._usage
        return {
            "total_cost": usage.cost_usd,
            "billed_usd": usage.billed_usd,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            "total_calls": usage.calls,
        }

    def _next_number(self) -> int:
        self._number_of_calls += 1
        return self._number_of_calls - 1

    async def _send(self, request: Request, number: int, *, again: bool = False) -> str:
        self._limits.check(self._root.usage)
        path = (*self._path, number)
        place = ".".join(map(str, path)) + (".again" if again else "")
        request = replace(request, execution=self._root._seed, place=place, operator=self._operator)
        started_s, started = time.time(), time.perf_counter()
        reply = await self._ask(request)
        seconds = time.perf_counter() - started
        self._count((*path, int(again)), _record(request, reply, started_s, seconds), reply.usage)
        if reply.fault is not None:
            raise reply.fault
        return reply.text

    def _count(self, place: tuple[int, ...], call: LLMCall, usage: Usage) -> None:
        self._usage += usage
        self._calls[place] = call
        if self._parent is not None:
            self._parent._count(place, call, usage)


def _own_first(place: tuple[int, ...]) -> tuple[int, ...]:
    """Calls of a session before those of its branches."""
    return (len(place), *place)


def _record(request: Request, reply: Reply, started_s: float, seconds: float) -> LLMCall:
    usage = reply.usage
    return LLMCall(
        place=request.place,
        system=request.system,
        prompt=request.form.prompt if reply.structured and request.form else request.prompt,
        reply=reply.text,
        model=reply.model,
        tier=reply.tier,
        attempts=usage.attempts,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cost_usd=usage.cost_usd,
        billed_usd=usage.billed_usd,
        started_s=started_s,
        seconds=seconds,
        finish_reason=reply.finish_reason,
        fault=reply.fault.message if reply.fault is not None else "",
    )
