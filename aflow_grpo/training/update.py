"""One GRPO update: from rollouts to optimiser steps.

Every rank knows the rewards and lengths of all ranks' rollouts, so that advantages, mini-batches
and normalisers are those of the whole batch: the split into ranks and micro-batches changes nothing
but memory and time. Advantages are over the survivors of each group: a masked rollout has none and
is not trained on.

All ranks take the same optimiser steps. Each step's gradients are averaged over the ranks in its
last backward pass, which a rank without rows of its own makes with a loss of weight zero.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from aflow_grpo.grpo.advantages import group_advantages, silent_groups, zero_variance_share
from aflow_grpo.grpo.losses import OF_ALL, LossInputs, grpo_loss, loss_normaliser
from aflow_grpo.records import Rollout
from aflow_grpo.seeds import derive_seed
from aflow_grpo.training.demonstrations import Demonstration, imitation_loss
from aflow_grpo.training.guard import check_finite
from aflow_grpo.training.outcome_use import JudgedRewards
from aflow_grpo.training.ranks import Ranks

if TYPE_CHECKING:
    from aflow_grpo.training.module import GRPOModule

__all__ = ["UpdateReport", "update_policy"]

_LARGEST = "ratio_max"
"""The metric of which the largest value counts; the others are means over tokens."""
_NORM = "grad_norm"
"""The metric that every rank knows whole, since gradients have been averaged by then."""


@dataclass(frozen=True)
class UpdateReport:
    """What an update did; the same on every rank."""

    metrics: dict[str, float]
    learned: bool
    """False when no group had a signal and nothing was changed."""
    seconds: float


def update_policy(
    module: GRPOModule,
    rollouts_B: Sequence[Rollout],
    *,
    lag: int = 0,
    demonstrations: Sequence[Demonstration] = (),
    judged: JudgedRewards | None = None,
) -> UpdateReport:
    """Update `module.policy` from one batch of rollouts.

    Args:
        module: Policy, optimiser and settings.
        rollouts_B: This rank's, whole groups.
        lag: Updates between the policy that wrote them and this one.
        demonstrations: For this rank's groups.
        judged: What enters the advantages instead of the rollouts' rewards; on all ranks or none.
    """
    started = time.perf_counter()
    module.optimizers().zero_grad(set_to_none=True)  # type: ignore[union-attr] # of an abandoned one
    update = _Update(module, rollouts_B, lag, demonstrations, judged)
    steps: list[dict[str, float]] = []
    if update.learns:
        with _seeded_dropout(module):
            if module.grpo.ppo_epochs * module.grpo.minibatches > 1:
                update.keep_old_logprobs()
            for epoch in range(module.grpo.ppo_epochs):
                for rows in update.minibatches(epoch):
                    steps.append(update.step(rows))
    else:
        _count_step(module)
    metrics = {f"train/{name}": value for name, value in update.ranks_mean(steps).items()}
    metrics["train/zero_variance_groups"] = update.silent_share
    metrics["train/skipped_update"] = float(not update.learns)
    metrics["train/policy_lag"] = float(lag)
    metrics["train/learning_rate"] = module.trainer.optimizers[0].param_groups[0]["lr"]
    metrics["train/workflows"] = float(update.workflows)
    if module.grpo.demonstrations is not None:
        metrics["train/demonstrations"] = float(update.demonstrations)
    return UpdateReport(metrics, update.learns, time.perf_counter() - started)


@contextmanager
def _seeded_dropout(module: GRPOModule) -> Iterator[None]:
    """Dropout derived from (seed, iteration, rank), so that resuming needs no saved generator."""
    device = module.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(derive_seed(module.seed, "dropout", module.iteration, module.global_rank))
        yield


class _Row(NamedTuple):
    """What every rank knows of a rollout."""

    reward: float
    group: int
    """Numbered over all ranks."""
    valid: bool
    """False where masked."""
    finished: bool
    """False where the completion was cut at its longest."""
    length: int
    """In tokens."""
    shown: float | None = None
    """The weight of a demonstration's advantage; None for what the policy wrote."""


def _gathered(
    ranks: Ranks,
    rollouts_B: Sequence[Rollout],
    members: Sequence[Demonstration],
    judged: JudgedRewards,
) -> tuple[list[_Row], list[int]]:
    """All ranks' rollouts, then all ranks' members besides; and the places of this rank's.

    The order is that of one process, so that mini-batches are the same on any number of ranks.
    """
    scale_of = judged.scales.get
    drawn = [
        _Row(reward / scale_of(r.group, 1.0), r.group, not r.masked, c.finished, len(c.token_ids))
        for r, reward in zip(rollouts_B, judged.rewards_B, strict=True)
        for c in [r.completion]
    ]
    shown = [
        _Row(d.reward / scale_of(d.group, 1.0), d.group, True, True, len(c.token_ids), d.weight)
        for d in members
        for c in [d.completion]
    ]
    everybody = ranks.gather((drawn, shown))
    first_group, groups = [], 0
    for theirs, _ in everybody:
        first_group.append(groups)
        groups += max((row.group for row in theirs), default=-1) + 1
    rows: list[_Row] = []
    places: list[int] = []
    for part in (0, 1):
        for rank, parts in enumerate(everybody):
            if rank == ranks.rank:
                places += range(len(rows), len(rows) + len(parts[part]))
            rows += [row._replace(group=first_group[rank] + row.group) for row in parts[part]]
    return rows, places


class _Update:
    """One update in progress; rows are numbers of rollouts over all ranks."""

    def __init__(
        self,
        module: GRPOModule,
        rollouts_B: Sequence[Rollout],
        lag: int,
        demonstrations: Sequence[Demonstration],
        judged: JudgedRewards | None,
    ) -> None:
        self.module = module
        self.ranks = Ranks.of(module.trainer)
        self.objective = objective = module.objective
        self._corrected = objective.correction != "off" and (
            objective.correction != "auto" or lag > 0 or module.policy.sampler_differs
        )
        members = [d for d in demonstrations if d.use == "member"]
        self._imitated = [d for d in demonstrations if d.use == "auxiliary"]
        advantage = objective.advantage
        if judged is None:
            judged = JudgedRewards([r.reward.total for r in rollouts_B], {})
        elif advantage.scale in ("group_std", "batch_std"):
            advantage = replace(advantage, scale="none")  # each group has its scale already
        else:
            judged = replace(judged, scales={})
        rows, places = _gathered(self.ranks, rollouts_B, members, judged)
        self.lengths = [row.length for row in rows]
        self._shown = {n for n, row in enumerate(rows) if row.shown is not None}
        counts = self.ranks.gather(
            (len(self._imitated), sum(len(d.completion.token_ids) for d in self._imitated))
        )
        self._imitated_tokens = sum(tokens for _, tokens in counts)
        self.demonstrations = len(self._shown) + sum(count for count, _ in counts)
        self.workflows = len(rows) - len(self._shown)
        completions = [r.completion for r in rollouts_B] + [d.completion for d in members]
        self._completions = dict(zip(places, completions, strict=True))
        self._old: dict[int, Tensor] = {}
        self._reference: dict[int, Tensor] = {}
        valid_N = torch.tensor([row.valid for row in rows], dtype=torch.bool)
        scored = (
            torch.tensor([row.reward for row in rows], dtype=torch.float64),
            torch.tensor([row.group for row in rows], dtype=torch.long),
            valid_N,
        )
        self.advantages_N = group_advantages(*scored, advantage).float()
        weights = [1.0 if row.shown is None else row.shown for row in rows]
        self.advantages_N = self.advantages_N * torch.tensor(weights)
        own_N = torch.tensor([row.shown is None for row in rows], dtype=torch.bool)
        self.silent_share = zero_variance_share(scored[0], scored[1], valid_N & own_N)
        kept_N = valid_N
        if objective.zero_variance != "keep":
            kept_N = kept_N & ~silent_groups(*scored)
        if objective.overlong == "mask":
            kept_N = kept_N & torch.tensor([row.finished for row in rows], dtype=torch.bool)
        self.rows: list[int] = kept_N.nonzero().flatten().tolist()
        signal = bool(self.rows) and bool(self.advantages_N[self.rows].abs().max() > 0)
        self.learns = signal or self._imitated_tokens > 0

    def minibatches(self, epoch: int) -> Iterator[list[int]]:
        """`grpo.minibatches` shares of the rows, in an order derived from (seed, iteration, epoch).

        The same on every rank.
        """
        module, order = self.module, self.rows
        count = module.grpo.minibatches
        if count > 1:
            seed = derive_seed(module.seed, "minibatches", module.iteration, epoch)
            generator = torch.Generator().manual_seed(seed)
            order = [order[i] for i in torch.randperm(len(order), generator=generator).tolist()]
        for share in range(count):
            if (rows := order[share::count]) or (share == 0 and self._imitated_tokens):
                yield sorted(rows)  # members of a group beside each other share a prompt

    def keep_old_logprobs(self) -> None:
        """Log-probs before the update, by row, where one pass will not be the only one."""
        with torch.no_grad():
            for micro in self._micro_batches(self.rows):
                scored = self.module.policy.score([self._completions[n] for n in micro])
                self._old |= self._by_row(micro, scored.logprobs_BT)

    def step(self, rows: Sequence[int]) -> dict[str, float]:
        """One optimiser step over `rows`; returns this rank's part of its metrics."""
        module = self.module
        lengths = [self.lengths[n] for n in rows]
        normaliser = loss_normaliser(lengths, self.objective.loss)
        metrics: dict[str, float] = {}
        micros = list(self._micro_batches(rows))
        self._imitate()
        for index, micro in enumerate(micros):
            with self._no_sync(last=index + 1 == len(micros)):
                found = self._backward(micro, normaliser)
            for name, value in found.items():
                share = self._tokens(micro, name) / max(1, self._tokens(rows, name))
                if name == _LARGEST:
                    metrics[name] = max(metrics.get(name, 0.0), value)
                else:
                    metrics[name] = metrics.get(name, 0.0) + value * share
        if not micros:
            module.manual_backward(self._nothing())
        limit = module.grpo.gradient_clip or float("inf")
        trained = [p for p in module.policy.parameters() if p.requires_grad]
        metrics[_NORM] = float(torch.nn.utils.clip_grad_norm_(trained, limit))
        check_finite(metrics[_NORM], "gradient norm", module)
        _count_step(module)
        return metrics

    def _tokens(self, rows: Sequence[int], name: str) -> int:
        """Over how many tokens of `rows` the metric `name` is a mean."""
        return sum(self.lengths[n] for n in rows if name in OF_ALL or n not in self._shown)

    def _imitate(self) -> None:
        """Add the gradients of the demonstrations' likelihood; the ranks' come together later."""
        size = self.module.grpo.micro_batch_size
        for first in range(0, len(self._imitated), size):
            with self._no_sync(last=False):
                loss = imitation_loss(
                    self.module.policy,
                    self._imitated[first : first + size],
                    tokens=self._imitated_tokens,
                )
                self.module.manual_backward(loss * self.ranks.world_size)

    def ranks_mean(self, steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """The steps' metrics over all ranks, averaged over the steps."""
        if not steps:
            return {}
        by_rank = self.ranks.gather([dict(step) for step in steps])
        found: dict[str, float] = {}
        for name in sorted({name for theirs in by_rank for step in theirs for name in step}):
            over_ranks = max if name in (_LARGEST, _NORM) else sum
            over_steps = max if name == _LARGEST else fmean
            found[name] = over_steps(
                over_ranks(theirs[at].get(name, 0.0) for theirs in by_rank)
                for at in range(len(steps))
            )
        return found

    def _micro_batches(self, rows: Sequence[int]) -> Iterator[list[int]]:
        """This rank's share of the rows, in their order."""
        mine, size = [n for n in rows if n in self._completions], self.module.grpo.micro_batch_size
        for first in range(0, len(mine), size):
            yield mine[first : first + size]

    def _backward(self, micro: Sequence[int], normaliser: float) -> dict[str, float]:
        policy, loss = self.module.policy, self.objective.loss
        completions = [self._completions[n] for n in micro]
        if loss.kl_coef > 0 and (new := [n for n in micro if n not in self._reference]):
            values_BT = policy.reference_logprobs([self._completions[n] for n in new])
            self._reference |= self._by_row(new, values_BT)
        scored = policy.score(completions, with_entropy=True)
        like_BT = scored.logprobs_BT.detach()
        sampler = None
        if self._corrected or self._shown:  # in every micro-batch or none: its mean is reported
            sampler = {n: self._sampler_logprobs(n) for n in micro}
        reference = self._reference if loss.kl_coef > 0 else None
        outputs = grpo_loss(
            LossInputs(
                logprobs_BT=scored.logprobs_BT,
                old_logprobs_BT=_padded(micro, self._old, like_BT) if self._old else like_BT,
                ref_logprobs_BT=None if reference is None else _padded(micro, reference, like_BT),
                sampler_logprobs_BT=None if sampler is None else _padded(micro, sampler, like_BT),
                advantages_B=self.advantages_N[list(micro)].to(like_BT.device),
                mask_BT=scored.mask_BT,
                entropy_BT=scored.entropy_BT,
                off_policy_B=torch.tensor([n in self._shown for n in micro]).to(like_BT.device),
            ),
            loss,
            normaliser=normaliser,
        )
        # The strategy averages over ranks what adds up over them.
        self.module.manual_backward(outputs.loss * self.ranks.world_size)
        return outputs.metrics

    def _sampler_logprobs(self, n: int) -> Tensor:
        """A row's log-probs of whatever drew it; NaN where they are the trainer's own."""
        if self._corrected or n in self._shown:
            return torch.tensor(self._completions[n].logprobs)
        return torch.full((self.lengths[n],), torch.nan)

    def _by_row(self, micro: Sequence[int], values_BT: Tensor) -> dict[int, Tensor]:
        """Each row's values, without what lies beyond its end."""
        return {n: row_T[: self.lengths[n]] for n, row_T in zip(micro, values_BT, strict=True)}

    def _nothing(self) -> Tensor:
        """A loss of weight zero on one token: the others wait for this rank's gradients."""
        completion = next(iter(self._completions.values()))
        shortest = replace(completion, token_ids=completion.token_ids[:1])
        return 0.0 * self.module.policy.score([shortest]).logprobs_BT.sum()

    def _no_sync(self, *, last: bool) -> AbstractContextManager[Any]:
        if last or self.ranks.world_size == 1:
            return nullcontext()
        strategy: Any = self.module.trainer.strategy
        return strategy.block_backward_sync()  # type: ignore[no-any-return]


def _count_step(module: GRPOModule) -> None:
    """Step optimiser and schedule; without gradients this changes no weight but counts."""
    optimizer = module.optimizers()
    optimizer.step()  # type: ignore[union-attr]
    optimizer.zero_grad(set_to_none=True)  # type: ignore[union-attr]
    module.lr_schedulers().step()  # type: ignore[union-attr]


def _padded(micro: Sequence[int], rows: Mapping[int, Tensor], like_BT: Tensor) -> Tensor:
    """Ragged rows as a tensor of the shape of `like_BT`, zeros after each row's end."""
    out_BT = torch.zeros_like(like_BT)
    for row, n in enumerate(micro):
        out_BT[row, : len(rows[n])] = rows[n]
    return out_BT
