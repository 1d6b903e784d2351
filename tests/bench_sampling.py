"""Our sampling beside `generate(num_return_sequences=8)`: `nox -s bench -- sampling`.

`python -m tests.bench_sampling [--short]`. The model is that of `bench_grpo`, whose rows always
have full length, so that both draw equally many tokens from the same distribution. They take turns,
one thread each: what a busy machine costs, it costs both.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from statistics import median

import torch

from aflow_grpo.policy import LoraSettings, Policy, SamplingSettings
from aflow_grpo.policy.prompting import EncodedPrompt
from tests.bench_grpo import make_model
from tests.bench_grpo_sides import MEMBERS, RANK, TARGETS, Work

__all__ = ["measure_sampling"]

VOCABULARIES = (2_048, 151_936)
SHAPES = ((1, 256), (4, 64))
"""Prompts, each with a group of 8, and their length."""


def measure_sampling(short: bool = False) -> None:
    """Tokens per CPU second, ours over theirs, with and without adapters."""
    turns = 2 if short else 3
    print(f"tokens per CPU second, ours and generate's, {turns} turns each, load", end=" ")
    print(f"{os.getloadavg()[0]:.1f}", flush=True)
    for vocabulary in VOCABULARIES:
        with tempfile.TemporaryDirectory() as folder:
            make_model(folder, vocabulary)
            tokens = 32 if short or vocabulary > 10_000 else 128
            for lora in (None, LoraSettings(rank=RANK, alpha=RANK, target_modules=TARGETS)):
                policy = Policy(
                    folder,
                    lora=lora,
                    sampling=SamplingSettings(max_new_tokens=tokens, max_prompt_tokens=512),
                    threads=1,
                )
                policy.setup()
                policy.eval()
                for prompts, length in SHAPES:
                    _compare(policy, vocabulary, prompts, length, tokens, turns)


def _compare(
    policy: Policy, vocabulary: int, prompts: int, length: int, tokens: int, turns: int
) -> None:
    ids_P = (Work.of(vocabulary, length).prompts_P)[:prompts]
    ids_B = [EncodedPrompt(tuple(ids)) for ids in ids_P for _ in range(MEMBERS)]
    given_PT = torch.tensor(ids_P)

    def ours() -> int:
        return sum(len(c.token_ids) for c in policy.sample(ids_B, range(len(ids_B))))

    def theirs() -> int:
        model: torch.nn.Module = policy.model  # type: ignore[assignment]
        with torch.no_grad():
            drawn_BT = model.generate(  # type: ignore[operator]
                input_ids=given_PT, attention_mask=torch.ones_like(given_PT), do_sample=True,
                top_k=0, top_p=1.0, temperature=1.0, num_return_sequences=MEMBERS,
                max_new_tokens=tokens, pad_token_id=0,
            )  # fmt: skip
        return int(drawn_BT[:, length:].numel())

    rates: list[tuple[float, float]] = []
    for _ in range(turns):
        rates.append((_rate(ours), _rate(theirs)))
    own, other = (median(rate) for rate in zip(*rates, strict=True))
    ratio = median(a / b for a, b in rates)
    name = f"{vocabulary:,}, {prompts} x {MEMBERS}, {length} + {tokens}"
    print(
        f"{name:30}{'LoRA' if policy.lora else '':6}{own:8.0f}{other:8.0f}   x {ratio:.2f}",
        flush=True,
    )


def _rate(draw: Callable[[], int]) -> float:
    started = time.process_time()
    count = draw()
    return count / (time.process_time() - started)


if __name__ == "__main__":
    measure_sampling("--short" in sys.argv)
