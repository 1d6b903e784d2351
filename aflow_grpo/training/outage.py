"""When nobody answers any more, the run ends, instead of going on without learning anything.

Not here: retries, tiers, circuit breakers (`llm`), which have been tried by then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from aflow_grpo.errors import OutageError
from aflow_grpo.records import Rollout

__all__ = ["OutageGuard"]


class OutageGuard:
    """Ends the run when too many of the latest workflows that asked the executor got no answer.

    Args:
        max_unavailable: The share that may be lost, 0 to 1.
        over_workflows: Of so many; before there are that many, nothing is judged.
    """

    def __init__(self, max_unavailable: float, over_workflows: int) -> None:
        self._max = max_unavailable
        self._lost: deque[bool] = deque(maxlen=over_workflows)

    def check(self, rollouts: Sequence[Rollout]) -> None:
        """Look at the rollouts of one draw, in their order.

        Raises:
            OutageError: Too many were masked; the message repeats what the last of them says.
        """
        for rollout in rollouts:
            if not (rollout.masked or rollout.execution.calls):
                continue  # it asked nobody
            self._lost.append(rollout.masked)
            lost = sum(self._lost)
            if len(self._lost) == self._lost.maxlen and lost > self._max * len(self._lost):
                raise OutageError(
                    f"{lost} of the last {len(self._lost)} workflows that asked the executor got "
                    f"no answer, more than llm.max_unavailable={self._max:g} allows. The last "
                    f"says: {rollout.execution.message} Mend the tier, or add one to llm.tiers."
                )
