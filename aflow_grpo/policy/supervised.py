"""Supervised training on (prompt, completion) token ids: the loss counts completions only.

Batches hold sequences of like length, which saves a third of the time; which ones is a function of
the seed. Not here: where the examples come from, and what the result is good for.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from transformers import Qwen2ForCausalLM

from aflow_grpo.policy.recipe import SupervisedSettings
from aflow_grpo.seeds import derive_seed

__all__ = ["Example", "train_supervised"]

_WINDOW = 8
"""Batches that are filled together, by length."""
_IGNORED = -100
"""Label of positions without loss."""


@dataclass(frozen=True)
class Example:
    """One sequence to learn."""

    ids: list[int]
    """Prompt, completion and end token."""
    prompt_length: int
    """Tokens at the beginning that carry no loss."""


def train_supervised(
    settings: SupervisedSettings,
    model: Qwen2ForCausalLM,
    examples: list[Example],
    pad_id: int,
    on_step: Callable[[int, float], None] | None,
) -> list[float]:
    """Trains every weight in place, in one pass over the examples.

    Args:
        settings: Batches and optimiser.
        model: Left in evaluation mode.
        examples: As many as `steps` batches hold, in any order.
        pad_id: Token that fills up batches; never learned.
        on_step: Called after each step with its number (from 1) and its loss.

    Returns:
        The loss of each step, in nats per completion token.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=settings.learning_rate,
        betas=(0.9, 0.95),
        weight_decay=settings.weight_decay,
    )
    model.train()
    losses: list[float] = []
    for step, batch in enumerate(_batches(settings, examples)):
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(settings, step)
        loss = _loss(model, *_tensors(batch, pad_id))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        optimizer.step()
        losses.append(loss.item())
        if on_step is not None:
            on_step(step + 1, losses[-1])
    model.train(False)
    return losses


def _batches(settings: SupervisedSettings, examples: list[Example]) -> Iterator[list[Example]]:
    """Batches of sequences of like length, in random order within each window."""
    rng = random.Random(derive_seed("supervised", "order", settings.seed))
    size, window = settings.batch_size, settings.batch_size * _WINDOW
    for start in range(0, len(examples), window):
        nearby = sorted(examples[start : start + window], key=lambda e: len(e.ids))
        batches = [nearby[i : i + size] for i in range(0, len(nearby), size)]
        rng.shuffle(batches)
        yield from batches


def _tensors(batch: list[Example], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids and labels, both (B, T) int64; labels only on completions."""
    length = max(len(e.ids) for e in batch)
    ids_BT = torch.full((len(batch), length), pad_id)
    labels_BT = torch.full((len(batch), length), _IGNORED)
    for row, example in enumerate(batch):
        end = len(example.ids)
        ids_BT[row, :end] = torch.tensor(example.ids)
        labels_BT[row, example.prompt_length : end] = torch.tensor(
            example.ids[example.prompt_length :]
        )
    return ids_BT, labels_BT


def _learning_rate(settings: SupervisedSettings, step: int) -> float:
    """Linear warm-up, then cosine decay; `step` counts from 0."""
    warm = min(1.0, (step + 1) / max(settings.warmup_steps, 1))
    progress = step / max(settings.steps - 1, 1)
    low = settings.final_learning_rate_share
    return (
        settings.learning_rate * warm * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress)))
    )


def _loss(model: Qwen2ForCausalLM, ids_BT: torch.Tensor, labels_BT: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over completion tokens; the head sees no other position."""
    hidden_BTH = model.model(input_ids=ids_BT, use_cache=False).last_hidden_state
    targets_BT = labels_BT[:, 1:]
    chosen_BT = targets_BT != _IGNORED
    logits_NV = model.lm_head(hidden_BTH[:, :-1][chosen_BT])
    return torch.nn.functional.cross_entropy(logits_NV, targets_BT[chosen_BT])
