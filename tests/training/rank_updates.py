"""Updates on given rollouts, on as many ranks as there are; what each leaves is put in a file."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from made_rollouts import problem, rollout
from torch.utils.data import DataLoader

from aflow_grpo.grpo.presets import LossSettings
from aflow_grpo.policy import Policy, SamplingSettings
from aflow_grpo.records import Completion, Rollout, Status
from aflow_grpo.training.demonstrations import Demonstration, DemonstrationSettings
from aflow_grpo.training.module import GRPOModule
from aflow_grpo.training.ranks import Ranks
from aflow_grpo.training.settings import EvaluationSettings, GRPOSettings, OptimizerSettings
from aflow_grpo.training.shares import own_share
from aflow_grpo.training.update import update_policy

__all__ = ["CASES", "make_batches", "rank_cases", "run_cases"]

GROUPS, MEMBERS = 4, 3
CASES: dict[str, dict[str, Any]] = {
    name: {"loss": LossSettings(preset=name)}  # type: ignore[arg-type]
    for name in ("grpo", "dr_grpo", "dapo", "gspo", "rloo", "seed")
} | {
    "batch_std": {"loss": LossSettings(advantage_scale="batch_std", entropy_coef=0.01)},
    "minibatches": {"loss": LossSettings(entropy_coef=0.01), "ppo_epochs": 2, "minibatches": 2},
    "micro_batches": {"loss": LossSettings(entropy_coef=0.01), "micro_batch_size": 2},
    "demonstrations": {
        "loss": LossSettings(entropy_coef=0.01),
        "demonstrations": DemonstrationSettings(use="member"),
        "minibatches": 2,
        "micro_batch_size": 2,
    },
}
"""Name -> settings of `model.grpo`."""


def make_batches() -> list[list[Rollout]]:
    """Four groups of three, three times: all there; some masked, so that groups and ranks are of
    uneven size; and nothing at all left of the second half, which is the second rank's."""
    policy = Policy("tiny", sampling=SamplingSettings(max_new_tokens=16))
    policy.setup()
    policy.eval()
    prompts = [policy.encode(problem("math", b // MEMBERS).visible) for b in range(12)]
    drawn = [
        replace(c, token_ids=c.token_ids[: 4 + 3 * (b % 4)], logprobs=c.logprobs[: 4 + 3 * (b % 4)])
        for b, c in enumerate(policy.sample(prompts, range(len(prompts))))
    ]
    masked: list[Sequence[int]] = [(), (0, 4, 5), range(6, 12)]
    return [_batch(drawn, seed, gone) for seed, gone in enumerate(masked)]


def _batch(drawn: Sequence[Completion], seed: int, gone: Sequence[int]) -> list[Rollout]:
    dice = random.Random(seed)
    return [
        rollout(
            total=dice.uniform(-10, 10),
            group=b // MEMBERS,
            member=b % MEMBERS,
            completion=completion,
            status=Status.UNAVAILABLE if b in gone else Status.OK,
        )
        for b, completion in enumerate(drawn)
    ]


class _Updating(GRPOModule):
    """Trains on this rank's share of batches made beforehand, in double precision."""

    def __init__(self, batches: Sequence[Sequence[Rollout]], **grpo: Any) -> None:
        policy = Policy("tiny", sampling=SamplingSettings(max_new_tokens=16))
        super().__init__(
            policy,
            grpo=GRPOSettings(**grpo),
            optimizer=OptimizerSettings(learning_rate=1e-3, warmup_steps=0),
            evaluation=EvaluationSettings(at_start=False, at_end=False),
        )
        policy.setup()
        policy.double()
        self.batches = batches
        self.found: list[dict[str, Any]] = []
        self.gradient = torch.zeros(0)
        self.start = [p.detach().clone() for p in policy.parameters()]

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.policy.train()
        whole = self.batches[self.iteration]
        first = self.trainer.global_rank * GROUPS // self.trainer.world_size
        share = own_share(whole, Ranks.of(self.trainer)).items
        report = update_policy(
            self,
            [replace(r, group=r.group - first) for r in share],
            demonstrations=self._shown(whole, range(first, first + len(share) // MEMBERS)),
        )
        weights = torch.cat([p.detach().flatten() for p in self.policy.parameters()])
        self.found.append(
            {"metrics": report.metrics, "gradient": self.gradient, "weights": weights}
        )
        self.iteration += 1
        # Every batch is tried on the same weights: Adam would enlarge the rounding of the last one.
        self.optimizers().optimizer.state.clear()  # type: ignore[union-attr]
        with torch.no_grad():
            for parameter, value in zip(self.policy.parameters(), self.start, strict=True):
                parameter.copy_(value)

    def _shown(self, whole: Sequence[Rollout], groups: range) -> list[Demonstration]:
        """Two for the first half's groups and one for the second's, where there are any."""
        if self.grpo.demonstrations is None:
            return []
        found = []
        for group in (0, 1, 2):
            given = whole[group * MEMBERS + 1].completion
            if group in groups:
                given = replace(given, logprobs=(0.0,) * len(given.token_ids))
                found.append(Demonstration(given, group - groups.start, 9.0, 0.5, "member"))
        return found

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """The gradient of the last step, over all ranks."""
        super().on_before_optimizer_step(optimizer)
        parts = [p.grad.flatten() for p in self.policy.parameters() if p.grad is not None]
        self.gradient = torch.cat(parts) if parts else torch.zeros(0)


def run_cases(batches: Sequence[Sequence[Rollout]], folder: Path, **trainer: Any) -> int:
    """Every case from the same weights; `<rank>.pt` in `folder` holds what each iteration left."""
    torch.set_num_threads(1)
    found = {}
    rank = 0
    for name, settings in CASES.items():
        module = _Updating(batches, **settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = L.Trainer(
                max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
                enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
                use_distributed_sampler=False, **trainer,
            )  # fmt: skip
            made.fit(module, DataLoader(range(len(batches)), batch_size=1))  # type: ignore[arg-type]
        found[name] = module.found
        rank = made.global_rank
    torch.save(found, folder / f"{rank}.pt")
    return 0


def rank_cases(batches: Sequence[Sequence[Rollout]], folder: Path) -> int:
    """The same as one of two ranks."""
    return run_cases(batches, folder, strategy="ddp", devices=2)
