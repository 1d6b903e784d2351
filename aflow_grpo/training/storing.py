"""From the rollouts of one draw to the journal: which run, part and step they belong to.

Kept with them are the settings that a later `aflow-grpo rescore` needs: reward, scoring, the
sandbox's limits, operators of one's own. Not here: the bytes (`stored`), the tables
(`llm.rollout_store`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aflow_grpo.llm.rollout_store import RolloutBatch, RolloutRow
from aflow_grpo.records import Rollout, to_dict
from aflow_grpo.stored import pack_rollout

__all__ = ["QUICK", "STRUCTURE", "Place", "make_batch", "settings_text"]

QUICK, STRUCTURE = "val/quick", "val/structure"


@dataclass(frozen=True)
class Place:
    """Where rollouts belong."""

    run: str
    """The MLflow run, or the verb where there is none."""
    part: str
    """The draw's split; ``val/quick`` and ``val/structure`` for validations inside `fit`."""
    step: int
    """The step under which their metrics are logged."""


def settings_text(settings: Mapping[str, Any]) -> str:
    """Settings as canonical JSON; settings records become objects."""
    plain = {
        name: to_dict(value) if hasattr(value, "__dataclass_fields__") else value
        for name, value in settings.items()
    }
    return json.dumps(plain, sort_keys=True)


def make_batch(place: Place, rollouts: Sequence[Rollout], settings: str) -> RolloutBatch:
    """The rollouts as the journal takes them."""
    return RolloutBatch(
        place.run, place.part, settings, [_row(rollout, place.step) for rollout in rollouts]
    )


def _row(rollout: Rollout, step: int) -> RolloutRow:
    packed = pack_rollout(rollout)
    # SQLite takes no lone surrogates, and an id comes from a user's file.
    problem_id = rollout.problem.id.encode("utf-8", "backslashreplace").decode()
    return RolloutRow(
        step, rollout.group, problem_id, rollout.member, packed.problem, packed.content
    )
