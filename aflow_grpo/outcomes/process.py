"""A Gaussian process over (problem, structure): what a value is expected to be.

    value = mean + problem + structure [same key] + features [like structures] + text [like words]
            + size [length, numbers] + text x structure + size x structure + problem x structure
            + noise

Each part has a variance, found by marginal likelihood (`variances`) on whole problems. Where a
problem's text says nothing about which structure suits it, the two interactions with the text
shrink to 0 by themselves, and every problem gets the same structure.

All kernels are products of a problem's likeness and a structure's, so a prediction for every
problem with every structure costs two small matrix products. Not here: what the value is (`model`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aflow_grpo.outcomes.sides import ProblemSide, StructureSide
from aflow_grpo.outcomes.structure import Structure
from aflow_grpo.outcomes.variances import Cells, Floats, aggregate, fit_variances, solve
from aflow_grpo.seeds import derive_seed

__all__ = ["COMPONENTS", "Observed", "Process"]

COMPONENTS = (
    "structure",
    "features",
    "problem",
    "problem_structure",
    "text",
    "text_structure",
    "size",
    "size_structure",
)
"""The parts of the variance, apart from the noise."""
_MEAN_VARIANCE = 1.0
"""Of the prior of the mean, about the observed one, in units of the values' variance."""


@dataclass(frozen=True)
class Observed:
    """Values of (problem, structure), N of them."""

    texts_P: Sequence[str]
    """The questions of different problems."""
    names_P: Sequence[str]
    """Their ids."""
    structures_S: Sequence[Structure]
    """Of different keys."""
    problems_N: np.ndarray
    """(N,) int."""
    structures_N: np.ndarray
    """(N,) int."""


class Process:
    """Fitted to observed values.

    Args:
        observed: Where values were seen, at least one.
        values_N: What was seen, (N,) finite.
        start: Variances to begin the search with, by component and ``noise``.
        search: False takes those of `start` as they are.
        search_cells: The variances are found on so many cells.
    """

    def __init__(
        self,
        observed: Observed,
        values_N: Floats,
        start: Mapping[str, float] | None = None,
        *,
        search: bool = True,
        search_cells: int = 800,
    ) -> None:
        self.observed = observed
        self._problems = ProblemSide(observed.texts_P)
        self._structures = StructureSide(observed.structures_S)
        self._centre = float(values_N.mean())
        spread = float(values_N.std())
        self._spread = spread if spread > 1e-9 else 1.0
        scaled_N = (values_N - self._centre) / self._spread
        self._cells = aggregate(observed.problems_N, observed.structures_N, scaled_N)
        self._sides()
        start_C = None if start is None else _as_array(start)
        if start_C is None or search:
            # Where all values are equal, there is nothing to explain and nothing to search.
            start_C = self._searched(start_C, search_cells) if spread > 1e-9 else _flat()
        self.variances: Mapping[str, float] = dict(
            zip((*COMPONENTS, "noise"), start_C.tolist(), strict=True)
        )
        """Of standardised values, by component and ``noise``."""
        cells = self._cells
        total_MM = self._between(
            [(k[np.ix_(cells.problems_M, cells.problems_M)],
              s[np.ix_(cells.structures_M, cells.structures_M)])
             for k, s in self._pairs(start_C, self._seen_problems, self._seen_structures)]
        )  # fmt: skip
        self._alpha_M = solve(total_MM, self.variances["noise"], cells)
        alpha_PS = np.zeros((len(observed.texts_P), len(observed.structures_S)))
        alpha_PS[cells.problems_M, cells.structures_M] = self._alpha_M
        self._alpha_PS = alpha_PS

    # What it says

    def seen(self) -> Floats:
        """What is expected of each observation's (problem, structure), itself counted, (N,)."""
        cells = self._cells
        shrunk_M = cells.means_M - self.variances["noise"] / cells.counts_M * self._alpha_M
        return self._centre + self._spread * shrunk_M[cells.cell_N]

    def predict(self, texts_Q: Sequence[str], structures_T: Sequence[Structure]) -> Floats:
        """What is expected of new problems with these texts, (Q, T)."""
        problems = _Problems(
            np.ones((len(texts_Q), len(self.observed.texts_P))), None,
            self._problems.words(texts_Q), self._problems.size(texts_Q),
        )  # fmt: skip
        return self._expected(problems, self._structures_like(structures_T))

    def expected(self) -> Floats:
        """What is expected of the observed problems with the observed structures, (P, S)."""
        return self._expected(self._seen_problems, self._seen_structures)

    def shares(self) -> dict[str, float]:
        """Each component's share of the whole variance of standardised values, and the noise's."""
        whole = sum(self.variances.values())
        return {name: value / whole for name, value in self.variances.items()}

    # How

    def _sides(self) -> None:
        observed, count = self.observed, len(self.observed.texts_P)
        self._seen_problems = _Problems(
            np.ones((count, count)), np.eye(count), self._problems.words(), self._problems.size()
        )
        self._seen_structures = self._structures_like(observed.structures_S)

    def _structures_like(self, structures_T: Sequence[Structure]) -> _Structures:
        side = self._structures
        return _Structures(
            np.ones((len(structures_T), len(self.observed.structures_S))),
            side.exact(structures_T), side.features(structures_T), side.both(structures_T),
            side.contrast(structures_T),
        )  # fmt: skip

    def _pairs(
        self, variances_C: Floats, problems: _Problems, structures: _Structures
    ) -> list[tuple[Floats, Floats]]:
        """Products of a problem's and a structure's likeness that add up to the covariance."""
        v = dict(zip((*COMPONENTS, "noise"), variances_C.tolist(), strict=True))
        one, s = structures.one, structures
        pairs = [
            (problems.one,
             _MEAN_VARIANCE * one + v["structure"] * s.exact + v["features"] * s.features),
            (problems.words, v["text"] * one + v["text_structure"] * s.contrast),
            (problems.size, v["size"] * one + v["size_structure"] * s.contrast),
        ]  # fmt: skip
        if problems.same is not None:
            own = v["problem"] * one + v["problem_structure"] * s.both
            pairs.append((problems.same, own))
        return pairs

    def _expected(self, problems: _Problems, structures: _Structures) -> Floats:
        pairs = self._pairs(_as_array(self.variances), problems, structures)
        found_QT = sum(k @ self._alpha_PS @ s.T for k, s in pairs)
        return self._centre + self._spread * np.asarray(found_QT)

    @staticmethod
    def _between(pairs: Sequence[tuple[Floats, Floats]]) -> Floats:
        total_MM = pairs[0][0] * pairs[0][1]
        for k, s in pairs[1:]:
            total_MM += k * s
        return total_MM

    def _searched(self, start_C: Floats | None, most: int) -> Floats:
        """Variances from whole problems, drawn by their names, of about `most` cells."""
        cells, p, s = self._cells, self._seen_problems, self._seen_structures
        sizes_P = np.bincount(cells.problems_M, minlength=len(self.observed.texts_P))
        order = sorted(
            range(len(sizes_P)), key=lambda n: derive_seed("outcome", self.observed.names_P[n])
        )
        room = np.cumsum(sizes_P[order]) <= max(most, int(sizes_P[order[0]]))
        chosen = np.isin(cells.problems_M, np.array(order)[room])
        problems_M, structures_M = cells.problems_M[chosen], cells.structures_M[chosen]
        some = Cells(
            problems_M, structures_M, cells.counts_M[chosen], cells.means_M[chosen],
            *_within(cells, chosen),
        )  # fmt: skip
        at, by = np.ix_(problems_M, problems_M), np.ix_(structures_M, structures_M)
        assert p.same is not None
        same, words, size = p.same[at], p.words[at], p.size[at]
        contrast = s.contrast[by]
        kernels = [s.exact[by], s.features[by], same, same * s.both[by], words,
                   words * contrast, size, size * contrast]  # fmt: skip
        return fit_variances(kernels, some, start_C)


@dataclass(frozen=True)
class _Problems:
    """Likeness of Q problems to the P that were seen, in several ways, (Q, P)."""

    one: Floats
    same: Floats | None
    """None: none of them was seen."""
    words: Floats
    size: Floats


@dataclass(frozen=True)
class _Structures:
    """Likeness of T structures to the S that were seen, in several ways, (T, S)."""

    one: Floats
    exact: Floats
    features: Floats
    both: Floats
    contrast: Floats


def _within(cells: Cells, chosen_M: np.ndarray) -> tuple[float, np.ndarray]:
    """Squares within the chosen cells (in proportion to the observations), and these."""
    cell_N = cells.cell_N[chosen_M[cells.cell_N]]
    freedom = float((cells.counts_M[chosen_M] - 1).sum())
    return cells.within * freedom / max(1.0, cells.spare), cell_N


def _flat() -> Floats:
    """Nothing but a little noise."""
    flat_C = np.zeros(len(COMPONENTS) + 1)
    flat_C[-1] = 1e-3
    return flat_C


def _as_array(variances: Mapping[str, float]) -> Floats:
    return np.array([variances[name] for name in (*COMPONENTS, "noise")], dtype=np.float64)
