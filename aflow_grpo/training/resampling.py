"""Groups without a signal, replaced by groups of other problems (DAPO, arXiv 2503.14476, 3.2).

When all rewards of a group are equal, nothing can be learned from it. With
`model.grpo.loss.zero_variance: resample` its place is taken by a group of another problem of the
same domain, round after round, until every group has a signal, or
`model.grpo.loss.resample_limit` rounds have been made, or the domain has no other problem left.
Everything drawn is paid for, counted and kept; only the last group of each place is trained on.

The problem for a place follows from (seed, iteration, place, round), and no two places of a batch
are ever given the same one, on whatever rank they are. Not here: what a signal is (`grpo`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from aflow_grpo.data.dice import Dice
from aflow_grpo.grpo.advantages import silent_groups
from aflow_grpo.records import Problem, Rollout
from aflow_grpo.training.collect import Collected, Draw, finish, start
from aflow_grpo.training.ranks import Ranks

if TYPE_CHECKING:
    from aflow_grpo.training.module import GRPOModule

__all__ = ["resample", "substitutes"]


def resample(module: GRPOModule, collected: Collected, draw: Draw) -> Collected:
    """`collected`, its groups without a signal replaced as the settings say.

    Args:
        module: Whose policy, in eval mode, writes for the other problems.
        collected: This rank's rollouts.
        draw: Of this iteration.
    """
    objective = module.objective
    if objective.zero_variance != "resample":
        return collected
    trainer = module.trainer
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    batch_P = data.train_batch(draw.step, all_ranks=True)
    groups: dict[int, list[Rollout]] = {}
    for rollout in collected.rollouts_B:
        groups.setdefault(rollout.group, []).append(rollout)
    first = Ranks.of(trainer).rank * len(groups)
    replaced: list[Rollout] = []
    sample_s, wait_s = collected.sample_s, collected.wait_s
    for turn in range(objective.resample_limit):
        others = substitutes(data.problems("train"), batch_P, module.seed, draw.step, turn)
        fresh = {
            group: problem
            for group in _silent(groups)
            if (problem := others[first + group]) is not None
        }
        if not fresh:
            break
        started = start(
            module.policy,
            trainer,
            list(fresh.values()),
            draw,
            policy_version=module.iteration,
            groups_P=list(fresh),
        )
        drawn = finish(started, trainer)
        sample_s, wait_s = sample_s + drawn.sample_s, wait_s + drawn.wait_s
        for group in fresh:
            replaced += groups[group]
            groups[group] = [r for r in drawn.rollouts_B if r.group == group]
    kept = [rollout for group in sorted(groups) for rollout in groups[group]]
    return replace(
        collected, rollouts_B=kept, replaced_B=replaced, sample_s=sample_s, wait_s=wait_s
    )


def substitutes(
    pool: Sequence[Problem], batch_P: Sequence[Problem], seed: int, iteration: int, turn: int
) -> list[Problem | None]:
    """For each place of the batch another problem of its domain; None where none is left.

    Args:
        pool: All training problems.
        batch_P: The batch of all ranks.
        seed: The run's.
        iteration: Whose batch it is.
        turn: Which round of substitutes is wanted, from 0; no two rounds share a problem.
    """
    taken = {problem.id for problem in batch_P}
    orders: dict[str, list[Problem]] = {}
    found: list[Problem | None] = []
    places = dict.fromkeys(sorted({p.domain for p in batch_P}), 0)
    for domain in places:
        others = [p for p in pool if p.domain == domain and p.id not in taken]
        orders[domain] = Dice("resample", seed, iteration, domain).shuffled(others)
    in_batch = {domain: sum(p.domain == domain for p in batch_P) for domain in places}
    for problem in batch_P:
        domain = problem.domain
        index = turn * in_batch[domain] + places[domain]
        places[domain] += 1
        found.append(orders[domain][index] if index < len(orders[domain]) else None)
    return found


def _silent(groups: dict[int, list[Rollout]]) -> list[int]:
    """The groups from which nothing can be learned; one that was masked as a whole is not one."""
    rollouts = [rollout for members in groups.values() for rollout in members]
    silent_B = silent_groups(
        torch.tensor([r.reward.total for r in rollouts], dtype=torch.float64),
        torch.tensor([r.group for r in rollouts]),
        torch.tensor([not r.masked for r in rollouts], dtype=torch.bool),
    )
    return sorted(
        {r.group for r, silent in zip(rollouts, silent_B.tolist(), strict=True) if silent}
    )
