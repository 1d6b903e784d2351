"""Workflows that have been written and not yet trained on: what a checkpoint keeps of them.

Text, token ids, log-probabilities, seeds, problems and the version of the policy that wrote them,
as tensors and plain values, so that `torch.load(weights_only=True)` takes them. Executing them
again needs nothing else; what was paid for is in the journal. Not here: rollouts, which are never
saved in a checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor

from aflow_grpo.errors import ConfigError
from aflow_grpo.records import Completion, Problem, Usage
from aflow_grpo.rollout import RolloutRequest, make_requests

__all__ = ["WrittenBatch"]


@dataclass(frozen=True)
class WrittenBatch:
    """One group of workflows per problem, problem-major: B = P x G."""

    problems_P: Sequence[Problem]
    completions_B: Sequence[Completion]
    seeds_B: Sequence[int]
    """Of their sampling and execution."""
    policy_version: int
    """Updates that the policy had behind it when it wrote them."""

    @property
    def group_size(self) -> int:
        """G."""
        return len(self.seeds_B) // max(1, len(self.problems_P))

    def requests(self, groups_P: Sequence[int]) -> list[RolloutRequest]:
        """What is to be executed; `groups_P` numbers the groups."""
        size = self.group_size
        return [
            request
            for p, (problem, group) in enumerate(zip(self.problems_P, groups_P, strict=True))
            for request in make_requests(
                [problem],
                self.completions_B[p * size : (p + 1) * size],
                self.seeds_B[p * size : (p + 1) * size],
                group_size=size,
                first_group=group,
            )
        ]

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values that `from_state` makes an equal batch of."""
        return {
            "policy_version": self.policy_version,
            "problem_ids": [problem.id for problem in self.problems_P],
            "seeds": list(self.seeds_B),
            "texts": [c.text for c in self.completions_B],
            "prompt_ids": _flat([c.prompt_ids for c in self.completions_B], torch.int64),
            "token_ids": _flat([c.token_ids for c in self.completions_B], torch.int64),
            # Python's floats, so that they come back to the bit.
            "logprobs": _flat([c.logprobs for c in self.completions_B], torch.float64),
            "finished": [c.finished for c in self.completions_B],
            "context_cut": [c.context_cut for c in self.completions_B],
            "usage": [astuple(c.usage) for c in self.completions_B],
            "unavailable": [c.unavailable for c in self.completions_B],
        }

    @classmethod
    def from_states(
        cls, states: Sequence[Mapping[str, Any]], problems_P: Sequence[Problem], first: int
    ) -> WrittenBatch:
        """The groups of `problems_P`, which stand from place `first` on in what was saved.

        Args:
            states: What the ranks saved, by rank; how many there were may differ from now.
            problems_P: The problems that these groups have to be of.
            first: Their place among the groups of all ranks.

        Raises:
            ConfigError: They are groups of other problems.
        """
        ids = [problem_id for state in states for problem_id in state["problem_ids"]]
        wanted = [problem.id for problem in problems_P]
        if ids[first : first + len(wanted)] != wanted:
            raise ConfigError(
                "--ckpt_path: the checkpoint holds workflows that were written one step ahead for "
                "other problems than the data now have in their place. Resume with the settings "
                "of the checkpoint's run."
            )
        every = [completion for state in states for completion in _completions(state)]
        seeds = [int(seed) for state in states for seed in state["seeds"]]
        size = len(seeds) // max(1, len(ids))
        rows = slice(first * size, (first + len(wanted)) * size)
        version = int(states[0]["policy_version"])
        return cls(problems_P, every[rows], seeds[rows], version)


def _completions(state: Mapping[str, Any]) -> list[Completion]:
    columns = zip(
        state["texts"],
        _rows(state["prompt_ids"]),
        _rows(state["token_ids"]),
        _rows(state["logprobs"]),
        state["finished"],
        state["context_cut"],
        [Usage(*values) for values in state["usage"]],
        state["unavailable"],
        strict=True,
    )
    return [Completion(*values) for values in columns]


def _flat(rows: Sequence[Sequence[float]], dtype: torch.dtype) -> dict[str, Tensor]:
    """Ragged rows as one tensor and the rows' lengths: quick to load."""
    return {
        "values": torch.tensor([value for row in rows for value in row], dtype=dtype),
        "lengths": torch.tensor([len(row) for row in rows], dtype=torch.int64),
    }


def _rows(flat: Mapping[str, Tensor]) -> list[tuple[Any, ...]]:
    values = flat["values"].tolist()
    ends = flat["lengths"].cumsum(0).tolist()
    return [tuple(values[a:b]) for a, b in zip([0, *ends], ends, strict=False)]
