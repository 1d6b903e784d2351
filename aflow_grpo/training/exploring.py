"""Workflows of the untrained policy executed before training begins, all kinds alike.

While a policy learns to write what runs, most of what runs is short, and group-relative advantages
make it shorter: what longer workflows are worth is hardly ever seen. So the policy first writes a
few thousand workflows, which costs nothing but its own time; those that are valid are sorted by
their structure, and every structure is executed on as many training problems. An outcome model then
knows what each is worth, and the best may be shown to the policy in its own words
(`demonstrations`). The executions are paid for, counted and kept in the journal like any other. Not
here: the model (`outcome_use`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from aflow_grpo.data.apportion import apportion
from aflow_grpo.execution import inspect_completion
from aflow_grpo.outcomes.structure import structure_of
from aflow_grpo.policy.policy import Policy
from aflow_grpo.records import DOMAINS, Completion, Domain, Problem, Rollout
from aflow_grpo.rollout import RolloutRequest, rollout_seed
from aflow_grpo.seeds import derive_seed
from aflow_grpo.training.collect import rollout_callback_of, run_and_verb
from aflow_grpo.training.known_workflows import as_written_for, execute, local
from aflow_grpo.training.ranks import Ranks
from aflow_grpo.training.shares import gather_rollouts, own_share

if TYPE_CHECKING:
    from aflow_grpo.training.module import GRPOModule

__all__ = ["explore"]

_AT_ONCE = 64
_KINDS_EACH = 4
"""Structures that are executed on one problem: several on the same one tell more."""


def explore(module: GRPOModule, samples: int, executions: int) -> list[Rollout]:
    """Write `samples` workflows, execute the valid ones' structures; all ranks get all rollouts.

    Args:
        module: Its policy as it is, its seed, its trainer.
        samples: Workflows to write, over all ranks.
        executions: Pairs of a structure and a training problem to execute; each domain gets them in
            its share of the training problems, and within it the structures take turns.
    """
    ranks = Ranks.of(module.trainer)
    with ranks.together():  # nothing is gathered inside: a rank that failed would not
        rollout_callback_of(module.trainer).join_run(*run_and_verb(module.trainer))
        problems = _shuffled(module)
        share = own_share(range(samples), ranks)
        mine = [problems[n % len(problems)] for n in share.items]
        kinds = _kinds(module, local(module.policy), mine, share.first)
    found: dict[Domain, dict[str, Completion]] = {domain: {} for domain in DOMAINS}
    for theirs in ranks.gather(kinds):
        for domain, by_key in theirs.items():
            found[domain] = {**by_key, **found[domain]}
    with ranks.together():
        requests = own_share(_pairs(module, found, problems, executions), ranks).items
        executed: list[Rollout] = []
        for first in range(0, len(requests), _AT_ONCE):  # a batch has one deadline
            few = requests[first : first + _AT_ONCE]
            executed += execute(module, [replace(r, group=first + n) for n, r in enumerate(few)])
    return gather_rollouts(executed, ranks)


def _shuffled(module: GRPOModule) -> list[Problem]:
    data = module.trainer.datamodule  # type: ignore[attr-defined]
    trained = [p for p in data.problems("train") if data.trains(p.domain)]
    return sorted(trained, key=lambda p: derive_seed(module.seed, "explore", p.id))


def _kinds(
    module: GRPOModule, policy: Policy, problems: Sequence[Problem], first: int
) -> dict[Domain, dict[str, Completion]]:
    """Domain -> structure -> the first valid workflow of it that the policy wrote."""
    found: dict[Domain, dict[str, Completion]] = {domain: {} for domain in DOMAINS}
    policy.eval()
    for start in range(0, len(problems), _AT_ONCE):
        asked = problems[start : start + _AT_ONCE]
        seeds = [
            rollout_seed(module.seed, "explore", 0, problem, first + start + n)
            for n, problem in enumerate(asked)
        ]
        written = policy.write([p.visible for p in asked], seeds, greedy=False)
        for problem, completion in zip(asked, written, strict=True):
            checked = inspect_completion(completion, problem.visible, policy.operators)
            if checked.direct:  # what was repaired would run, and be no row of the model
                key = structure_of(checked.source, policy.operators).key
                found[problem.domain].setdefault(key, completion)
    return found


def _pairs(
    module: GRPOModule,
    found: dict[Domain, dict[str, Completion]],
    problems: Sequence[Problem],
    executions: int,
) -> list[RolloutRequest]:
    """What is executed, the same on all ranks."""
    policy = local(module.policy)
    by_domain = {d: [p for p in problems if p.domain == d] if found[d] else [] for d in DOMAINS}
    requests: list[RolloutRequest] = []
    counts = [len(by_domain[domain]) for domain in DOMAINS]
    shares = apportion(executions, counts) if any(counts) else [0] * len(DOMAINS)
    for domain, share in zip(DOMAINS, shares, strict=True):
        # Not by the alphabet: with fewer executions than kinds only some get their turn.
        order = sorted(
            found[domain], key=lambda k: (derive_seed(module.seed, "explore/kind", k), k)
        )
        kinds = [found[domain][key] for key in order]
        known = by_domain[domain]
        for turn in range(share):
            problem = known[turn // _KINDS_EACH % len(known)]
            completion = as_written_for(policy, problem, kinds[turn % len(kinds)].token_ids)
            seed = rollout_seed(module.seed, "explore/run", 0, problem, turn)
            requests.append(RolloutRequest(problem, completion, seed, len(requests), 0))
    return requests
