"""What a value is on average for each structure, shrunk towards like structures.

For what depends on the workflow far more than on the problem: what a right answer pays, what a
wrong one does, USD. The same mixed model as `process`, without its problems.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aflow_grpo.outcomes.sides import StructureSide
from aflow_grpo.outcomes.structure import Structure
from aflow_grpo.outcomes.variances import Floats, aggregate, fit_variances, solve

__all__ = ["StructureMeans"]

_MOST_STRUCTURES = 200
"""The variances are found on those that were seen most often."""


class StructureMeans:
    """Shrunken means.

    Args:
        structures_S: Of different keys.
        structures_N: Of each value, (N,) int; may be empty.
        values_N: (N,) finite.
        otherwise: What is expected where nothing was seen.
    """

    def __init__(
        self,
        structures_S: Sequence[Structure],
        structures_N: np.ndarray,
        values_N: Floats,
        otherwise: float,
    ) -> None:
        self._centre = float(values_N.mean()) if len(values_N) else otherwise
        spread = float(values_N.std()) if len(values_N) else 0.0
        self._spread = spread
        if spread <= 1e-9 * max(1.0, abs(self._centre)):
            self._spread = 0.0
            return
        seen_S, index_N = np.unique(structures_N, return_inverse=True)
        self._seen = [structures_S[s] for s in seen_S]
        self._side = StructureSide(self._seen)
        scaled_N = (values_N - self._centre) / spread
        self._variances_C = self._searched(index_N, scaled_N)
        cells = aggregate(np.zeros_like(index_N), index_N, scaled_N)
        self._alpha_S = solve(self._kernel(self._seen), float(self._variances_C[-1]), cells)

    def predict(self, structures_T: Sequence[Structure]) -> Floats:
        """(T,)."""
        if self._spread == 0.0:
            return np.full(len(structures_T), self._centre)
        expected_T: Floats = self._kernel(structures_T) @ self._alpha_S
        return self._centre + self._spread * expected_T

    def _kernel(self, structures_T: Sequence[Structure]) -> Floats:
        exact, features = self._variances_C[:2]
        side = self._side
        total_TS: Floats = 1.0 + exact * side.exact(structures_T)
        total_TS += features * side.features(structures_T)
        return total_TS

    def _searched(self, index_N: np.ndarray, scaled_N: Floats) -> Floats:
        counts_S = np.bincount(index_N)
        often_S = np.argsort(-counts_S, kind="stable")[:_MOST_STRUCTURES]
        chosen_N = np.isin(index_N, often_S)
        kept_S, some_N = np.unique(index_N[chosen_N], return_inverse=True)
        cells = aggregate(np.zeros_like(some_N), some_N, scaled_N[chosen_N])
        structures = [self._seen[s] for s in kept_S]
        at = np.ix_(kept_S, kept_S)
        side, seen = self._side, self._seen
        assert len(structures) == len(cells.means_M)
        return fit_variances([side.exact(seen)[at], side.features(seen)[at]], cells)
