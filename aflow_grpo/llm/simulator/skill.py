"""How able the imitated gpt-4o-mini is: a probit model with few, correlated sources of luck.

Recorded: repeats of one workflow on one problem mostly agree; most problems are always right or
always wrong; other methods and other wordings fail on partly other problems. Independent coin flips
would make self-consistency look far too good. So an attempt at problem p by a method of family f,
asked in wording w, has a position on a normal scale

    x = a t_p + b z_p + c z_pf + d z_pfw + e,        variance 1

and is right when x lies below the quantile of the method's accuracy. t_p is what the problem's text
shows (`difficulty`), the z are fixed draws by name, and only e is new in every call. The squares of
the weights are the profile's shares. `coin` does the same for habits: a reply's form, a review's
verdict. Nothing depends on the order of calls. Not covered: what follows from right and wrong.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace
from functools import lru_cache
from statistics import NormalDist

from aflow_grpo.llm.simulator.difficulty import level_of, text_score, weight_of
from aflow_grpo.llm.simulator.effects import resampled
from aflow_grpo.llm.simulator.levels import seen_at
from aflow_grpo.llm.simulator.profile import Lengths, Profile, profile_name, profile_of
from aflow_grpo.records import Problem
from aflow_grpo.seeds import derive_seed

__all__ = ["Skill"]

_OTHERS = 5
"""Wrong values besides the likeliest; each of them is as likely as the others."""
_NEW = 0.005
"""Share of a habit's variance that is drawn anew for every call."""
_WORDING_SHARE = 0.25
"""Share of a habit's variance that belongs to problem and wording."""
_LEAST, _MOST = 0.005, 0.995
_NORMAL = NormalDist()


class Skill:
    """Which calls are right, per problem, method and wording.

    Args:
        seed: Decides which problems are within reach.
        noise: Scales how much repeated calls differ; 0: they never do.
        visibility: Scales how far difficulty shows in the problem; 1: as recorded.
        effects_seed: Draws the profiles' figures anew; None: the nominal ones.
    """

    def __init__(
        self,
        seed: int,
        noise: float,
        visibility: float = 1.0,
        effects_seed: int | None = None,
    ) -> None:
        self._seed = seed
        self._noise = noise
        self._visibility = visibility
        self._effects_seed = effects_seed
        self._profiles: dict[str, Profile] = {}
        self._draw = lru_cache(maxsize=262_144)(self._compute_draw)
        self._shared = lru_cache(maxsize=65_536)(self._compute_shared)

    def profile(self, problem: Problem) -> Profile:
        """The figures of the problem's dataset in this world, its levels as far as they show."""
        name = profile_name(problem)
        if name not in self._profiles:
            profile = profile_of(problem)
            if self._effects_seed is not None:
                profile = resampled(profile, self._effects_seed, name, problem.domain)
            if profile.scale:
                profile = replace(profile, scale=seen_at(profile.scale, self._visibility))
            self._profiles[name] = profile
        return self._profiles[name]

    def solves(
        self, problem: Problem, family: str, wording: str, gain: float, rng: random.Random
    ) -> bool:
        """Whether one attempt is right.

        Args:
            problem: What is to be solved.
            family: Kind of method, e.g. ``written`` or ``program``.
            wording: Names the request; equal ones succeed on the same problems.
            gain: Accuracy of the method minus that of one written answer.
            rng: The call's own.
        """
        profile = self.profile(problem)
        residual = self.residual(problem) * self._noise**2
        position = (
            self._shared(problem, family)
            + math.sqrt(profile.wording) * self._draw(problem.id, f"{family}/{wording}")
            + math.sqrt(residual) * rng.gauss(0.0, 1.0)
        )
        accuracy = min(_MOST, max(_LEAST, self.accuracy(problem) + gain))
        spread = math.sqrt(1 - self.residual(problem) + residual)
        return position < spread * _NORMAL.inv_cdf(accuracy)

    def coin(
        self,
        problem: Problem,
        habit: str,
        chance: float,
        rng: random.Random,
        *,
        wording: str = "",
        share: float = _WORDING_SHARE,
    ) -> bool:
        """True for a share `chance` of the problems, nearly the same ones in every call.

        Args:
            problem: What the call is about.
            habit: Names what is decided.
            chance: Of True, over all problems.
            rng: The call's own.
            wording: Names the request's words, where they have a part in it.
            share: Which part.
        """
        if not 0 < chance < 1:
            return chance >= 1
        rest = _NEW * self._noise**2
        position = math.sqrt(rest) * rng.gauss(0.0, 1.0)
        if wording:
            position += math.sqrt(1 - share - _NEW) * self._draw(problem.id, habit)
            position += math.sqrt(share) * self._draw(problem.id, f"{habit}/{wording}")
        else:
            position += math.sqrt(1 - _NEW) * self._draw(problem.id, habit)
        return position < math.sqrt(1 - _NEW + rest) * _NORMAL.inv_cdf(chance)

    def accuracy(self, problem: Problem) -> float:
        """Expected accuracy of one written answer, before the problem itself is known."""
        profile, level = self.profile(problem), level_of(problem)
        if profile.scale is None or not level:
            return profile.accuracy
        return profile.scale.accuracy[level - 1]

    def residual(self, problem: Problem) -> float:
        """Share of the variance that is drawn anew for every call."""
        profile, level = self.profile(problem), level_of(problem)
        return profile.scale.residual[level - 1] if profile.scale and level else profile.residual

    def program_gain(self, problem: Problem) -> float:
        """Accuracy of a program minus that of a written answer."""
        profile, level = self.profile(problem), level_of(problem)
        if profile.scale and level:
            return profile.scale.program[level - 1]
        return profile.gains.get("programmer", 0.0)

    def lengths(self, problem: Problem) -> Lengths:
        """How long replies about the problem are."""
        profile, level = self.profile(problem), level_of(problem)
        if profile.scale and profile.scale.lengths and level:
            return profile.scale.lengths[level - 1]
        return profile.lengths

    def wrong_choice(self, problem: Problem, uniform: float) -> int:
        """Which of the wrong values (0 the likeliest) a wrong reply has, for a uniform draw."""
        profile, level = self.profile(problem), level_of(problem)
        scale = profile.scale
        first = _first_share(scale.same_wrong[level - 1] if scale and level else profile.same_wrong)
        if uniform < first:
            return 0
        return 1 + min(_OTHERS - 1, int((uniform - first) / (1 - first) * _OTHERS))

    def _compute_shared(self, problem: Problem, family: str) -> float:
        """The problem's and the family's part of the position."""
        profile = self.profile(problem)
        own = 1 - profile.family - profile.wording - self.residual(problem)
        hidden = self._draw(problem.id, "problem")
        if profile.scale and level_of(problem):  # the level shows, and shifts the accuracy
            part = hidden
        else:
            weight = weight_of(profile, self._visibility)
            shown = text_score(problem.question, profile.text)
            part = weight * shown + math.sqrt(1 - weight**2) * hidden
        return math.sqrt(own) * part + math.sqrt(profile.family) * self._draw(problem.id, family)

    def _compute_draw(self, problem_id: str, purpose: str) -> float:
        """A fixed draw from the standard normal distribution."""
        return _NORMAL.inv_cdf((derive_seed(self._seed, problem_id, purpose) + 0.5) / 2**31)


@lru_cache(maxsize=64)
def _first_share(cluster: float) -> float:
    """Share w of the likeliest wrong value: w^2 + (1-w)^2 / 5 = cluster."""
    rest = 1 / _OTHERS
    root = math.sqrt(max(0.0, rest**2 - (1 + rest) * (rest - cluster)))
    return (rest + root) / (1 + rest)
