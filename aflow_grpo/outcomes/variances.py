"""Variance components by marginal likelihood, and the best linear unbiased prediction from them.

Cells i = 1 … M hold the mean y_i of n_i observations, and the observations are

    y_ij = Σ_c f_c(i) + e_ij        f_c ~ N(0, v_c K_c),  e ~ N(0, v_e)

With V = Σ_c v_c K_c + v_e diag(1 / n) the means and the squares within cells, W over N - M degrees
of freedom, have together, up to a constant,

    -2 log L = y'V⁻¹y + log|V| + (N - M) log v_e + W / v_e

which L-BFGS minimises over log variances with the exact gradient. Each v_c has an exponential
prior, so that what the data do not ask for shrinks to 0. One thread of linear algebra: the same
data give the same bits.

Not here: which kernels there are (`process`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Cells", "Floats", "aggregate", "fit_variances", "one_thread", "solve"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

_RATE = 2.0
"""Of the exponential prior on each component, in units of the observations' variance."""
_FIRST, _FIRST_NOISE = 0.1, 0.5
_LEAST, _MOST = 1e-6, 1e3
_STEPS = 30
"""Most steps of the optimiser; from a good start it needs a few."""
_JITTER = 1e-9


@dataclass(frozen=True)
class Cells:
    """Observations of equal (problem, structure), put together."""

    problems_M: Ints
    structures_M: Ints
    counts_M: Floats
    means_M: Floats
    within: float
    """Sum of squares about the cells' means."""
    cell_N: Ints
    """Each observation's cell."""

    @property
    def spare(self) -> float:
        """Degrees of freedom within cells, N - M."""
        return float(len(self.cell_N) - len(self.means_M))


def aggregate(problems_N: Ints, structures_N: Ints, values_N: Floats) -> Cells:
    """Cells in ascending order of problem, then structure."""
    width = int(structures_N.max()) + 1
    codes_M, cell_N = np.unique(problems_N * width + structures_N, return_inverse=True)
    counts_M = np.bincount(cell_N).astype(np.float64)
    means_M = np.bincount(cell_N, weights=values_N) / counts_M
    within = float(((values_N - means_M[cell_N]) ** 2).sum())
    return Cells(codes_M // width, codes_M % width, counts_M, means_M, within, cell_N)


@contextmanager
def one_thread() -> Iterator[None]:
    """Linear algebra on one thread, whose sums have one order."""
    import scipy.linalg  # its library of linear algebra is limited only if it is loaded by then
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    assert scipy.linalg

    with threadpool_limits(limits=1, user_api="blas"):
        yield


def fit_variances(
    kernels_CMM: Sequence[Floats], cells: Cells, start_C: Floats | None = None
) -> Floats:
    """The components' variances and, last, that of the noise, (C + 1,).

    Args:
        kernels_CMM: Positive semidefinite, each of mean diagonal about 1, or all zeros: a component
            that is nowhere, of variance 0.
        cells: Their means are about 0 and of variance about 1.
        start_C: Where to begin, (C + 1,); None is a good place without any knowledge.
    """
    from scipy.optimize import minimize

    there = [c for c, kernel_MM in enumerate(kernels_CMM) if kernel_MM.any()]
    if start_C is None:
        start_C = np.full(len(kernels_CMM) + 1, _FIRST)
        start_C[-1] = _FIRST_NOISE
    start_C = np.clip(start_C, 1e-3, 10.0)[[*there, -1]]  # from 0 nothing would come back
    likelihood = _Likelihood([kernels_CMM[c] for c in there], cells)
    bounds = [(np.log(_LEAST), np.log(_MOST))] * len(start_C)
    found = minimize(
        likelihood, np.log(start_C), jac=True, method="L-BFGS-B", bounds=bounds,
        options={"maxiter": _STEPS, "maxfun": 2 * _STEPS, "ftol": 1e-5},
    )  # fmt: skip
    variances_C = np.zeros(len(kernels_CMM) + 1)
    variances_C[[*there, -1]] = np.exp(found.x)
    return variances_C


class _Likelihood:
    """Minus the logarithm of the posterior of log variances, and its gradient."""

    def __init__(self, kernels_CMM: Sequence[Floats], cells: Cells) -> None:
        size = len(cells.means_M)
        self._flat_CK = np.stack([kernel_MM.ravel() for kernel_MM in kernels_CMM] or
                                 [np.zeros(size * size)])  # fmt: skip
        self._components = len(kernels_CMM)
        self._cells = cells

    def __call__(self, logs_C: Floats) -> tuple[float, Floats]:
        cells, count = self._cells, self._components
        variances_C, noise = np.exp(logs_C[:-1]), float(np.exp(logs_C[-1]))
        size = len(cells.means_M)
        flat_C = variances_C if count else np.zeros(1)
        total_MM = (flat_C @ self._flat_CK).reshape(size, size)
        inverse_MM, alpha_M, log_det = _inverted(total_MM, noise, cells)
        value = cells.means_M @ alpha_M + log_det
        value += cells.spare * np.log(noise) + cells.within / noise
        curvature_MM = inverse_MM - np.outer(alpha_M, alpha_M)
        gradient_C = np.empty(count + 1)
        if count:
            gradient_C[:-1] = variances_C * (self._flat_CK @ curvature_MM.ravel() + 2 * _RATE)
        diagonal = float((np.diagonal(curvature_MM) / cells.counts_M).sum())
        gradient_C[-1] = noise * diagonal + cells.spare - cells.within / noise
        return float(value / 2 + _RATE * variances_C.sum()), gradient_C / 2


def _inverted(total_MM: Floats, noise: float, cells: Cells) -> tuple[Floats, Floats, float]:
    """Inverse of V, V⁻¹ y, log |V|."""
    from scipy.linalg import lapack

    diagonal = np.arange(len(total_MM))
    total_MM[diagonal, diagonal] += noise / cells.counts_M + _JITTER
    factor_MM, failed = lapack.dpotrf(total_MM, lower=1)
    assert not failed, "kernels are positive semidefinite"
    log_det = 2 * float(np.log(np.diagonal(factor_MM)).sum())
    inverse_MM, _ = lapack.dpotri(factor_MM, lower=1)
    lower_MM = np.tril(inverse_MM)
    inverse_MM = lower_MM + np.tril(lower_MM, -1).T
    return inverse_MM, inverse_MM @ cells.means_M, log_det


def solve(total_MM: Floats, noise: float, cells: Cells) -> Floats:
    """V⁻¹ y, (M,); `total_MM` is V without the noise."""
    from scipy.linalg import cho_solve, cholesky

    total_MM = total_MM + np.diag(noise / cells.counts_M + _JITTER)
    factor_MM = cholesky(total_MM, lower=True, check_finite=False)
    alpha_M: Floats = cho_solve((factor_MM, True), cells.means_M, check_finite=False)
    return alpha_M
