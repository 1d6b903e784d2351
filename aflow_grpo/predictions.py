"""One answered problem as plain JSON: what `infer`, `predict` and reports write of a rollout.

Holds what a person or a program asks for: the workflow, which layer and tier answered, every
operator call with its tokens and USD, the answer, and, where a gold answer is known, score and
reward. Not here: the policy's tokens and the executor's texts, which `stored` and the journal keep.
"""

from __future__ import annotations

from typing import Any, Literal

from aflow_grpo.records import OperatorCall, Problem, Rollout, WorkflowSource, to_dict

__all__ = ["has_gold", "prediction_row"]


def has_gold(problem: Problem) -> bool:
    """Whether there is something to score an answer by: a gold answer, for code hidden tests."""
    return bool(problem.hidden_tests if problem.domain == "code" else problem.answer.strip())


def prediction_row(rollout: Rollout, *, gold_known: bool) -> dict[str, Any]:
    """A rollout as an object of plain JSON types.

    Args:
        rollout: What became of one problem.
        gold_known: Whether its problem has a gold answer (or hidden tests) to score against.
            Without one `score` and `reward` are null; so they are where nobody was to blame
            (status `unavailable`), for then the policy's workflow was not judged.

    Returns:
        Keys in the order in which a person reads them. ``answer`` is the user's: the fallback's
        where ``answered_by`` says so. ``tiers`` are those that answered, in the order in which each
        first did. ``cost_usd`` is the list cost of everything: writing at an endpoint, the
        policy's own workflow, the fallback; ``usage`` counts the same calls. ``score`` and
        ``reward`` are of the policy's own workflow alone.
    """
    problem, execution = rollout.problem, rollout.execution
    answered_by = execution.answered_by
    usage = rollout.completion.usage + execution.usage + execution.fallback_usage
    judged = gold_known and not rollout.masked
    calls = [*execution.calls, *execution.fallback_calls]
    return {
        "id": problem.id,
        "dataset": problem.dataset,
        "domain": problem.domain,
        "question": problem.question,
        "member": rollout.member,
        "workflow": _workflow(execution.source),
        "status": execution.status.value,
        "direct": execution.direct,
        "answered_by": answered_by,
        "tiers": list(dict.fromkeys(tier for call in calls for tier in call.tiers)),
        "answer": execution.fallback_answer if answered_by == "fallback" else execution.answer,
        "operators": [
            *(_operator(call, "own") for call in execution.calls),
            *(_operator(call, "fallback") for call in execution.fallback_calls),
        ],
        "usage": to_dict(usage),
        "cost_usd": usage.cost_usd,
        "seconds": execution.seconds,
        "findings": [to_dict(finding) for finding in execution.findings],
        "score": to_dict(rollout.score) if judged else None,
        "reward": to_dict(rollout.reward) if judged else None,
        "fault_kind": None if execution.fault_kind is None else execution.fault_kind.value,
        "message": " ".join(filter(None, (execution.message, execution.fallback_message))),
    }


def _workflow(source: WorkflowSource | None) -> dict[str, Any] | None:
    if source is None:
        return None
    return {
        "graph_code": source.graph_code,
        "prompts": dict(source.prompts),
        "hybrid": source.hybrid,
        "repaired": source.repaired,
    }


def _operator(call: OperatorCall, layer: Literal["own", "fallback"]) -> dict[str, Any]:
    return {
        "operator": call.operator,
        "layer": layer,
        "calls": call.usage.calls,
        "prompt_tokens": call.usage.prompt_tokens,
        "completion_tokens": call.usage.completion_tokens,
        "cost_usd": call.usage.cost_usd,
        "tiers": list(call.tiers),
        "seconds": call.seconds,
        "message": call.message,
    }
