"""One GRPO update: from rollouts to optimiser steps.

Advantages are over the survivors of each group: a masked rollout has none and is not trained on.
Every optimiser step accumulates over micro-batches with one normaliser, so that the split changes
nothing but memory.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from aflow_grpo.grpo.advantages import group_advantages, zero_variance_share
from aflow_grpo.grpo.losses import LossInputs, grpo_loss, loss_normaliser
from aflow_grpo.records import Rollout
from aflow_grpo.seeds import derive_seed

if TYPE_CHECKING:
    from aflow_grpo.training.module import GRPOModule

__all__ = ["UpdateReport", "update_policy"]


@dataclass(frozen=True)
class UpdateReport:
    """What an update did."""

    metrics: dict[str, float]
    learned: bool
    """False when no group had a signal and nothing was changed."""
    seconds: float


def update_policy(module: GRPOModule, rollouts_B: Sequence[Rollout]) -> UpdateReport:
    """Update `module.policy` from one batch of rollouts."""
    started = time.perf_counter()
    module.optimizers().zero_grad(set_to_none=True)  # type: ignore[union-attr] # of an abandoned one
    settings = module.grpo
    rewards_B = torch.tensor([r.reward.total for r in rollouts_B], dtype=torch.float64)
    groups_B = torch.tensor([r.group for r in rollouts_B])
    valid_B = torch.tensor([not r.masked for r in rollouts_B])
    advantages_B = group_advantages(
        rewards_B,
        groups_B,
        valid_B,
        scale=settings.advantage_scale,
        eps=settings.advantage_eps,
    ).float()
    silent = zero_variance_share(rewards_B, groups_B, valid_B)
    rows = [b for b in range(len(rollouts_B)) if valid_B[b]]
    learned = bool(advantages_B.abs().max() > 0) if rows else False
    steps: list[dict[str, float]] = []
    if learned:
        with _seeded_dropout(module):
            old_logprobs = _old_logprobs(module, rollouts_B, rows)
            for epoch in range(settings.ppo_epochs):
                for batch in _minibatches(module, rows, epoch):
                    steps.append(_step(module, rollouts_B, batch, advantages_B, old_logprobs))
    else:
        _count_step(module)
    metrics = {
        f"train/{name}": (max if name == "ratio_max" else fmean)(step[name] for step in steps)
        for name in (steps[0] if steps else ())
    }
    metrics["train/zero_variance_groups"] = silent
    metrics["train/skipped_update"] = float(not learned)
    metrics["train/learning_rate"] = module.trainer.optimizers[0].param_groups[0]["lr"]
    metrics["train/workflows"] = float(len(rollouts_B))
    return UpdateReport(metrics, learned, time.perf_counter() - started)


@contextmanager
def _seeded_dropout(module: GRPOModule) -> Iterator[None]:
    """Dropout derived from (seed, iteration, rank), so that resuming needs no saved generator."""
    device = module.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(derive_seed(module.seed, "dropout", module.iteration, module.global_rank))
        yield


def _old_logprobs(
    module: GRPOModule, rollouts_B: Sequence[Rollout], rows: Sequence[int]
) -> dict[int, Tensor] | None:
    """Log-probs before the update, by row; None when the first pass is the only one.

    With one optimiser step per batch they equal the pass's own log-probs, detached.
    """
    if module.grpo.ppo_epochs * module.grpo.minibatches == 1:
        return None
    known: dict[int, Tensor] = {}
    with torch.no_grad():
        for micro in _micro_batches(rows, module.grpo.micro_batch_size):
            scored = module.policy.score([rollouts_B[b].completion for b in micro])
            for row, b in enumerate(micro):
                known[b] = scored.logprobs_BT[row, : int(scored.mask_BT[row].sum())]
    return known


def _minibatches(module: GRPOModule, rows: Sequence[int], epoch: int) -> Iterator[list[int]]:
    """`grpo.minibatches` shares of the rows, in an order derived from (seed, iteration, epoch)."""
    count = module.grpo.minibatches
    order = list(rows)
    if count > 1:
        generator = torch.Generator().manual_seed(
            derive_seed(module.seed, "minibatches", module.iteration, epoch)
        )
        order = [rows[i] for i in torch.randperm(len(rows), generator=generator).tolist()]
    for share in range(count):
        batch = order[share::count]
        if batch:
            yield batch


def _micro_batches(rows: Sequence[int], size: int) -> Iterator[list[int]]:
    """Shares of the rows in their order: members of a group stay together and share a prompt."""
    for first in range(0, len(rows), size):
        yield list(rows[first : first + size])


def _step(
    module: GRPOModule,
    rollouts_B: Sequence[Rollout],
    batch: Sequence[int],
    advantages_B: Tensor,
    old_logprobs: dict[int, Tensor] | None,
) -> dict[str, float]:
    """One optimiser step over `batch`; returns its metrics."""
    config = module.grpo.loss
    lengths = [len(rollouts_B[b].completion.token_ids) for b in batch]
    normaliser = loss_normaliser(lengths, config)
    metrics: dict[str, float] = {}
    for micro in _micro_batches(batch, module.grpo.micro_batch_size):
        completions = [rollouts_B[b].completion for b in micro]
        scored = module.policy.score(completions, with_entropy=True)
        old_BT = scored.logprobs_BT.detach()
        if old_logprobs is not None:
            old_BT = _padded([old_logprobs[b] for b in micro], scored.logprobs_BT)
        reference_BT = None
        if config.kl_coef > 0:
            reference_BT = module.policy.reference_logprobs(completions)
        outputs = grpo_loss(
            LossInputs(
                logprobs_BT=scored.logprobs_BT,
                old_logprobs_BT=old_BT,
                ref_logprobs_BT=reference_BT,
                advantages_B=advantages_B[torch.tensor(micro)].to(old_BT.device),
                mask_BT=scored.mask_BT,
                entropy_BT=scored.entropy_BT,
            ),
            config,
            normaliser=normaliser,
        )
        module.manual_backward(outputs.loss)
        share = sum(len(c.token_ids) for c in completions) / sum(lengths)
        for name, value in outputs.metrics.items():
            if name == "ratio_max":
                metrics[name] = max(metrics.get(name, 0.0), value)
            else:
                metrics[name] = metrics.get(name, 0.0) + value * share
    limit = module.grpo.gradient_clip or float("inf")
    trained = [p for p in module.policy.parameters() if p.requires_grad]
    metrics["grad_norm"] = float(torch.nn.utils.clip_grad_norm_(trained, limit))
    _count_step(module)
    return metrics


def _count_step(module: GRPOModule) -> None:
    """Step optimiser and schedule; without gradients this changes no weight but counts."""
    optimizer = module.optimizers()
    optimizer.step()  # type: ignore[union-attr]
    optimizer.zero_grad(set_to_none=True)  # type: ignore[union-attr]
    module.lr_schedulers().step()  # type: ignore[union-attr]


def _padded(rows: Sequence[Tensor], like_BT: Tensor) -> Tensor:
    """Ragged rows as a tensor of the shape of `like_BT`, zeros after each row's end."""
    out_BT = torch.zeros_like(like_BT)
    for row, values in enumerate(rows):
        out_BT[row, : len(values)] = values
    return out_BT
