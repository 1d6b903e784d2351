"""A user's own scorers: found by import path, asked, and their answers checked.

They run in this process and are trusted; the answers that they judge are not. Not covered: which
dataset they are for (`scorers`).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Mapping

from aflow_grpo.errors import ConfigError
from aflow_grpo.importing import import_named
from aflow_grpo.records import Problem, Score

__all__ = ["OwnScorer", "ask_own_scorer", "load_scorers"]

Judgement = Score | float | bool
OwnScorer = Callable[[Problem, str], Judgement | Awaitable[Judgement]]
_KEY = "rollout.scoring.scorers"
_EXPECTED = "a Score, a number in [0, 1], True or False"
_RIGHT = 1 - 1e-9


def load_scorers(paths: Mapping[str, str]) -> dict[str, OwnScorer]:
    """The functions that `rollout.scoring.scorers` names, by dataset in lower case.

    Args:
        paths: Dataset -> import path, e.g. ``{"trivia": "my_scorers.score_trivia"}``.

    Raises:
        ConfigError: A path leads to no function of (problem, answer), or two keys are one dataset.
    """
    found: dict[str, OwnScorer] = {}
    for dataset, path in paths.items():
        name = dataset.strip().lower()
        if not name or name in found:
            what = f"{dataset!r} names a dataset twice" if name else "an empty name"
            raise ConfigError(f"{_KEY}: found {what}, expected one entry per dataset; remove it")
        found[name] = _load(f"{_KEY}.{dataset}: {path!r}", path)
    return found


async def ask_own_scorer(scorer: OwnScorer, problem: Problem, answer: str) -> Score:
    """What a user's scorer says of one answer; a plain number n is correct where it is 1.

    Raises:
        ConfigError: The function raised, or gave something else than a value in [0, 1]: a fault of
            the function is not a wrong answer.
    """
    where = f"{_KEY}.{problem.dataset}, problem {problem.id!r}"
    try:
        given = scorer(problem, answer)
        judged = await given if inspect.isawaitable(given) else given
    except Exception as error:
        raise ConfigError(
            f"{where}: the scorer raised {type(error).__name__}: {error}. Mend the function; it "
            "has to judge any text."
        ) from error
    score = judged if isinstance(judged, Score) else _score(judged)
    if score is None:
        raise ConfigError(
            f"{where}: the scorer gave {type(judged).__name__} {str(judged)[:80]}, expected "
            f"{_EXPECTED}; mend its return"
        )
    for name, value in {"value": score.value, **score.measures}.items():
        if not _in_range(value):
            raise ConfigError(
                f"{where}: the scorer gave {name} {value!r}, expected a finite number in [0, 1]; "
                "mend its return"
            )
    return score


def _score(judged: object) -> Score | None:
    if not isinstance(judged, bool | int | float):
        return None
    value = float(judged)
    return Score(value, value >= _RIGHT, "by a scorer of your own")


def _in_range(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= 1


def _load(key: str, path: str) -> OwnScorer:
    found = import_named(key, path, "module.function")
    module_name, _, name = path.rpartition(".")
    if not callable(found) or inspect.isclass(found):
        what = "nothing" if found is None else type(found).__name__
        raise ConfigError(
            f"{key}: found {what} called {name!r} in {module_name}, expected a function; write "
            f"`def {name}(problem, answer)`"
        )
    try:
        inspect.signature(found).bind(None, "")
    except TypeError:
        raise ConfigError(
            f"{key} takes {inspect.signature(found)}, expected (problem, answer); change its "
            "parameters"
        ) from None
    scorer: OwnScorer = found
    return scorer
