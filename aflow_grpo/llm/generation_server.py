"""vLLM's OpenAI-compatible server as a sampler: token ids, and adapters that come and go.

Retries are tenacity's, as in a tier: what may pass by itself (429, 5xx, no connection, no answer in
time, a body that is none) is tried again, and when it does not pass the run ends like any other
outage. What only other settings mend ends it at once and says which.

An adapter is loaded under a name that no other weights ever have and never reloaded in place: vLLM
keys its prefix cache by the name, so that under an old name new weights would continue what the old
ones have read (vllm-project/vllm#42125).

Importing this module imports openai (about a second). Not here: what is drawn (`generation`), which
adapter there has to be (`policy.served`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
import httpx2
import openai
import tenacity

from aflow_grpo.errors import ExecutorError, OutageError
from aflow_grpo.llm.endpoint import RetryWait
from aflow_grpo.llm.failures import AttemptFailed, connection_failure, status_failure, without_key
from aflow_grpo.llm.generation import (
    Asked,
    Drawing,
    Garbage,
    WrongAnswer,
    read_drawing,
    read_gap,
    request_body,
)
from aflow_grpo.llm.tiers import Tier, is_loopback

__all__ = ["GenerationServer", "ModelCard", "ModelGone"]

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_PATIENCE_S = 60.0
"""Longest Retry-After that is waited for."""
_PROBE_PROMPT = (1, 2, 3, 4)
_PROBE_TOP = 10
"""So many of the most probable tokens are looked at."""
_LEAST_GAP = 1e-3
"""A distribution flatter than this, in nats, does not show its temperature."""
_RAW_RATIO = 0.75
"""Between 1 / 2 (log-probabilities at temperature 2) and 1 (at whatever temperature)."""
_LORA_HELP = (
    ("max_lora_rank", "Serve with --max-lora-rank of at least model.policy.lora.rank."),
    ("--enable-lora", "Serve with --enable-lora."),
    (
        "No adapter found",
        "It has to see model.policy.backend.adapter_dir under the same path as this process.",
    ),
)
"""What a server's refusal to load holds, and what to do."""


class ModelGone(ExecutorError):
    """The server does not know the model or adapter (any more)."""


@dataclass(frozen=True)
class ModelCard:
    """One line of `/v1/models`."""

    name: str
    root: str
    """Folder of the weights, or the base model's source."""
    base: bool
    """False for an adapter."""
    max_tokens: int | None
    """Prompt and completion together; None where it is not said."""


class GenerationServer:
    """Talks to one server; used inside one event loop.

    Args:
        tier: Address, model, attempts, concurrency, patience.
        key: Its resolved API key.
    """

    def __init__(self, tier: Tier, key: str) -> None:
        self.tier = tier
        self._key = key
        self._where = tier.config_key(tier.name)
        self._slots = asyncio.Semaphore(tier.max_concurrent)
        self._client = openai.AsyncOpenAI(
            api_key=key,
            base_url=tier.base_url,
            max_retries=0,
            timeout=tier.timeout_s,
            http_client=openai.DefaultAioHttpClient(
                # No proxy of the environment for a server on this machine.
                trust_env=not is_loopback(tier.base_url),
                limits=httpx2.Limits(max_connections=tier.max_concurrent + 1),
            ),
        )

    async def check(self, *, longest: int, temperature: float) -> None:
        """Find out whether this is the right server, and served as it has to be.

        Whether it takes adapters of this rank shows when the first one is loaded.

        Args:
            longest: Prompt and completion together, in tokens.
            temperature: At which it will be asked to draw.

        Raises:
            ExecutorError: It does not answer, serves another model, a shorter context, adapters
                only from its start, or log-probabilities at another temperature.
        """
        cards = await self.models()
        bases = {card.name: card for card in cards if card.base}
        if self.tier.model not in bases:
            raise ExecutorError(
                f"{self._where}.model={self.tier.model}: {self.tier.base_url} serves "
                f"{', '.join(bases) or 'nothing'}. Give that name, if it is the model of "
                "model.policy.model, or serve with --served-model-name."
            )
        room = bases[self.tier.model].max_tokens
        if room is not None and room < longest:
            raise ExecutorError(
                f"{self._where}: {self.tier.base_url} takes {room} tokens in all; "
                f"model.policy.sampling needs {longest} (max_prompt_tokens + max_new_tokens). "
                f"Serve with --max-model-len {longest}."
            )
        await self._check_updating()
        if temperature != 1.0:
            await self._check_mode(temperature)

    async def models(self) -> list[ModelCard]:
        """What it serves at this moment, adapters included."""

        def read(text: str) -> list[ModelCard]:
            try:
                return [_card(row) for row in json.loads(text)["data"]]
            except (LookupError, TypeError, ValueError) as error:
                raise Garbage("the reply is no list of models") from error

        return await self._ask("GET", "/models", None, read)

    async def load(self, name: str, folder: str) -> None:
        """Load the adapter in `folder`, as the server sees it, under `name`.

        Does nothing if it is loaded already: another process of this run may have been quicker.

        Raises:
            ExecutorError: The server takes no adapter, not this one, or has another of that name.
            OutageError: It did not answer.
        """
        body = {"lora_name": name, "lora_path": folder}
        try:
            await self._ask("POST", "/load_lora_adapter", body, str)
        except ModelGone as gone:
            raise ExecutorError(self._not_loaded(name, str(gone))) from None
        except ExecutorError as error:
            roots = {card.name: card.root for card in await self.models()}
            if roots.get(name) == folder:
                return
            raise ExecutorError(self._not_loaded(name, str(error))) from None

    async def unload(self, name: str) -> None:
        """Unload an adapter, if it is loaded."""
        with contextlib.suppress(ModelGone):
            await self._ask("POST", "/unload_lora_adapter", {"lora_name": name}, str)

    async def draw(self, model: str, asked: Asked) -> Drawing:
        """One completion by `model`, the base model's or an adapter's name.

        Raises:
            ModelGone: It knows no such model.
            ExecutorError: It refuses the request, or its answers are none.
            OutageError: It did not answer.
        """
        body = request_body(model, asked)
        return await self._ask("POST", "/completions", body, lambda text: read_drawing(text, asked))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _check_updating(self) -> None:
        """Whether adapters can be loaded at all: unloading one that is not there tells."""
        body = {"lora_name": "aflow-probe-of-a-name-that-is-not-loaded"}
        try:
            await self._ask("POST", "/unload_lora_adapter", body, str)
        except ModelGone as gone:
            if "cannot be found" in str(gone):
                return
        except OutageError:
            raise
        except ExecutorError:
            return  # it knows the path; a refusal in other words shows when one is loaded
        raise ExecutorError(
            f"{self._where}: {self.tier.base_url} takes no adapters while it runs. Serve with "
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment, and --enable-lora."
        )

    async def _check_mode(self, temperature: float) -> None:
        texts = []
        for at in (1.0, 2.0):
            asked = Asked(_PROBE_PROMPT, 0, 1, at, 1.0, ())
            body = request_body(self.tier.model, asked)
            body |= {"logprobs": _PROBE_TOP, "return_tokens_as_token_ids": True}
            texts.append(await self._ask("POST", "/completions", body, str))
        try:
            gap, half = read_gap(texts)
        except WrongAnswer as error:
            raise ExecutorError(f"{self._where}: {self.tier.base_url}: {error}.") from error
        if gap > _LEAST_GAP and half > _RAW_RATIO * gap:
            raise ExecutorError(
                f"{self._where}: {self.tier.base_url} gives log-probabilities as at temperature 1, "
                f"and model.policy.sampling.temperature={temperature:g}. Serve with "
                "--logprobs-mode processed_logprobs (vLLM 0.10.2 or newer)."
            )

    def _not_loaded(self, name: str, told: str) -> str:
        remedy = next((do for sign, do in _LORA_HELP if sign in told), "")
        if not remedy:
            remedy = (
                "Serve with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, --enable-lora and "
                "--max-lora-rank of at least model.policy.lora.rank."
            )
        return f"{self._where}: the adapter {name} cannot be loaded. {told} {remedy}"

    async def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None, read: Callable[[str], T]
    ) -> T:
        """What `read` makes of the answer, after as many attempts as the tier has."""
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(
                lambda e: isinstance(e, AttemptFailed) and e.retryable
            ),
            stop=tenacity.stop_after_attempt(self.tier.max_attempts),
            wait=RetryWait(self.tier.backoff_s),
            before_sleep=self._log_retry,
            reraise=True,
        )
        failure: AttemptFailed
        try:
            async with self._slots:
                result: T = await retrying(self._attempt, method, path, body, read)
            return result
        except AttemptFailed as failed:
            failure = failed
        # Raised here, not where it is caught: the cause would be shown with it.
        place = f"{self._where}: {self.tier.base_url}{path}"
        if failure.retryable:
            raise OutageError(
                f"{place} did not answer in {self.tier.max_attempts} attempts; the last: "
                f"{failure}. Look at the server's log, and start it again."
            )
        if failure.status == 404:
            raise ModelGone(f"{place}: {failure}.")
        if failure.status in (401, 403):
            raise ExecutorError(
                f"{place}: {failure}. Put the server's --api-key into the variable "
                f"{self.tier.api_key_env} or {self._where}.api_key."
            )
        raise ExecutorError(f"{place}: {failure}.")

    async def _attempt(
        self, method: str, path: str, body: Mapping[str, Any] | None, read: Callable[[str], T]
    ) -> T:
        # Raised below, not where it is caught: an error of the HTTP client holds the key.
        failure: AttemptFailed
        try:
            async with asyncio.timeout(self.tier.timeout_s):
                if method == "GET":
                    text = await self._client.get(path, cast_to=str)
                else:
                    text = await self._client.post(path, cast_to=str, body=body)
        except openai.APIStatusError as error:
            failure = status_failure(error, self._key, _PATIENCE_S)
            # The engine's refusals come as errors of the server; no other attempt mends them.
            failure.retryable &= not any(sign in failure.reason for sign, _ in _LORA_HELP)
        except (openai.APIConnectionError, aiohttp.ClientError, OSError) as error:
            failure = connection_failure(error, self.tier.timeout_s)
        else:
            try:
                return read(text)
            except WrongAnswer as wrong:
                told, may_pass = without_key(self._key, str(wrong)), isinstance(wrong, Garbage)
                failure = AttemptFailed(told, may_pass, alive=not may_pass)
        raise failure

    def _log_retry(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        wait_s = state.next_action.sleep if state.next_action else 0.0
        _LOG.info(
            "%s, attempt %d of %d: %s; next in %.2f s.",
            *(self._where, state.attempt_number, self.tier.max_attempts, error, wait_s),
        )


def _card(row: Mapping[str, Any]) -> ModelCard:
    room = row.get("max_model_len")
    return ModelCard(
        name=str(row["id"]),
        root=str(row.get("root") or ""),
        base=not row.get("parent"),
        max_tokens=room if isinstance(room, int) else None,
    )
