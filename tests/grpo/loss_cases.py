"""Every preset and option of the loss, and batches to try them on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aflow_grpo.grpo.losses import LossInputs
from aflow_grpo.grpo.objective import Objective
from aflow_grpo.grpo.presets import PRESETS, LossSettings, resolve

LONGEST = 8

OPTIONS: dict[str, dict[str, Any]] = {
    **{name: {"preset": name} for name in PRESETS},
    "batch_std": {"preset": "grpo", "advantage_scale": "batch_std", "advantage_ddof": 0},
    "advantage_clip": {"preset": "dr_grpo", "advantage_clip": 0.5},
    "k1_ratio": {"preset": "grpo", "kl_estimator": "k1", "kl_gradient": "ratio"},
    "k2": {"preset": "dapo", "kl_coef": 0.1, "kl_estimator": "k2"},
    "k3_straight_through": {"preset": "gspo", "kl_coef": 0.1, "kl_gradient": "straight_through"},
    "sequence_correction": {"preset": "grpo", "correction": "sequence", "correction_cap": 1.5},
    "gspo_token_mean": {"preset": "gspo", "aggregation": "token_mean", "clip_low": 0.2},
    "uncorrected": {"preset": "dr_grpo", "correction": "off", "entropy_coef": 0.02},
    "limited": {"preset": "grpo", "log_ratio_limit": 0.3},
}
"""Settings by a name for the test's report."""


def objective_of(name: str) -> Objective:
    return resolve(LossSettings(**OPTIONS[name]), max_length=LONGEST)


@dataclass
class Batch:
    """Rows of uneven length whose log-probs depend on shared weights, as a policy's do."""

    features: list[Tensor]
    """Per row, (T, 4)."""
    others: list[Tensor]
    """Per row, old, reference, sampler and entropy, (4, T)."""
    advantages_B: Tensor
    off_policy_B: Tensor
    weights: Tensor

    @property
    def lengths(self) -> list[int]:
        return [len(each) for each in self.features]

    def inputs(self, part: list[int], left: list[bool], weights: Tensor, extra: int) -> LossInputs:
        """Some rows as one micro-batch, `extra` wider than needed, each padded on one side.

        Padding is NaN, so that whoever reads it shows.
        """
        width = extra + max((self.lengths[b] for b in part), default=0)
        sides = [left[b] for b in part]

        def padded(rows: list[Tensor]) -> Tensor:
            out = torch.full((len(rows), width), torch.nan, dtype=torch.float64)
            for row, (values, at_left) in enumerate(zip(rows, sides, strict=True)):
                out[row, width - len(values) :] = values if at_left else torch.nan
                if not at_left:
                    out[row, : len(values)] = values
            return out

        mask_BT = padded([torch.ones(self.lengths[b], dtype=torch.float64) for b in part]) == 1
        old, ref, sampler, entropy = (padded([self.others[b][k] for b in part]) for k in range(4))
        return LossInputs(
            # A micro-batch without rows depends on the weights too.
            logprobs_BT=padded([self.features[b] @ weights for b in part]) + 0 * weights.sum(),
            old_logprobs_BT=old,
            advantages_B=self.advantages_B[part],
            mask_BT=mask_BT,
            ref_logprobs_BT=ref,
            entropy_BT=entropy,
            sampler_logprobs_BT=sampler,
            off_policy_B=self.off_policy_B[part],
        )


def made_batch(lengths: list[int], seed: int, advantages_B: Tensor | None = None) -> Batch:
    """Random rows of these lengths; every third one is off-policy, every fifth has no sampler."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weights = noise(4)
    features = [noise(n, 4) for n in lengths]
    others = []
    for b, row in enumerate(features):
        logprobs = row @ weights
        old = logprobs + 0.3 * noise(len(row))
        sampler = old + 0.4 * noise(len(row))
        if b % 5 == 4:
            sampler[len(row) // 2 :] = torch.nan
        entropy = noise(len(row)).exp()
        others.append(torch.stack([old, logprobs + 0.4 * noise(len(row)), sampler, entropy]))
    return Batch(
        features,
        others,
        noise(len(lengths)) if advantages_B is None else advantages_B,
        torch.arange(len(lengths)) % 3 == 2,
        weights,
    )
