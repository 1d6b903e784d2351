"""Workflows that somebody else wrote, or the policy itself earlier, join an update.

Where every workflow of a group failed, its rewards say nothing. A workflow that is known to solve
the problem then shows the policy what it has not found: as an auxiliary loss (its negative
log-likelihood), or as one more member of the group, weighed by its importance since the policy did
not draw it. Demonstrations from `library` and `rollouts` are verified: each was executed on this
very problem, as written, and its answer was right. Those that an outcome model chooses are verified
in another sense: this very text ran as written on other problems, and of all that did, the model
expects most of it on a problem that reads like this one.

Demonstrations count in no figure of the policy's, but what they cost counts. Each rank finds those
of its own groups; what is remembered of earlier rollouts is the same on all ranks and part of the
checkpoint. Not here: the update that takes them (`update`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from aflow_grpo.errors import ConfigError
from aflow_grpo.policy.base import BasePolicy
from aflow_grpo.records import Completion, Problem, Rollout
from aflow_grpo.rollout import RolloutRequest, rollout_seed
from aflow_grpo.seeds import derive_seed
from aflow_grpo.training.known_workflows import as_written_for, execute, local, writable
from aflow_grpo.training.outcome_use import Choice, Outlook
from aflow_grpo.training.ranks import Ranks
from aflow_grpo.training.shares import own_share

if TYPE_CHECKING:
    from aflow_grpo.training.module import GRPOModule

__all__ = ["Demonstration", "DemonstrationSettings", "Demonstrations", "Shown", "imitation_loss"]


_FAR_OFF = 1 << 20
"""No run has so many iterations."""


@dataclass(frozen=True)
class DemonstrationSettings:
    """Verified workflows beside the policy's own."""

    source: Literal["library", "rollouts", "outcome_model"] = "rollouts"
    """``library``: one of the domain's fixed workflows, executed on the problem. ``rollouts``: the
    best workflow that the policy itself wrote for the problem in an earlier iteration.
    ``outcome_model``: of the workflows that the policy itself wrote and that ran, the one that
    `model.grpo.outcome_model` expects most of on this problem, known by its text alone."""
    use: Literal["auxiliary", "member"] = "auxiliary"
    """``auxiliary``: a loss term, the mean negative log-likelihood of the demonstrations' tokens.
    ``member``: one more member of its group, with its reward; its tokens are weighed by the
    truncated ratio of the policy's probability to that of whoever drew them, which is 1 for a text
    that nobody drew (arXiv 2504.14945)."""
    weight: float = 0.1
    """Of the loss term, or of the member's advantage."""
    only_unsolved: bool | None = None
    """Only where none of the group's own workflows found the right answer. null: so, but not with
    ``outcome_model``, which is to teach the better of several that work."""
    min_runs: int = 5
    """A workflow has run at least so often before it is shown (``outcome_model``)."""
    tolerance: float = 0.0
    """Of the workflows that are expected to earn within so many points of the best, the one that
    ran most often is shown, in powers of two (8 to 15 runs are the same): what is taught changes
    when something is better, not when something was lucky (``outcome_model``, without a
    temperature)."""
    further_problems: int = 0
    """So many other training problems get one in each iteration, too: they are known by their text,
    and nothing is executed on them (``outcome_model``, ``auxiliary``)."""
    temperature: float = 0.0
    """0 shows the workflow of the highest expected reward, or the near equal that `tolerance`
    prefers; above, one is drawn with a probability proportional to exp(expected reward /
    temperature), in points (``outcome_model``)."""
    remembered_problems: int = 10_000
    """Of so many problems, those seen last, the best workflow is remembered (``rollouts``)."""

    def __post_init__(self) -> None:
        key = "model.grpo.demonstrations"
        if not 0 < self.weight < float("inf"):
            raise ConfigError(
                f"{key}.weight={self.weight:g}: expected more than 0; demonstrations: null has "
                "none."
            )
        if self.remembered_problems < 1:
            raise ConfigError(
                f"{key}.remembered_problems={self.remembered_problems}: expected at least 1."
            )
        if self.min_runs < 1:
            raise ConfigError(f"{key}.min_runs={self.min_runs}: expected at least 1.")
        if not 0 <= self.tolerance < float("inf"):
            raise ConfigError(f"{key}.tolerance={self.tolerance:g}: expected 0 or more, in points.")
        if self.further_problems < 0:
            raise ConfigError(
                f"{key}.further_problems={self.further_problems}: expected 0 or more."
            )
        if self.further_problems and (self.source, self.use) != ("outcome_model", "auxiliary"):
            raise ConfigError(
                f"{key}.further_problems={self.further_problems} with source={self.source} and "
                f"use={self.use}: expected source: outcome_model and use: auxiliary, since nothing "
                "is executed on these problems."
            )
        if not 0 <= self.temperature < float("inf"):
            raise ConfigError(
                f"{key}.temperature={self.temperature:g}: expected 0 or more, in points."
            )

    @property
    def solved_too(self) -> bool:
        """Whether groups that found the right answer get one as well."""
        if self.only_unsolved is None:
            return self.source == "outcome_model"
        return not self.only_unsolved


@dataclass(frozen=True)
class Demonstration:
    """One workflow to learn from, for one group of a batch."""

    completion: Completion
    """In the policy's tokens, the end token included. Its log-probabilities are those of whoever
    drew it, in nats: 0 where nobody did."""
    group: int
    """As in the batch's rollouts."""
    reward: float
    """What it earned, or is expected to, in points."""
    weight: float
    use: Literal["auxiliary", "member"]


class Shown(NamedTuple):
    """The demonstrations of a batch."""

    demonstrations: list[Demonstration]
    """Of this rank's groups, at most one each, in their order."""
    executed: list[Rollout]
    """What was executed to verify them: paid for, and not the policy's."""


class _Kept(NamedTuple):
    """The best workflow for a problem so far."""

    token_ids: Tensor
    """(T,) int32."""
    logprobs: Tensor
    """(T,) float64, in nats."""
    reward: float


def _kept(token_ids: Sequence[int], logprobs: Sequence[float], reward: float) -> _Kept:
    return _Kept(
        torch.tensor(token_ids, dtype=torch.int32),
        torch.tensor(logprobs, dtype=torch.float64),
        reward,
    )


class Demonstrations:
    """Finds the demonstrations of each batch.

    Args:
        settings: Which, and what they are for; None finds none.
    """

    def __init__(self, settings: DemonstrationSettings | None) -> None:
        self._settings = settings
        self._kept: dict[str, _Kept] = {}

    def for_batch(
        self, module: GRPOModule, rollouts_B: Sequence[Rollout], outlook: Outlook | None = None
    ) -> Shown:
        """Demonstrations for groups of executed rollouts; those of the library are executed now.

        Args:
            module: Its policy, trainer, seed and iteration, which has not been counted yet.
            rollouts_B: This rank's, whole groups.
            outlook: What the outcome model says; None: it says nothing yet.

        Raises:
            ConfigError: The policy has no tokens of its own.
        """
        settings = self._settings
        if settings is None:
            return Shown([], [])
        problems = {
            r.group: r.problem
            for r in rollouts_B
            if not r.masked and (settings.solved_too or not _solves(rollouts_B, r.group))
        }
        executed: list[Rollout] = []
        if settings.source == "library":
            executed = _executed(module, problems)
            found = {r.group: (r.completion, r.reward.total) for r in executed if _verified(r)}
        elif settings.source == "outcome_model":
            problems |= _further(module, settings.further_problems, len(rollouts_B))
            found = _chosen(module, problems, settings, outlook)
        else:
            found = {
                group: (
                    as_written_for(
                        local(module.policy),
                        problem,
                        kept.token_ids.tolist(),
                        kept.logprobs.tolist(),
                    ),
                    kept.reward,
                )
                for group, problem in problems.items()
                if (kept := self._kept.get(problem.id)) is not None
            }
        demonstrations = [
            Demonstration(completion, group, reward, settings.weight, settings.use)
            for group, (completion, reward) in sorted(found.items())
        ]
        return Shown(demonstrations, executed)

    def remember(self, rollouts: Sequence[Rollout]) -> None:
        """Take note of an iteration's rollouts, of all ranks, once it is done."""
        settings = self._settings
        if settings is None or settings.source != "rollouts":
            return
        for r in rollouts:
            kept = self._kept.pop(r.problem.id, None)
            if _verified(r) and (kept is None or r.reward.total > kept.reward):
                kept = _kept(r.completion.token_ids, r.completion.logprobs, r.reward.total)
            if kept is not None:
                self._kept[r.problem.id] = kept
        for seen_long_ago in list(self._kept)[: -settings.remembered_problems]:
            del self._kept[seen_long_ago]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            problem: [kept.token_ids.tolist(), kept.logprobs.tolist(), kept.reward]
            for problem, kept in self._kept.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; without demonstrations its state is empty."""
        self._kept = {problem: _kept(*kept) for problem, kept in state.items()}


def imitation_loss(
    policy: BasePolicy, demonstrations: Sequence[Demonstration], *, tokens: int
) -> Tensor:
    """The auxiliary term: weight times negative log-likelihood, in nats per token.

    Args:
        policy: In train mode.
        demonstrations: One micro-batch of those with ``use="auxiliary"``.
        tokens: Of all demonstrations of the optimiser step, over all its micro-batches and ranks,
            so that the terms add up to the mean.

    Returns:
        A scalar with gradient.
    """
    scored = policy.score([d.completion for d in demonstrations])
    weights_B = torch.tensor([d.weight for d in demonstrations]).to(scored.logprobs_BT)
    return -(weights_B * scored.logprobs_BT.sum(1)).sum() / max(1, tokens)


def _verified(rollout: Rollout) -> bool:
    completion = rollout.completion
    whole = completion.finished and bool(completion.token_ids)
    return rollout.execution.direct and rollout.score.correct and whole


def _solves(rollouts_B: Sequence[Rollout], group: int) -> bool:
    return any(r.score.correct for r in rollouts_B if r.group == group)


def _chosen(
    module: GRPOModule,
    problems: Mapping[int, Problem],
    settings: DemonstrationSettings,
    outlook: Outlook | None,
) -> dict[int, tuple[Completion, float]]:
    """For each group the workflow that the outcome model chooses, and what it expects of it.

    Nobody drew it for this problem, so its log-probabilities are 0.
    """
    found = {}
    for group, problem in problems.items() if outlook is not None else ():
        assert outlook is not None
        choices = outlook.choices(problem.domain, problem.question, settings.min_runs)
        if choices:
            seed = derive_seed(module.seed, "outcome_model", module.iteration, problem.id)
            one = choices[_shown(choices, settings, seed)]
            completion = as_written_for(local(module.policy), problem, one.token_ids)
            found[group] = (completion, one.expected)
    return found


def _further(module: GRPOModule, count: int, first: int) -> dict[int, Problem]:
    """This rank's share of further training problems, drawn by (seed, iteration).

    Domains come in the shares of `data.mix`, as in a batch.
    """
    if not count:
        return {}
    data: Any = module.trainer.datamodule  # type: ignore[attr-defined]
    drawn: list[Problem] = []
    ahead = derive_seed(module.seed, "further", module.iteration)
    while len(drawn) < count:  # batches of iterations far off, in an order of their own
        drawn += data.train_batch(_FAR_OFF + ahead % _FAR_OFF + len(drawn), all_ranks=True)
    share = own_share(drawn[:count], Ranks.of(module.trainer))
    return {first + share.first + n: problem for n, problem in enumerate(share.items)}


def _shown(choices: Sequence[Choice], settings: DemonstrationSettings, seed: int) -> int:
    """The place of one of the choices, which are sorted, best first."""
    temperature = settings.temperature
    if temperature == 0:
        least = choices[0].expected - settings.tolerance
        near = [n for n, choice in enumerate(choices) if choice.expected >= least]
        # In powers of two: 8 to 15 runs are the same, twice as often is always more.
        return max(near, key=lambda n: (choices[n].runs.bit_length(), -n))
    expected_T = torch.tensor([choice.expected for choice in choices], dtype=torch.float64)
    weights_T = torch.softmax(expected_T / temperature, 0)
    generator = torch.Generator().manual_seed(seed)
    return int(torch.multinomial(weights_T, 1, generator=generator))


def _executed(module: GRPOModule, problems: Mapping[int, Problem]) -> list[Rollout]:
    """A fixed workflow for each group, drawn by (seed, iteration, problem) and executed."""
    requests = []
    for group, problem in problems.items():
        texts = writable(local(module.policy), problem)
        if texts:
            drawn = derive_seed(module.seed, "demonstration", module.iteration, problem.id)
            seed = rollout_seed(module.seed, "demonstration", module.iteration, problem, 0)
            chosen = texts[drawn % len(texts)]
            requests.append(RolloutRequest(problem, chosen, seed, group, module.grpo.group_size))
    return execute(module, requests)
