"""How the executor is asked, and what it costs.

Retries, connections and the key are the openai client's. Every request has a seed of its own that
depends on its place in the workflow and on nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeVar

from aflow_grpo.llm.chat import read_answer, request_body
from aflow_grpo.llm.prices import Price
from aflow_grpo.llm.session import Formatter
from aflow_grpo.llm.structured import ReplyForm
from aflow_grpo.seeds import derive_seed

__all__ = [
    "LLM",
    "MAX_RETRIES",
    "PRICE",
    "TIER",
    "TIMEOUT_S",
    "Asked",
    "Executor",
    "FaultKind",
    "Request",
    "Stopped",
    "Tier",
    "WorkflowFault",
]

T = TypeVar("T")


class FaultKind(StrEnum):
    """Whose doing a failed operator call is."""

    EXCEPTION = "exception"
    """The workflow's: it passed what cannot be used."""
    BAD_RESULT = "bad_result"
    """The operator's."""
    MALFORMED_REPLY = "malformed_reply"
    """The executor's: it answered in no usable form, twice."""


class WorkflowFault(Exception):
    """An operator call failed; inside the workflow it is a RuntimeError."""

    def __init__(self, kind: FaultKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class Stopped(BaseException):
    """Ends the workflow, whatever its code catches: no answer from the executor, or no budget."""


@dataclass(frozen=True)
class Tier:
    """The executor, and how it is asked."""

    model: str
    temperature: float
    top_p: float
    max_tokens: int
    """Longest reply."""


@dataclass(frozen=True)
class Request:
    """One question to the executor."""

    prompt: str
    system: str
    seed: int
    temperature: float | None = None
    """None: the tier's."""
    max_tokens: int | None = None
    """None: the tier's."""
    form: ReplyForm | None = None
    """How to ask for a JSON object instead; None: `prompt` alone."""


TIER = Tier("gpt-4o-mini", 0.0, 1.0, 2048)
PRICE = Price(Decimal("0.15"), Decimal("0.60"))
TIMEOUT_S = 60.0
MAX_RETRIES = 3


@dataclass(frozen=True)
class Asked:
    """One call of the executor that was answered."""

    operator: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    """At list price."""


class Executor:
    """Asks the endpoint that OPENAI_BASE_URL names (default: OpenAI), with OPENAI_API_KEY."""

    def __init__(self) -> None:
        # Here, not above: the processes that run programs import this file too.
        import openai

        self._openai = openai
        self._client = openai.AsyncOpenAI(timeout=TIMEOUT_S, max_retries=MAX_RETRIES)
        self._takes_forms = True
        self.asked: list[Asked] = []

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def ask(self, request: Request, operator: str) -> str:
        """The reply.

        Raises:
            WorkflowFault: The prompt does not fit the model.
            Stopped: There is none.
        """
        body = request_body(TIER, request, structured=self._takes_forms)  # type: ignore[arg-type]
        try:
            text = await self._post(body)
        except self._openai.APIStatusError as error:
            # Perhaps an endpoint that does not take a JSON schema.
            if "response_format" not in body or error.status_code not in (400, 404, 422):
                raise self._failed(error) from error
            body = request_body(TIER, request, structured=False)  # type: ignore[arg-type]
            try:
                text = await self._post(body)
            except self._openai.OpenAIError as second:
                raise self._failed(second) from second
            self._takes_forms = False
        except self._openai.OpenAIError as error:
            raise self._failed(error) from error
        try:
            answer = read_answer(text, body)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise Stopped("the endpoint's reply is no chat completion") from error
        tokens = (answer.prompt_tokens, answer.completion_tokens)
        self.asked.append(Asked(operator, *tokens, float(PRICE.list_cost(*tokens))))
        return answer.text

    async def _post(self, body: dict[str, Any]) -> str:
        text: str = await self._client.post("/chat/completions", cast_to=str, body=body)
        return text

    def _failed(self, error: Exception) -> WorkflowFault | Stopped:
        if getattr(error, "code", None) == "context_length_exceeded":
            message = "The workflow's prompt does not fit the executor's context."
            return WorkflowFault(FaultKind.EXCEPTION, message)
        return Stopped(f"the executor gave no answer: {error}")


class LLM:
    """The executor for one operator call.

    Args:
        executor: Is asked.
        operator: Who asks.
        seed: The seeds of its requests are derived from it.
    """

    def __init__(self, executor: Executor, operator: str, seed: int) -> None:
        self._executor = executor
        self._operator = operator
        self._seed = seed
        self._number = 0

    async def __call__(
        self,
        prompt: str,
        *,
        system: str = "",
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> str:
        """The executor's reply to a user message and, where it is not empty, a system message."""
        request = Request(prompt, system, self._next_seed(), temperature, max_tokens)
        return await self._executor.ask(request, self._operator)

    async def call_with_format(
        self,
        prompt: str,
        formatter: Formatter[T],
        *,
        system: str = "",
        form: ReplyForm | None = None,
    ) -> T:
        """The reply as `formatter` reads it; one that it refuses is asked for once more."""
        request = Request(prompt, system, self._next_seed(), form=form)
        text = await self._executor.ask(request, self._operator)
        try:
            return formatter.parse(text)
        except ValueError as error:
            complaint = f"\n\nYour previous reply could not be used: {error} Reply again."
        again = replace(
            request,
            prompt=prompt + complaint,
            seed=derive_seed(request.seed, "again"),
            form=None if form is None else replace(form, prompt=form.prompt + complaint),
        )
        text = await self._executor.ask(again, self._operator)
        try:
            return formatter.parse(text)
        except ValueError as error:
            message = f"The executor's reply was malformed twice: {error}"
            raise WorkflowFault(FaultKind.MALFORMED_REPLY, message) from error

    def _next_seed(self) -> int:
        self._number += 1
        return derive_seed(self._seed, self._number - 1)
