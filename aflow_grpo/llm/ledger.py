"""One client's view of the journal: which rows may answer its calls, and the rows it writes.

Every tier that was asked for a call has a row, answered or not, with what it was billed; so the sum
over a run's rows is what the run paid. Not here: the file (`journal`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from aflow_grpo.llm.journal import Entry, Journal, request_key
from aflow_grpo.llm.progress import Progress
from aflow_grpo.llm.session import Reply, Request
from aflow_grpo.llm.tiers import Tier
from aflow_grpo.records import Usage

__all__ = ["Ledger"]


class Ledger:
    """Reads and writes the rows of one client's calls.

    Args:
        journal: Where they are; None keeps nothing.
        cache: Which rows may answer: none, those of `run`, or those of any run.
        run: Whose rows the calls are.
        scope: Of the keys; see `journal.request_key`.
    """

    def __init__(
        self,
        journal: Journal | None,
        cache: Literal["off", "run", "shared"],
        run: str,
        scope: str,
    ) -> None:
        self._journal = journal
        self._cache = cache
        self.run = run
        """May change between calls: a run has its name only when it begins."""
        self._scope = scope

    def keys(self, bodies: Sequence[Mapping[str, Any]]) -> list[bytes]:
        """The keys of request bodies, as they are meant: what a tier refuses of them changes
        nothing."""
        return [request_key(body, self._scope) for body in bodies]

    def recall(self, keys: Sequence[bytes], request: Request) -> Reply | None:
        """The journal's answer, for 0 USD.

        Args:
            keys: Of all tiers: a lower one may have stood in for the first.
            request: What is asked.
        """
        if self._journal is None or self._cache == "off":
            return None
        run = self.run if self._cache == "run" else None
        for key in keys:
            entry = self._journal.get(key, run)
            if entry is not None:
                tokens = (entry.prompt_tokens, entry.completion_tokens)
                return Reply(
                    entry.reply,
                    Usage(1, 0, *tokens, cost_usd=entry.cost_usd, billed_usd=0.0),
                    entry.tier,
                    entry.model,
                    finish_reason=entry.finish_reason,
                    cached_tokens=entry.cached_tokens,
                    structured=request.form is not None and entry.reply.lstrip().startswith("{"),
                )
        return None

    async def keep(
        self,
        key: bytes,
        tier: Tier,
        request: Request,
        progress: Progress,
        usage: Usage,
        *,
        reply: str | None = None,
        finish_reason: str = "",
        cached_tokens: int = 0,
        fault: str = "",
    ) -> None:
        """Write what a tier made of a call; returns when it is on disk.

        A tier that was not asked, since its circuit breaker is open, has no row.

        Raises:
            ExecutorError: The journal cannot be written.
        """
        if self._journal is None or not usage.attempts:
            return
        entry = Entry(
            key=key,
            run=self.run,
            execution=request.execution,
            place=request.place,
            operator=request.operator,
            model=tier.model,
            tier=tier.name,
            attempts=usage.attempts,
            answered=reply is not None,
            reply=reply or "",
            finish_reason=finish_reason,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=cached_tokens,
            cost_usd=usage.cost_usd,
            billed_usd=usage.billed_usd,
            started_s=progress.started_s,
            seconds=time.time() - progress.started_s,
            fault=fault,
        )
        await self._journal.write(entry)

    async def flush(self) -> None:
        """Return when everything is on disk."""
        if self._journal is not None:
            await asyncio.to_thread(self._journal.flush)
