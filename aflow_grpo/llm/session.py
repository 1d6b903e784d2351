"""What the operators call: one rollout's view of the executor, with its own seeds and usage.

The interface is the source documents' wrapper: call it with a prompt, ask it for its usage. Each
call's seed is derived from the session's seed and the call's number, so replies do not depend on
the order in which concurrent calls return. Not here: tiers, retries, the journal (`client`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from aflow_grpo.errors import Unavailable, WorkflowFault
from aflow_grpo.records import FaultKind, Usage
from aflow_grpo.seeds import derive_seed

__all__ = ["Formatter", "LLMSession", "Reply", "Request"]

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


@dataclass(frozen=True)
class Reply:
    """What became of a request: a text, or the fault to raise; the usage in both cases."""

    text: str
    usage: Usage
    tier: str = ""
    fault: Unavailable | WorkflowFault | None = None
    finish_reason: str = ""
    """As the endpoint said: `stop`, `length`, ...; empty when it said nothing."""


class LLMSession:
    """Calls the executor and keeps count; made by `ExecutorClient.session` and `branch`.

    Args:
        ask: Answers a request.
        seed: All seeds of the session's calls are derived from it.
        parent: Gets a copy of every count.
        path: Where this session branched off its parent.
    """

    def __init__(
        self,
        ask: Callable[[Request], Awaitable[Reply]],
        seed: int,
        parent: LLMSession | None = None,
        path: tuple[int, ...] = (),
    ) -> None:
        self._ask = ask
        self._seed = seed
        self._parent = parent
        self._path = path
        self._calls = 0
        self._usage = Usage()
        self._tiers: dict[tuple[int, ...], str] = {}

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
            WorkflowFault: The prompt does not fit any tier's context.
        """
        call = self._number()
        request = Request(prompt, system, derive_seed(self._seed, call), temperature, max_tokens)
        return await self._send(request, (0, call, 0))

    async def call_with_format(
        self, prompt: str, formatter: Formatter[T], *, system: str = ""
    ) -> T:
        """Like a call, parsed by `formatter`; a malformed reply is asked for once more.

        Raises:
            Unavailable: No tier answered.
            WorkflowFault: The second reply is malformed too.
        """
        call = self._number()
        request = Request(prompt, system, derive_seed(self._seed, call))
        text = await self._send(request, (0, call, 0))
        try:
            return formatter.parse(text)
        except ValueError as error:
            complaint = f"\n\nYour previous reply could not be used: {error} Reply again."
        # Its seed hangs on the call's number, not on how many calls came in between.
        again = replace(request, prompt=prompt + complaint, seed=derive_seed(request.seed, "again"))
        text = await self._send(again, (0, call, 1))
        try:
            return formatter.parse(text)
        except ValueError as error:
            raise WorkflowFault(
                FaultKind.EXCEPTION, f"The executor's reply was malformed twice: {error}"
            ) from error

    def branch(self, index: int) -> LLMSession:
        """A session with counters of its own, which this one includes, and seeds of its own.

        Args:
            index: Which branch; the same index gives the same seeds.
        """
        seed = derive_seed(self._seed, "branch", index)
        return LLMSession(self._ask, seed, parent=self, path=(1, index))

    @property
    def usage(self) -> Usage:
        """What this session and its branches consumed so far."""
        return self._usage

    @property
    def tiers_used(self) -> tuple[str, ...]:
        """Which tier answered, in order of the calls (not of the replies); own calls first."""
        return tuple(self._tiers[place] for place in sorted(self._tiers))

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

    def _number(self) -> int:
        self._calls += 1
        return self._calls - 1

    async def _send(self, request: Request, place: tuple[int, ...]) -> str:
        reply = await self._ask(request)
        self._count(reply, place)
        if reply.fault is not None:
            raise reply.fault
        return reply.text

    def _count(self, reply: Reply, place: tuple[int, ...]) -> None:
        self._usage += reply.usage
        if reply.fault is None:
            self._tiers[place] = reply.tier
        if self._parent is not None:
            self._parent._count(reply, self._path + place)
