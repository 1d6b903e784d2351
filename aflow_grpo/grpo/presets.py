"""Published losses by name, and what a user may change in them.

Every preset is a function whose docstring holds its equation, its numbers and where TRL differs;
`aflow-grpo describe loss NAME` prints it. `LossSettings` names one and overrides single values;
`resolve` gives the effective numbers. Without torch. Not here: the arithmetic (`losses.py`).

In the equations, r = exp(log π - log π_old), r_i are rewards of one group of n, |o_i| is the length
of sequence i, and N the number of sequences of an optimiser step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from math import inf
from typing import Any, Literal, TypeVar

from aflow_grpo.grpo.objective import AdvantageConfig, LossConfig, Objective

__all__ = ["PRESETS", "LossSettings", "PresetName", "resolve"]

PresetName = Literal["default", "grpo", "dr_grpo", "dapo", "gspo", "rloo", "seed"]


@dataclass(frozen=True)
class LossSettings:
    """Which published loss, and what is changed in it; null: as the preset says.

    `aflow-grpo describe loss NAME` prints a preset's equation and numbers.
    """

    preset: PresetName = "default"
    """Where every value that is null comes from."""
    advantage_scale: Literal["none", "group_std", "batch_std", "leave_one_out"] | None = None
    """What r - mean is divided by, or the mean of the other members only."""
    advantage_ddof: int | None = None
    """Standard deviation over n - 1 (1) or n (0)."""
    advantage_eps: float | None = None
    """Added to the standard deviation, in units of reward."""
    advantage_clip: float | None = None
    """Largest absolute advantage; .inf: no limit."""
    clip_low: float | None = None
    """How far below 1 the probability ratio may push, 0 to 1; 1: no limit."""
    clip_high: float | None = None
    """How far above 1; .inf: no limit."""
    ratio: Literal["token", "sequence"] | None = None
    """One probability ratio per token or per sequence."""
    log_ratio_limit: float | None = None
    """Largest absolute log-ratio that is exponentiated, in nats; .inf: no limit."""
    kl_coef: float | None = None
    """Weight of the KL to the reference policy (adapter switched off); 0 needs no reference."""
    kl_estimator: Literal["k1", "k2", "k3"] | None = None
    """Which estimate of the KL."""
    kl_gradient: Literal["classic", "ratio", "straight_through"] | None = None
    """How it is differentiated: as it stands, times the probability ratio, or as k2."""
    entropy_coef: float | None = None
    """Weight of the entropy bonus, per token and nat."""
    aggregation: Literal["sequence_mean", "token_mean", "constant"] | None = None
    """Mean over sequences of token means, mean over all tokens, or sum over max_length."""
    max_length: int | None = None
    """`constant` only: tokens that every sequence is divided by; 0:
    model.policy.sampling.max_new_tokens."""
    correction: Literal["auto", "off", "token", "sequence"] | None = None
    """Truncated importance correction per token or sequence; `auto`: per token, and only where
    sampler and trainer may differ."""
    correction_cap: float | None = None
    """Largest correction weight; .inf: no limit."""
    overlong: Literal["keep", "mask"] | None = None
    """`mask`: completions cut at their length limit leave the loss, not their group's mean."""
    zero_variance: Literal["keep", "drop", "resample"] | None = None
    """Groups with equal rewards: keep, drop from the loss, or draw other problems instead."""
    resample_limit: int | None = None
    """`resample` only: so many times per iteration at most."""

    def __post_init__(self) -> None:
        # Wrong values and contradictions are refused here, where the user sets them.
        resolve(self)


def default() -> Objective:
    """GRPO as this project's runs use it: no reference policy, a little entropy.

        A_i = (r_i - mean r) / (std r + 1e-4)
        L   = -(1/N) Σ_i (1/|o_i|) Σ_t [ min(r_it A_i, clip(r_it, 0.8, 1.2) A_i) + 0.01 H_it ]

    Source: `grpo` without its KL, as most runs with verifiable rewards do since DAPO (arXiv
    2503.14476), and with an entropy bonus, which keeps rare but good structures alive.
    TRL 1.16: loss_type="grpo", epsilon=0.2, beta=0.0; its entropy_coef is a mean over tokens
    whatever the loss, here the entropy is averaged as the loss is.
    """
    return Objective("default", loss=LossConfig(entropy_coef=0.01))


def grpo() -> Objective:
    """Group relative policy optimisation as published.

        A_i = (r_i - mean r) / (std r + 1e-4)
        d   = log π_ref - log π
        L   = -(1/N) Σ_i (1/|o_i|) Σ_t [ min(r_it A_i, clip(r_it, 0.8, 1.2) A_i)
                                         - 0.04 (exp(d_it) - d_it - 1) ]

    Source: DeepSeekMath, arXiv 2402.03300, equations 3 and 4; β = 0.04 is its section 4.2. It
    names neither ε (0.2 is PPO's) nor what is added to the standard deviation.
    TRL 1.16: loss_type="grpo" and beta=0.04 (its defaults are "dapo" and 0.0), and
    use_bias_correction_kl=False: by default it multiplies the KL by the ratio (here
    kl_gradient=ratio). verl adds 1e-6 to the standard deviation, TRL 1e-4.
    """
    return Objective("grpo", loss=LossConfig(kl_coef=0.04))


def dr_grpo() -> Objective:
    """GRPO done right: without its biases towards long wrong answers and easy problems.

        A_i = r_i - mean r
        L   = -(1/(N max_length)) Σ_i Σ_t min(r_it A_i, clip(r_it, 0.8, 1.2) A_i)

    max_length is a constant: the most tokens a completion may have.

    Source: Dr. GRPO, arXiv 2503.20783, section 3.2; no KL.
    TRL 1.16: loss_type="dr_grpo" and scale_rewards="none" (its default divides by the standard
    deviation all the same).
    """
    return Objective(
        "dr_grpo",
        advantage=AdvantageConfig(scale="none"),
        loss=LossConfig(aggregation="constant"),
    )


def dapo() -> Objective:
    """Decoupled clip and dynamic sampling.

        A_i = (r_i - mean r) / (std r + 1e-4)
        L   = -(1/Σ_i |o_i|) Σ_i Σ_t min(r_it A_i, clip(r_it, 0.8, 1.28) A_i)

    Groups with equal rewards are replaced by groups of other problems (dynamic sampling), up to 10
    times per iteration.

    Source: DAPO, arXiv 2503.14476, equation 8; the limit of 10 is its published recipe's. Its
    penalty for long answers belongs to the reward, and its best run keeps cut completions.
    TRL 1.16: loss_type="dapo" and epsilon_high=0.28 (its default is 0.2); it has no dynamic
    sampling, and its token count is that of the generation batch, here that of the optimiser step.
    """
    return Objective(
        "dapo",
        loss=LossConfig(clip_high=0.28, aggregation="token_mean"),
        zero_variance="resample",
        resample_limit=10,
    )


def gspo() -> Objective:
    """Group sequence policy optimisation: ratio and clip per sequence.

        A_i = (r_i - mean r) / (std r + 1e-4)
        s_i = exp( (1/|o_i|) Σ_t (log π - log π_old)_it )
        L   = -(1/N) Σ_i min(s_i A_i, clip(s_i, 1 - 3e-4, 1 + 4e-4) A_i)

    Source: GSPO, arXiv 2507.18071, equations 5 to 7, and its section 5.1 for the clip; no KL. Made
    for mixtures of experts, where single tokens' ratios jump.
    TRL 1.16: importance_sampling_level="sequence" with loss_type="grpo", epsilon=3e-4 and
    epsilon_high=4e-4 (its defaults are "token", "dapo" and 0.2).
    """
    return Objective("gspo", loss=LossConfig(clip_low=3e-4, clip_high=4e-4, ratio="sequence"))


def rloo() -> Objective:
    """REINFORCE with the other members' mean as its baseline; no ratio to clip on policy.

        A_i = r_i - (1/(n - 1)) Σ_{j≠i} r_j
        L   = -(1/N) Σ_i A_i Σ_t r_it           (gradient on policy: A_i Σ_t ∇ log π)

    Source: RLOO, arXiv 2402.14740, section 3. Meant for one optimiser step per batch: for more,
    set clip_low and clip_high. Its KL is subtracted from a learned reward, with a weight per
    data set; here it is off, and kl_coef with kl_gradient=straight_through is its form per token.
    TRL 1.16: RLOOTrainer has the same gradient on policy; by default it subtracts 0.05 KL from the
    reward and clips the ratio of whole sequences at 0.2.
    """
    return Objective(
        "rloo",
        advantage=AdvantageConfig(scale="leave_one_out"),
        # A constant of 1: the sum over tokens.
        loss=LossConfig(clip_low=1.0, clip_high=inf, aggregation="constant", max_length=1),
    )


def seed() -> Objective:
    """The source documents' loss to the letter.

        A_i = r_i - mean r
        d   = log π_ref - log π
        L   = -(1/N) Σ_i (1/|o_i|) Σ_t [ min(r_it A_i, clip(r_it, 0.8, 1.2) A_i)
                                         - 0.04 (exp(d_it) - d_it - 1) ]

    Source: the documents that this project began with. They name the advantage, the clip of 0.2
    and a KL term without its weight; 0.04 is that of DeepSeekMath.
    TRL 1.16: loss_type="grpo", scale_rewards="none", beta=0.04, use_bias_correction_kl=False.
    """
    return Objective("seed", AdvantageConfig(scale="none"), LossConfig(kl_coef=0.04))


PRESETS: dict[str, Callable[[], Objective]] = {
    function.__name__: function for function in (default, grpo, dr_grpo, dapo, gspo, rloo, seed)
}
"""By name; the docstring of each holds its equation and sources."""


def resolve(settings: LossSettings, *, max_length: int = 0) -> Objective:
    """The preset with what the user set in its place: every number filled.

    Args:
        settings: What the user set.
        max_length: The longest completion in tokens (model.policy.sampling.max_new_tokens), for
            a loss that divides by it and names no other.

    Raises:
        ConfigError: A value is out of range, or two contradict each other.
    """
    preset = PRESETS[settings.preset]()
    given = {
        each.name: value
        for each in fields(settings)
        if each.name != "preset" and (value := getattr(settings, each.name)) is not None
    }
    correction = given.pop("correction", preset.correction)
    loss = _changed(preset.loss, given, correction="token" if correction == "auto" else correction)
    if loss.aggregation == "constant" and not loss.max_length:
        loss = replace(loss, max_length=max_length)
    advantage = {
        n.removeprefix("advantage_"): v for n, v in given.items() if n[:10] == "advantage_"
    }
    return _changed(
        preset,
        given,
        advantage=_changed(preset.advantage, advantage),
        loss=loss,
        correction=correction,
    )


_Part = TypeVar("_Part", AdvantageConfig, LossConfig, Objective)


def _changed(part: _Part, given: dict[str, Any], **more: Any) -> _Part:
    """`part` with those of the `given` values that are its own."""
    own = {each.name for each in fields(part)}
    return replace(part, **{name: v for name, v in given.items() if name in own}, **more)
