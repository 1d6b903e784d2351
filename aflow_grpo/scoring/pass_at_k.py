"""pass@k from samples, without bias (Chen et al. 2021, arXiv 2107.03374, equation 1).

Not covered: which samples pass (`code_scorer`), averaging over problems.
"""

from __future__ import annotations

import math

from aflow_grpo.errors import ConfigError

__all__ = ["pass_at_k"]


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that at least one of `k` samples, drawn from `n` without return, is right.

    ``1 - C(n - c, k) / C(n, k)``, as a product, so that nothing overflows. ``1 - (1 - c/n)**k``
    is too low on average; for k = 1 both are c / n.

    Args:
        n: Samples of one problem.
        c: How many of them are right.
        k: How many may be tried.

    Returns:
        In [0, 1]. ``pass_at_k(5, 2, 1)`` is 0.4, ``pass_at_k(5, 2, 3)`` is 0.9.

    Raises:
        ConfigError: Not ``0 <= c <= n`` or not ``1 <= k <= n``.
    """
    if not 0 <= c <= n:
        raise ConfigError(f"pass_at_k: c is {c}, expected 0 to n = {n} right samples")
    if not 1 <= k <= n:
        raise ConfigError(f"pass_at_k: k is {k}, expected 1 to n = {n}; sample more, or lower k")
    if n - c < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))
