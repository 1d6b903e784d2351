"""Other imitated models that the recorded figures allow as well: a profile's figures drawn anew.

What is learnt in one simulated world may hang on figures that were recorded with wide intervals.
With an `effects_seed` every figure that decides who is right, or how long a reply is, lies anywhere
within its interval instead of at its middle, by the name of dataset and figure alone. How wide an
interval is, and why, is said in the tables below. Not drawn: how far a text shows failure
(`visibility` is its knob), how a dataset's questions look, and the few constants of `replies` and
`code_replies` that hold for every dataset.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from aflow_grpo.llm.simulator.profile import Lengths, Profile, Scale
from aflow_grpo.seeds import derive_seed

__all__ = ["resampled"]

_TESTED: Mapping[str, int] = {
    "gsm8k": 1055,
    "math": 486,
    "humaneval": 131,
    "mbpp": 341,
    "drop": 800,
    "hotpotqa": 800,
}
"""Problems behind the published accuracy of one call: it is within 1.96 sqrt(p (1 - p) / n)."""
_UNTESTED = 131
"""For what was never recorded, levels above all: as little as on the smallest of those sets."""
_HALF_WIDTHS: Mapping[str, float] = {
    # Contrasts between workflows have intervals of .02 to .10. A chance that acts on a share s of
    # the problems moves a contrast by s times itself, so its own interval is 1 / s times as wide.
    "same_wrong": 0.10,  # agreement among wrong replies, a fifth to a half of 68 to 119 problems
    "heeds": 0.10,  # a step after a draft: contrasts within .03 to .05, on wrong drafts a third
    "rejects": 0.10,  # Self-Refine, within .02 to .05, hangs on rejects times spoils and mends
    "spoils": 0.15,
    "mends": 0.15,
    "biased_pick": 0.15,  # an ensemble over long derivations: within .05, where a third disagree
    "rewrites": 0.10,  # rewriting code: within .05 to .10
    "hidden_bugs": 0.15,  # tests and mending: within .03 to .07, on the wrong third of programs
    "hidden_spoils": 0.15,
    "mendable": 0.15,
    "repairs": 0.15,
    "loose_form": 0.02,  # fitted together with the accuracy, which is within .016 there
    "muddles": 0.04,  # a step that explains once more: within .04
    "terse_loss": 0.10,  # a guess
    "near_misses": 0.05,  # better and better formats: within .05
    "rephrases": 0.10,
}
"""Of chances: the interval is the nominal value plus and minus this, shortened alike on both sides
so that it stays within (0, 1). What is 0 stays so: the dataset does not show the effect."""
_GAIN = 0.04
"""Half-width of an operator's gain, one without a recorded gain included: contrasts, .02 to .10."""
_PROGRAM = 0.05
"""Of a program's gain by level: the levels are parts of such a contrast."""
_REASONING = 0.03
"""Of the gain of reasoning: the published CoT and IO, paired, on 131 to 1055 problems."""
_DRAFTS = 0.4
"""Of `plain_drafts`, a logit: .10 at a chance of one half."""
_FACTORS: Mapping[str, float] = {
    # Tetrachoric correlations over 30 to 119 problems: a share is known within a factor of two.
    "family": 2.0,
    "wording": 2.0,
    "residual": 1.5,  # five repeats of 17 to 25 workflows say more about it
    "prolix": 1.3,  # from the cost of whole workflows
    "lengths": 1.15,  # mean tokens of 30 to 119 replies
}
"""Of positive quantities: the interval is from nominal / factor to nominal x factor, evenly on the
logarithm's scale."""
_OPERATORS: Mapping[str, tuple[str, ...]] = {
    "math": ("answer_generate", "programmer"),
    "qa": ("answer_generate",),
    "code": ("custom_code_generate",),
}
"""Operators whose gain is uncertain where none was recorded. Custom's is the accuracy itself."""
_SHORTENED = 0.9
_MOST_SHARED = 0.9
"""What families, wordings and repeats may have of the variance together."""
_PAIRS = ("heeds", "rejects", "rewrites")
_SINGLES = tuple(name for name in _HALF_WIDTHS if name not in (*_PAIRS, "same_wrong"))


def _bounded(nominal: float, half_width: float) -> float:
    """The half-width that keeps a chance within (0, 1)."""
    return max(0.0, min(half_width, _SHORTENED * nominal, _SHORTENED * (1 - nominal)))


class _Draws:
    """Values by name, each even over its interval."""

    def __init__(self, seed: int, name: str) -> None:
        self._names = ("effects", seed, name)

    def chance(self, figure: str, nominal: float, half_width: float) -> float:
        return nominal + _bounded(nominal, half_width) * self._even(figure)

    def gain(self, figure: str, nominal: float, half_width: float) -> float:
        return nominal + half_width * self._even(figure)

    def positive(self, figure: str, nominal: float, factor: float) -> float:
        return nominal * math.pow(factor, self._even(figure))

    def _even(self, figure: str) -> float:
        """Evenly from (-1, 1)."""
        return (2 * derive_seed(*self._names, figure) + 1) / 2**31 - 1


def resampled(profile: Profile, seed: int, name: str, domain: str) -> Profile:
    """The profile with its uncertain figures drawn anew.

    Chances stay in (0, 1), the shares of the variance sum to .9 at most, and an easier level's
    accuracy is never below a harder one's.

    Args:
        profile: The nominal figures.
        seed: Any integer; with `name` and the figure it decides every draw.
        name: The dataset's, or what stands for datasets without a profile.
        domain: Its domain.
    """
    draws = _Draws(seed, name)
    scale = _levels(draws, profile.scale, name)
    changed = _chances(draws, profile)
    changed["same_wrong"] = _same_wrong(draws, "", profile.same_wrong)
    changed["accuracy"] = (
        sum(scale.accuracy) / len(scale.accuracy)
        if scale
        else _accuracy(draws, "", profile.accuracy, name)
    )
    changed["gains"] = {
        operator: draws.gain(f"gains/{operator}", profile.gains.get(operator, 0.0), _GAIN)
        for operator in sorted({*profile.gains, *_OPERATORS.get(domain, ())})
    }
    changed["reasoning"] = draws.gain("reasoning", profile.reasoning, _REASONING)
    if profile.plain_drafts:
        changed["plain_drafts"] = draws.gain("plain_drafts", profile.plain_drafts, _DRAFTS)
    for share in ("family", "wording", "residual", "prolix"):
        changed[share] = draws.positive(share, getattr(profile, share), _FACTORS[share])
    changed["lengths"] = _lengths(draws, profile.lengths)
    return _with_room(replace(profile, scale=scale, **changed))


def _chances(draws: _Draws, profile: Profile) -> dict[str, Any]:
    """The figures that are a chance, or a pair of them, by name."""
    drawn: dict[str, Any] = {
        name: draws.chance(name, getattr(profile, name), _HALF_WIDTHS[name]) for name in _SINGLES
    }
    for name in _PAIRS:
        first, second = getattr(profile, name)
        half_width = _HALF_WIDTHS[name]
        drawn[name] = (
            draws.chance(f"{name}/right", first, half_width),
            draws.chance(f"{name}/wrong", second, half_width),
        )
    return drawn


def _levels(draws: _Draws, scale: Scale | None, name: str) -> Scale | None:
    if scale is None:
        return None
    accuracy = [_accuracy(draws, f"/{i}", p, name) for i, p in enumerate(scale.accuracy)]
    easy, middle, hard = sorted(accuracy, reverse=True)
    one, two, three = (
        draws.positive(f"residual/{i}", share, _FACTORS["residual"])
        for i, share in enumerate(scale.residual)
    )
    same = [_same_wrong(draws, f"/{i}", chance) for i, chance in enumerate(scale.same_wrong)]
    program = [draws.gain(f"program/{i}", g, _PROGRAM) for i, g in enumerate(scale.program)]
    lengths = [_lengths(draws, each) for each in scale.lengths] if scale.lengths else None
    return Scale(
        (easy, middle, hard),
        (one, two, three),
        (same[0], same[1], same[2]),
        (program[0], program[1], program[2]),
        (lengths[0], lengths[1], lengths[2]) if lengths else None,
    )


def _accuracy(draws: _Draws, level: str, nominal: float, name: str) -> float:
    half_width = 1.96 * math.sqrt(nominal * (1 - nominal) / _TESTED.get(name, _UNTESTED))
    return draws.chance(f"accuracy{level}", nominal, half_width)


def _same_wrong(draws: _Draws, level: str, nominal: float) -> float:
    return draws.chance(f"same_wrong{level}", nominal, _HALF_WIDTHS["same_wrong"])


def _lengths(draws: _Draws, lengths: Lengths) -> Lengths:
    """Each kind of reply longer or shorter, by the same factor on every level."""
    drawn = {
        field.name: round(
            draws.positive(
                f"lengths/{field.name}", getattr(lengths, field.name), _FACTORS["lengths"]
            )
        )
        for field in fields(Lengths)
    }
    return Lengths(**drawn)


def _with_room(profile: Profile) -> Profile:
    """The profile with its shares made smaller, alike, where they leave too little for the rest."""
    scale = profile.scale
    residuals = (profile.residual, *(scale.residual if scale else ()))
    total = profile.family + profile.wording + max(residuals)
    if total <= _MOST_SHARED:
        return profile
    part = _MOST_SHARED / total
    if scale:
        one, two, three = (part * share for share in scale.residual)
        scale = replace(scale, residual=(one, two, three))
    return replace(
        profile,
        family=part * profile.family,
        wording=part * profile.wording,
        residual=part * profile.residual,
        scale=scale,
    )
