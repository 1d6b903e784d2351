"""The executed workflows that an outcome model is fitted on, kept over a run.

Only what ran as written counts: a workflow that failed earns what the reward says, without a model.
Rollouts of the reward's stage `structure` had no answer and are not kept. In a checkpoint, problems
and texts are there once each, and the rows are columns. Not here: the model (`outcome_use`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

from aflow_grpo.outcomes.model import OutcomeRow, row_of
from aflow_grpo.outcomes.structure import UNREADABLE, Structure, structure_of
from aflow_grpo.records import Rollout, WorkflowSource
from aflow_grpo.rewards import is_rehearsed
from aflow_grpo.workflow.contract import OperatorSet

__all__ = ["OutcomeMemory", "executed_as_written"]


def executed_as_written(rollout: Rollout) -> bool:
    """Whether a rollout says what its workflow is worth."""
    return rollout.execution.direct and not rollout.masked and not is_rehearsed(rollout.score)


class _Text(NamedTuple):
    """One text of the policy's."""

    source: WorkflowSource
    token_ids: tuple[int, ...]
    """The end token included; empty where it cannot be shown."""


class _Seen(NamedTuple):
    """One executed workflow."""

    row: OutcomeRow
    text: _Text


class Candidate(NamedTuple):
    """A structure that may be shown."""

    structure: Structure
    token_ids: tuple[int, ...]
    """Of its most frequent text, the end token included."""
    runs: int
    """Of all its texts."""


class OutcomeMemory:
    """Executed workflows, oldest first."""

    def __init__(self) -> None:
        self._seen: list[_Seen] = []

    def __len__(self) -> int:
        return len(self._seen)

    def copy(self) -> OutcomeMemory:
        """Another memory of the same rows."""
        other = OutcomeMemory()
        other._seen = list(self._seen)
        return other

    def add(self, rollouts: Sequence[Rollout], most: int, operators: OperatorSet) -> None:
        """Take in what was executed as written; of more than `most` rows the oldest go."""
        for r in rollouts:
            if not executed_as_written(r) or r.execution.source is None:
                continue
            completion = r.completion
            whole = completion.finished and bool(completion.token_ids)
            text = _Text(r.execution.source, completion.token_ids if whole else ())
            row = row_of(r, operators)
            if row.structure != UNREADABLE:  # unlike texts, which are no one workflow
                self._seen.append(_Seen(row, text))
        del self._seen[: max(0, len(self._seen) - most)]

    def rows(self) -> list[OutcomeRow]:
        """All of them, for a fit."""
        return [seen.row for seen in self._seen]

    def candidates(self, domain: str, min_runs: int) -> list[Candidate]:
        """Structures that ran at least so often, with their most frequent text.

        Of equally frequent texts the one that was seen first; structures in the order of their
        keys.
        """
        runs: Counter[str] = Counter()
        texts: dict[str, Counter[tuple[int, ...]]] = {}
        structures: dict[str, Structure] = {}
        for row, text in self._seen:
            if row.domain == domain:
                key = row.structure.key
                runs[key] += 1
                structures[key] = row.structure
                if text.token_ids:
                    texts.setdefault(key, Counter())[text.token_ids] += 1
        return [
            Candidate(structures[key], texts[key].most_common(1)[0][0], runs[key])
            for key in sorted(texts)
            if runs[key] >= min_runs
        ]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        problems = {(s.row.domain, s.row.problem, s.row.text): None for s in self._seen}
        texts = {_text_key(s.text): s.text for s in self._seen}
        problem_at = {problem: n for n, problem in enumerate(problems)}
        text_at = {key: n for n, key in enumerate(texts)}
        return {
            "problems": [list(problem) for problem in problems],
            "texts": [
                [text.source.graph_code, dict(text.source.prompts), list(text.token_ids)]
                for text in texts.values()
            ],
            "places": [
                [problem_at[s.row.domain, s.row.problem, s.row.text], text_at[_text_key(s.text)]]
                for s in self._seen
            ],
            "figures": [[s.row.reward, s.row.correct, s.row.cost_usd] for s in self._seen],
        }

    def load_state_dict(self, state: Mapping[str, Any], operators: OperatorSet) -> Self:
        """Go on from a checkpoint."""
        self._seen = []
        if not state:
            return self
        texts = [
            _Text(WorkflowSource(code, dict(prompts)), tuple(token_ids))
            for code, prompts, token_ids in state["texts"]
        ]
        rows = zip(state["places"], state["figures"], strict=True)
        for (problem, text), (reward, correct, cost_usd) in rows:
            domain, name, question = state["problems"][problem]
            structure = structure_of(texts[text].source, operators)
            row = OutcomeRow(domain, name, question, structure, reward, correct, cost_usd)
            self._seen.append(_Seen(row, texts[text]))
        return self


def _text_key(text: _Text) -> tuple[str, tuple[tuple[str, str], ...], tuple[int, ...]]:
    return text.source.graph_code, tuple(sorted(text.source.prompts.items())), text.token_ids
