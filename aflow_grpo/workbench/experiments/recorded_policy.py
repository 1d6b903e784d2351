"""A policy that chooses one of a dataset's recorded workflows, trained by the package's GRPO.

A softmax over workflows whose logits are linear in text features, plus a bias per workflow. What
learns is what learns everywhere here: groups of choices per problem, `group_advantages`,
`grpo_loss` with one token per choice, AdamW. A choice's reward is that of one of the recorded
repeats, drawn at random. Many fits (folds) are trained side by side as one batch; their parameters
are apart, so that none sees another's problems. Not here: which settings are best.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aflow_grpo.errors import ConfigError
from aflow_grpo.grpo.advantages import group_advantages
from aflow_grpo.grpo.losses import LossInputs, grpo_loss, loss_normaliser
from aflow_grpo.grpo.presets import LossSettings, PresetName, resolve

__all__ = ["PolicyRecipe", "TrainingSize", "train_policies"]


@dataclass(frozen=True)
class PolicyRecipe:
    """What the inner folds choose among, the text's dimensions and the steps apart."""

    learning_rate: float = 0.1
    """Of AdamW, constant."""
    entropy_coef: float = 0.01
    """Weight of the entropy bonus, per choice and nat."""
    efficiency_points: float = 15.0
    """Of the training reward's 100; more makes cost count more, at the expense of correctness.
    Figures and choices by reward are always by the preset's 15."""

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ConfigError(f"recipes.learning_rate={self.learning_rate:g}: expected above 0.")
        if not 0 <= self.efficiency_points <= 60:
            raise ConfigError(
                f"recipes.efficiency_points={self.efficiency_points:g}: expected 0 to 60."
            )


@dataclass(frozen=True)
class TrainingSize:
    """How much every fit is trained."""

    checkpoints: tuple[int, ...] = (20, 60)
    """Steps after which the policy is looked at, ascending; the last is the end."""
    problems_per_step: int = 8
    group_size: int = 8
    """Choices per problem and step."""
    weight_decay: float = 0.01
    preset: PresetName = "default"
    """The loss; see `aflow-grpo describe loss NAME`."""

    def __post_init__(self) -> None:
        if not self.checkpoints or list(self.checkpoints) != sorted(set(self.checkpoints)):
            raise ConfigError(f"training.checkpoints={self.checkpoints}: expected ascending steps.")
        if min(self.checkpoints[0], self.problems_per_step, self.group_size - 1) < 1:
            raise ConfigError(
                "training: expected steps and problems of 1, a group_size of 2 or more."
            )


def train_policies(
    features_KPF: NDArray[np.float64],
    rewards_PWR: NDArray[np.float64],
    train_KP: NDArray[np.bool_],
    recipe: PolicyRecipe,
    size: TrainingSize,
    *,
    seed: int,
) -> list[NDArray[np.float64]]:
    """Train `K` policies side by side, each on its own problems.

    Args:
        features_KPF: Each fit's view of all problems; F may be 0, then only biases are learned.
        rewards_PWR: Reward of each recorded repeat.
        train_KP: The problems that a fit may draw.
        recipe: Learning rate, entropy; its efficiency points are in `rewards_PWR` already.
        size: Steps, problems and choices per step.
        seed: Of everything that is drawn.

    Returns:
        After each checkpoint the log-probabilities of all problems, (K, P, W).
    """
    generator = torch.Generator().manual_seed(seed)
    features, rewards = torch.tensor(features_KPF).float(), torch.tensor(rewards_PWR).float()
    (fits, _, columns), workflows = features.shape, rewards.shape[1]
    weight_KFW = torch.zeros(fits, columns, workflows, requires_grad=True)
    bias_K1W = torch.zeros(fits, 1, workflows, requires_grad=True)
    optimizer = torch.optim.AdamW(
        [weight_KFW, bias_K1W], lr=recipe.learning_rate, weight_decay=size.weight_decay
    )
    objective = resolve(LossSettings(preset=size.preset, entropy_coef=recipe.entropy_coef))
    lists = _padded(train_KP)
    counts_K1 = torch.tensor(train_KP.sum(1)).unsqueeze(1)
    rows_K1 = torch.arange(fits).unsqueeze(1)
    choices = size.problems_per_step * size.group_size
    normaliser = loss_normaliser([1] * choices, objective.loss)
    groups_B = torch.arange(fits * size.problems_per_step).repeat_interleave(size.group_size)
    found = []
    for step in range(1, size.checkpoints[-1] + 1):
        drawn_KM = torch.rand(fits, size.problems_per_step, generator=generator)
        places_KM = lists[rows_K1, (drawn_KM * counts_K1).long()]
        logp_KMW = _log_policy(features[rows_K1, places_KM], weight_KFW, bias_K1W)
        choice_KMG = _draw(logp_KMW.detach().exp(), size.group_size, generator)
        reward_KMG = _rewards(rewards, places_KM, choice_KMG, generator)
        advantages_B = group_advantages(reward_KMG.flatten(), groups_B, None, objective.advantage)
        inputs = _inputs(logp_KMW, choice_KMG, advantages_B)
        optimizer.zero_grad()
        grpo_loss(inputs, objective.loss, normaliser=normaliser).loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step in size.checkpoints:
            with torch.no_grad():
                found.append(_log_policy(features, weight_KFW, bias_K1W).double().numpy())
    return found


def _inputs(logp_KMW: Tensor, choice_KMG: Tensor, advantages_B: Tensor) -> LossInputs:
    """Each choice as a sequence of one token."""
    logprobs_B1 = logp_KMW.gather(2, choice_KMG).reshape(-1, 1)
    entropy_KM1 = -(logp_KMW.exp() * logp_KMW).sum(2, keepdim=True)
    return LossInputs(
        logprobs_B1,
        logprobs_B1.detach(),
        advantages_B,
        torch.ones_like(logprobs_B1, dtype=torch.bool),
        entropy_BT=entropy_KM1.expand_as(choice_KMG).reshape(-1, 1),
    )


def _padded(train_KP: NDArray[np.bool_]) -> Tensor:
    """Each fit's problems in a row; behind the last one stands what is never drawn."""
    return torch.tensor(np.argsort(~train_KP, axis=1, kind="stable"))


def _log_policy(features_KPF: Tensor, weight_KFW: Tensor, bias_K1W: Tensor) -> Tensor:
    return torch.log_softmax(torch.bmm(features_KPF, weight_KFW) + bias_K1W, dim=2)


def _draw(probs_KMW: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Choices (K, M, G) by inverse CDF: what is consumed does not hang on the probabilities."""
    ends_KMW = probs_KMW.cumsum(2)
    places = torch.rand(*probs_KMW.shape[:2], size, generator=generator) * ends_KMW[..., -1:]
    return torch.searchsorted(ends_KMW, places, right=True).clamp(max=probs_KMW.shape[2] - 1)


def _rewards(
    rewards_PWR: Tensor, places_KM: Tensor, choice_KMG: Tensor, generator: torch.Generator
) -> Tensor:
    repeats = rewards_PWR.shape[2]
    drawn = (torch.rand(choice_KMG.shape, generator=generator) * repeats).long()
    return rewards_PWR[places_KM.unsqueeze(2), choice_KMG, drawn.clamp(max=repeats - 1)]
