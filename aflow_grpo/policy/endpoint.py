"""A policy behind an OpenAI-compatible endpoint: gpt-4o-mini as the writer, or a served Qwen.

It is judged like any other policy (`validate`, `test`), but cannot learn: there are no weights
here, and an endpoint's text comes without the token ids that training needs. Its requests share the
executor's machinery (retries, journal), and the event loop of whoever runs workflows. Not here:
HTTP, prices, keys (`llm`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from aflow_grpo.errors import ConfigError, WorkflowFault
from aflow_grpo.llm.client import ExecutorClient
from aflow_grpo.llm.session import Request
from aflow_grpo.llm.tiers import WriterTier
from aflow_grpo.policy.base import BasePolicy, OnWritten
from aflow_grpo.policy.waiting import Run, each_as_it_ends
from aflow_grpo.records import Completion, VisibleProblem
from aflow_grpo.workflow.policy_prompt import full_prompt

__all__ = ["EndpointPolicy"]

_DEFAULT_TIER = WriterTier()


class EndpointPolicy(BasePolicy):
    """A model behind an OpenAI-compatible endpoint that writes workflows.

    Args:
        tier: The endpoint, how it draws (temperature, top_p) and its longest completion
            (max_tokens). Greedy workflows are asked for at temperature 0.
        max_context_chars: About how many characters of a problem's context the prompt keeps; null
            keeps all. Four characters are about one token.
    """

    def __init__(
        self, tier: WriterTier = _DEFAULT_TIER, *, max_context_chars: int | None = None
    ) -> None:
        super().__init__()
        if max_context_chars is not None and max_context_chars < 0:
            raise ConfigError(
                f"model.policy.max_context_chars={max_context_chars}: expected at least 0, or null."
            )
        self.tier = tier
        self.max_context_chars = max_context_chars
        self._connection: tuple[ExecutorClient, Run] | None = None

    def connect(self, client: ExecutorClient, run: Run) -> None:
        """Give it the means to ask; whoever does so closes the client.

        Args:
            client: A client whose only tier is `tier`.
            run: Runs a coroutine on the client's event loop.
        """
        self._connection = client, run

    def describe(self) -> str:
        """One line for a person, e.g. ``gpt-4o-mini at https://api.openai.com/v1``."""
        return f"{self.tier.model} at {self.tier.base_url}"

    def fingerprint(self) -> str:
        """Model and address: what is behind them may change without notice."""
        return f"endpoint {self.describe()}"

    def write(
        self,
        problems_P: Sequence[VisibleProblem],
        seeds_B: Sequence[int],
        *,
        greedy: bool = False,
        on_written: OnWritten | None = None,
    ) -> list[Completion]:
        """Groups of workflows, asked for at the same time; see `BasePolicy.write`.

        A workflow that the endpoint did not answer for has `unavailable` set.
        """
        if self._connection is None:
            raise RuntimeError("EndpointPolicy.connect() has not been called yet")
        client, run = self._connection
        group_size = len(seeds_B) // max(1, len(problems_P))
        works = {
            b: partial(self._write, client, problems_P[b // group_size], seed, greedy)
            for b, seed in enumerate(seeds_B)
        }
        written: dict[int, Completion] = {}

        def keep(b: int, completion: Completion) -> None:
            written[b] = completion
            if on_written is not None:
                on_written(b, completion)

        each_as_it_ends(run, works, keep)
        return [written[b] for b in range(len(seeds_B))]

    def _request(self, problem: VisibleProblem, seed: int, greedy: bool) -> Request:
        system, user = full_prompt(
            problem, max_context_chars=self.max_context_chars, operators=self.operators
        )
        # Greedy decoding knows no seed; without one, runs with other seeds share the journal.
        return Request(
            user["content"],
            system["content"],
            seed=0 if greedy else seed,
            temperature=0.0 if greedy else None,
        )

    async def _write(
        self, client: ExecutorClient, problem: VisibleProblem, seed: int, greedy: bool
    ) -> Completion:
        limit = self.max_context_chars
        reply = await client.ask(self._request(problem, seed, greedy))
        unavailable = ""
        if reply.fault is not None:
            unavailable = f"Nothing was written. {reply.fault.message}"
            if isinstance(reply.fault, WorkflowFault):  # the prompt fits no model there
                unavailable = (
                    f"The prompt does not fit the context of {self.tier.model}; lower "
                    "model.policy.max_context_chars, where the problem has a context."
                )
        return Completion(
            text=reply.text,
            prompt_ids=(),
            token_ids=(),
            logprobs=(),
            finished=reply.finish_reason != "length",
            context_cut=limit is not None and len(problem.context) > limit,
            usage=reply.usage,
            unavailable=unavailable,
        )
