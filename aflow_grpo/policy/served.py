"""A server of its own draws the tokens (vLLM), and gets the adapters after every update.

The weights that are trained stay here; the server holds the same base model and, under a name that
says which weights they are, the adapters. They are pushed when the next workflows are wanted and
the weights have changed since. Two engines never compute quite the same, so the log-probabilities
that come back are the server's own, and the update corrects for the difference. Not here: HTTP and
its faults (`llm.generation_server`), the folder (`adapters`). docs/vllm.md says how to serve.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from peft import PeftModel
from torch import nn

from aflow_grpo.errors import ConfigError, ExecutorError, OutageError
from aflow_grpo.llm.generation import Asked, Drawing
from aflow_grpo.llm.tiers import Tier, resolve_key
from aflow_grpo.policy.adapters import adapter_digest, weights_version, write_adapter
from aflow_grpo.policy.backends import OnRow
from aflow_grpo.policy.loading import CausalParts
from aflow_grpo.policy.sampling import Drawn, Sampler
from aflow_grpo.policy.scoring import score
from aflow_grpo.policy.settings import SamplingSettings
from aflow_grpo.policy.waiting import Run, each_as_it_ends
from aflow_grpo.records import Completion

if TYPE_CHECKING:
    from aflow_grpo.llm.generation_server import GenerationServer

__all__ = ["ServedBackend", "ServedSampling"]

_LOG = logging.getLogger(__name__)
_NO_KEY = "none"
"""Sent to a server that wants no key."""
_GOODBYE_S = 1.0
"""Longest time for unloading at the end."""
_CHECK_ATTEMPTS, _CHECK_TIMEOUT_S = 2, 30.0
_PROBE_TOKENS = 32
_PROBE_SEEDS = (0, 1, 2, 3)


class _ServerTier(Tier):
    """The server as the machinery of `llm` knows endpoints."""

    def config_key(self, place: int | str) -> str:
        """There is only one."""
        return "model.policy.backend"


@dataclass(frozen=True)
class ServedSampling:
    """A vLLM server that draws the workflows in place of this process (docs/vllm.md)."""

    base_url: str = "http://localhost:8000/v1"
    """Up to and with ``/v1``."""
    model: str | None = None
    """What the server calls the base model; null: as model.policy.model does."""
    api_key: str | None = field(default=None, repr=False)
    """A key, or ``${NAME}`` for a variable of the environment; used when `api_key_env` is not set.
    Null where the server wants none."""
    api_key_env: str = "VLLM_API_KEY"
    """Variable of the environment that is looked at first; empty for none."""
    adapter_dir: Path | None = None
    """Where the adapters are written, and where the server reads them under the same path; null:
    ``adapters`` in the run's directory."""
    max_concurrent: int = 64
    """Rows asked for at once."""
    timeout_s: float = 300.0
    """Longest wall-clock time of one HTTP attempt, the wait in the server's queue included."""
    max_attempts: int = 6
    """HTTP attempts per row before the run ends as in an outage (exit code 3)."""
    backoff_s: float = 1.0
    """Wait after the first failed attempt; it doubles, with jitter, up to 20 s."""
    keep_adapters: int = 2
    """Adapters that stay loaded, the newest ones; of several processes one may be an update
    behind."""
    max_logprob_gap: float = 0.3
    """Before the first draw: most that the server's log-probabilities may differ from those here,
    as a mean of absolute values per token in nats. More means another model, other settings, or
    adapters that are not applied. Measured with the tiny policy: 0.003 from a server in bfloat16,
    0.05 if the weights here are in 4 bits besides."""

    def __post_init__(self) -> None:
        self.tier("any")
        if self.keep_adapters < 2:
            raise ConfigError(
                f"model.policy.backend.keep_adapters={self.keep_adapters}: expected at least 2."
            )
        if self.max_logprob_gap <= 0:
            raise ConfigError(
                f"model.policy.backend.max_logprob_gap={self.max_logprob_gap:g}: expected more "
                "than 0 nats."
            )

    def tier(self, model: str) -> Tier:
        """These settings as the machinery of `llm` takes them; `model` is a default."""
        return _ServerTier(
            name="sampler",
            model=self.model or model,
            base_url=self.base_url,
            api_key=self.api_key,
            api_key_env=self.api_key_env,
            timeout_s=self.timeout_s,
            max_attempts=self.max_attempts,
            max_concurrent=self.max_concurrent,
            backoff_s=self.backoff_s,
        )


class ServedBackend:
    """Draws on a server; see `backends.SamplingBackend`.

    Args:
        settings: Which server, and how it is asked.
        source: `model.policy.model`.
        sampling: What it will be asked for.
    """

    differs = True

    def __init__(self, settings: ServedSampling, source: str, sampling: SamplingSettings) -> None:
        self.settings = settings
        self._tier = settings.tier(source)
        self._sampling = sampling
        self._connection: tuple[GenerationServer, Run] | None = None
        self._folder = Path()
        self._prefix = ""
        self._stale: list[str] = []
        self._loaded: list[str] = []
        self._version: object = None

    # Its life

    def connect(self, run: Run, run_directory: Path) -> None:
        """Give it the means to ask, and find out whether the server is the right one.

        Args:
            run: Runs a coroutine on an event loop; the same at every call.
            run_directory: Where adapters are written if no setting says otherwise.

        Raises:
            ExecutorError: The server does not answer or is not served as it has to be.
        """
        from aflow_grpo.llm.generation_server import GenerationServer

        self._folder = (self.settings.adapter_dir or run_directory / "adapters").absolute()
        # Runs that share a server do not touch each other's; the processes of one run do.
        run_name = hashlib.sha256(f"{run_directory.absolute()}\n{self._folder}".encode())
        self._prefix = f"aflow-{run_name.hexdigest()[:8]}-"
        key = resolve_key(self._tier, 0, keys={self._tier.name: _NO_KEY})
        names = run(self._check(GenerationServer, key))
        self._stale = [name for name in names if name.startswith(self._prefix)]
        self._loaded, self._version = [], None
        self._connection = run(self._open(GenerationServer, self._tier, key)), run

    async def _check(self, kind: type[GenerationServer], key: str) -> list[str]:
        """Everything that the right server serves; asked with little patience."""
        hasty = replace(
            self._tier,
            max_attempts=min(self._tier.max_attempts, _CHECK_ATTEMPTS),
            timeout_s=min(self._tier.timeout_s, _CHECK_TIMEOUT_S),
        )
        server = await self._open(kind, hasty, key)
        sampling = self._sampling
        longest = sampling.max_prompt_tokens + sampling.max_new_tokens
        try:
            await server.check(longest=longest, temperature=sampling.temperature)
            return [card.name for card in await server.models()]
        except OutageError as error:  # nothing has begun that could be continued
            raise ExecutorError(f"{error} Nothing was run. docs/vllm.md has the command.") from None
        finally:
            await server.aclose()

    async def _open(self, kind: type[GenerationServer], tier: Tier, key: str) -> GenerationServer:
        return kind(tier, key)  # in the loop to which its connections will belong

    async def aclose(self) -> None:
        """Unload what was loaded, as far as the server answers at once, and close the connections.

        In the event loop of `connect`.
        """
        connection, self._connection = self._connection, None
        if connection is None:
            return
        server, _ = connection
        # Without an answer, the next run in this directory does it.
        with contextlib.suppress(TimeoutError, ExecutorError):
            async with asyncio.timeout(_GOODBYE_S):
                for name in self._loaded:
                    await self._forget(server, name)
        await server.aclose()

    @property
    def _connected(self) -> tuple[GenerationServer, Run]:
        if self._connection is None:
            raise RuntimeError("ServedBackend.connect() has not been called yet")
        return self._connection

    # Drawing

    def draw(
        self,
        model: nn.Module,
        parts: CausalParts,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        sampler: Sampler,
        on_row: OnRow | None = None,
    ) -> list[Drawn]:
        """See `SamplingBackend.draw`; the adapters are pushed first, if they have changed.

        Greedy rows come with the server's log-probabilities, at temperature 1.

        Raises:
            OutageError: The server does not answer any more.
            ExecutorError: It refuses, or answers something else than what was asked.
        """
        if not prompts:
            return []
        from aflow_grpo.llm.generation_server import ModelGone

        end_ids = tuple(sorted(parts.end_ids))
        asked = [
            Asked(
                prompt_ids=tuple(prompt),
                seed=seed,
                max_tokens=sampler.max_new_tokens,
                temperature=0.0 if sampler.greedy else sampler.temperature,
                top_p=sampler.top_p,
                end_ids=end_ids,
            )
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        rows: dict[int, Drawn] = {}
        name = self._push(model, parts, prompts[0])
        try:
            self._draw(name, asked, rows, on_row)
        except ModelGone:
            _LOG.warning("The server has lost the adapter %s (restarted?): loaded again.", name)
            self._load(name, model)
            self._draw(name, asked, rows, on_row)
        return [rows[b] for b in range(len(asked))]

    def _draw(
        self, name: str, asked: Sequence[Asked], rows: dict[int, Drawn], on_row: OnRow | None
    ) -> None:
        """Fill `rows` with those that it has not."""
        server, run = self._connected
        works = {b: partial(server.draw, name, one) for b, one in enumerate(asked) if b not in rows}

        def keep(b: int, drawing: Drawing) -> None:
            rows[b] = Drawn(drawing.token_ids, drawing.logprobs, drawing.finished)
            if on_row is not None:
                on_row(b, rows[b])

        each_as_it_ends(run, works, keep)

    # Pushing

    def _push(self, model: nn.Module, parts: CausalParts, prompt: Sequence[int]) -> str:
        """The name under which the server has the current adapters."""
        version = weights_version(model)
        if self._loaded and version == self._version:
            return self._loaded[-1]
        name = self._prefix + adapter_digest(model)
        if name not in self._loaded[-1:]:
            self._load(name, model)
            if not self._loaded:
                self._compare(name, model, parts, prompt)
            self._loaded = [known for known in self._loaded if known != name] + [name]
            self._unload_old(name)
        self._version = version
        return name

    def _load(self, name: str, model: nn.Module) -> None:
        assert isinstance(model, PeftModel), "Policy refuses a backend without lora"
        server, run = self._connected
        folder = self._folder / name
        write_adapter(model, folder)
        run(server.load(name, str(folder)))

    def _unload_old(self, newest: str) -> None:
        """What this process has no use for any more, and once what an earlier one has left."""
        server, run = self._connected
        keep = self.settings.keep_adapters
        old = [name for name in self._stale + self._loaded[:-keep] if name != newest]
        self._stale, self._loaded = [], self._loaded[-keep:]
        for name in old:
            run(self._forget(server, name))

    async def _forget(self, server: GenerationServer, name: str) -> None:
        await server.unload(name)
        # Only now: the server may read an adapter again as long as it has it.
        shutil.rmtree(self._folder / name, ignore_errors=True)

    @torch.no_grad()
    def _compare(
        self, name: str, model: nn.Module, parts: CausalParts, prompt: Sequence[int]
    ) -> None:
        """Whether the server's log-probabilities are those of the policy, by a few short rows.

        Raises:
            ExecutorError: They are further away than rounding takes them.
        """
        tokens = min(_PROBE_TOKENS, self._sampling.max_new_tokens)
        temperature = self._sampling.temperature
        rows: dict[int, Drawn] = {}
        end_ids = tuple(sorted(parts.end_ids))
        asked = [
            Asked(tuple(prompt), seed, tokens, temperature, 1.0, end_ids) for seed in _PROBE_SEEDS
        ]
        self._draw(name, asked, rows, None)
        completions = [
            Completion("", tuple(prompt), tuple(r.token_ids), tuple(r.logprobs), r.finished)
            for r in rows.values()
        ]
        scored = score(parts, completions, temperature=temperature)
        served = torch.tensor([value for c in completions for value in c.logprobs])
        own = scored.logprobs_BT[scored.mask_BT].float().cpu()
        gap = float((served - own).abs().mean())
        _LOG.info("Log-probabilities of the server and of this process: %.4f nats apart.", gap)
        if not gap <= self.settings.max_logprob_gap:
            raise ExecutorError(
                f"model.policy.backend: the log-probabilities of {self._tier.base_url} are "
                f"{gap:.3f} nats per token from those of the policy, more than max_logprob_gap="
                f"{self.settings.max_logprob_gap:g}. Serve the very model of model.policy.model "
                "(weights and tokenizer), with --logprobs-mode processed_logprobs and a vLLM that "
                "supports adapters on all layers of model.policy.lora.target_modules."
            )
