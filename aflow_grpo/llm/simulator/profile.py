"""The figures that the imitated gpt-4o-mini is built to, per dataset, and where each comes from.

Sources, named in the comments as

- P: the published table of AFlow (arXiv 2410.10762, gpt-4o-mini, mean of three runs), rows IO, CoT
  and Self-Refine;
- R: 125 workflows that AFlow discovered, each run five times by gpt-4o-mini on 30 to 119 problems
  per dataset, as published in a fork of it (raw scores and costs);
- F: fitted, so that whole workflows on this simulator show what R shows.

Accuracies are P's, since R's problems are a hard selection of the benchmarks; differences between
workflows, noise, agreement and costs are R's. Not covered: how the figures act (`skill`,
`replies`, `code_replies`), what an instruction changes (`instructions`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aflow_grpo.records import Domain, Problem

__all__ = ["Lengths", "Profile", "Scale", "Text", "profile_name", "profile_of"]


@dataclass(frozen=True)
class Text:
    """How a dataset's questions look: makes the text score of `difficulty` comparable."""

    log_chars: tuple[float, float] = (4.9, 0.6)
    """Mean and standard deviation of log(characters of the question)."""
    log_numbers: tuple[float, float] = (0.9, 0.8)
    """Of log(1 + numbers in the question)."""
    spread: float = 1.6
    """Standard deviation of the sum of the two standardised values."""


@dataclass(frozen=True)
class Lengths:
    """Mean lengths of replies, in tokens of four characters."""

    free: int
    """A free reply: a derivation, a spoken answer, code with its explanation."""
    thought: int
    """The thought of AnswerGenerate."""
    program: int = 0
    """What surrounds the program of Programmer."""
    review: int = 60
    """A review."""
    code: int = 0
    """A reply of CustomCodeGenerate or Test; code that is longer stands alone."""


@dataclass(frozen=True)
class Scale:
    """The three levels of problems whose difficulty is known."""

    accuracy: tuple[float, float, float]
    """Of one answer, by level."""
    residual: tuple[float, float, float]
    """Of the levels, instead of the profile's."""
    same_wrong: tuple[float, float, float]
    """Of the levels, instead of the profile's."""
    program: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Gain of a program over a written answer, by level."""
    lengths: tuple[Lengths, Lengths, Lengths] | None = None
    """Of the levels, instead of the profile's."""


@dataclass(frozen=True)
class Profile:
    """The imitated model on one dataset."""

    accuracy: float
    """Share of problems that one call answers rightly, asked for the answer in its final form."""
    family: float
    """Share of the latent variance that belongs to problem and kind of method (a written answer, a
    program); with `wording` what choosing a workflow by the problem can win."""
    wording: float
    """Share that belongs to problem and request: the same one fails again, another may not."""
    residual: float
    """Share that is drawn anew for every call; the rest belongs to the problem alone."""
    auc: float
    """How far failure shows in the question's text: the area under the ROC curve of the text score
    of `difficulty` for "one call fails", shrunk over the datasets."""
    same_wrong: float
    """Chance that two wrong replies on one problem are the same."""
    lengths: Lengths
    text: Text = Text()
    gains: Mapping[str, float] = field(default_factory=dict)
    """Accuracy of an operator minus `accuracy`."""
    reasoning: float = 0.0
    """Gain of a request for reasoning."""
    loose_form: float = 0.0
    """Math: share of free replies that end without a readable answer when none is asked for."""
    terse_loss: float = 0.0
    """Math: what a forbidden derivation costs."""
    near_misses: float = 0.0
    """QA: share of right answers with a word too many or too few (F1 about .65)."""
    rephrases: float = 0.25
    """QA: which part of that hangs on the request's words."""
    muddles: float = 0.0
    """Math: share of readable answers that a step loses which explains them once more."""
    prolix: float = 0.0
    """Math: how much longer a derivation gets that is asked for."""
    plain_drafts: float = 0.0
    """QA: how much likelier a step on a short draft leaves it short, as a logit."""
    heeds: tuple[float, float] = (0.95, 0.70)
    """Chance to take over a draft that is right, that is wrong; else an answer of its own."""
    rejects: tuple[float, float] = (0.08, 0.40)
    """Chance that a review rejects a right, a wrong solution."""
    spoils: float = 0.40
    """Chance that a revision of a criticised right solution makes it wrong."""
    mends: float = 0.15
    """Chance that a revision of a criticised wrong solution makes it right."""
    biased_pick: float = 0.0
    """Chance that an ensemble over long derivations that disagree takes a wrong one."""
    rewrites: tuple[float, float] = (0.30, 0.15)
    """Code: chance that an unasked rewrite makes right code wrong, wrong code right."""
    hidden_bugs: float = 0.30
    """Code: share of wrong programs that pass the public tests."""
    hidden_spoils: float = 0.30
    """Code: share of code that a rewrite spoilt so that the public tests do not see it."""
    mendable: float = 0.55
    """Code: share of problems beyond its reach whose failed tests the model understands."""
    repairs: float = 0.80
    """Code: share of the failures that it understands which it mends."""
    scale: Scale | None = None
    """Levels of problems whose difficulty is known; None: difficulty does not count."""


# P: IO .927, CoT .924, Self-Refine .896. R: raw one-call .778 on its hard selection, three
# instructed samples +.048, a program after them +.046 (heeds: it corrects three of four wrong
# drafts), a step that explains the answer once more -.084 (muddles); agreement .948 at .865 right;
# tetrachoric correlations .98 within a workflow, .78 between samples and programs (family), .88
# among programs (wording); 285 completion tokens, about twice as many where reasoning is asked for
# (prolix, from the cost of three samples). F: accuracy and loose_form, which together give IO;
# same_wrong and residual, from the agreement of whole workflows; spoils and rejects, from
# Self-Refine. terse_loss is a guess.
_GSM8K = Profile(
    accuracy=0.957, family=0.16, wording=0.15, residual=0.009, auc=0.547, same_wrong=0.60,
    lengths=Lengths(free=285, thought=200, program=260, review=150),
    text=Text((5.38, 0.39), (1.38, 0.41), 1.60),
    gains={"programmer": 0.010}, loose_form=0.031, terse_loss=0.35,
    muddles=0.080, prolix=1.3,
    heeds=(0.98, 0.25), rejects=(0.10, 0.40), spoils=0.50, mends=0.20,
)  # fmt: skip

# P: IO .486, CoT .488, Self-Refine .461. R (level 5 only): agreement .688 (.669 right when they
# agree, .151 when they differ), hence residual and same_wrong; tetrachoric correlations .69 between
# written answers and Programmer + refining (family), .90 among workflows of one kind, and +.056
# from choosing among 17 workflows (wording); 900 completion tokens; three samples and an ensemble
# -.054 (biased_pick), Programmer + refining +.037 (heeds, and the program's accuracy). F: auc, a
# little above the .65 that whole workflows then show. terse_loss is a guess.
_MATH = Profile(
    accuracy=0.489, family=0.18, wording=0.140, residual=0.043, auc=0.66, same_wrong=0.31,
    lengths=Lengths(free=900, thought=650, program=420, review=250),
    text=Text((5.28, 0.65), (1.57, 0.93), 1.69),
    gains={"programmer": -0.09}, reasoning=0.002, terse_loss=0.20,
    prolix=0.6, heeds=(0.96, 0.30), rejects=(0.20, 0.40), spoils=0.50, mends=0.12, biased_pick=0.90,
)  # fmt: skip

# P: IO .870, CoT .886, Self-Refine .878. R (30 problems): within .93, between .72; conditional
# review up to +.02, rewriting -.28 (rewrites), and before tests -.06 (hidden_spoils, repairs);
# tests and a new program +.007 at its ceiling of .933 (mendable; P: .947 for that workflow from
# .870); 405 completion tokens.
_HUMANEVAL = Profile(
    accuracy=0.868, family=0.10, wording=0.13, residual=0.04, auc=0.595, same_wrong=0.70,
    lengths=Lengths(free=405, code=405, thought=200, review=220),
    text=Text((6.10, 0.41), (1.73, 1.20), 1.60),
    gains={"custom": -0.01}, reasoning=0.016, rejects=(0.06, 0.50), spoils=0.20, mends=0.30,
    rewrites=(0.45, 0.10), hidden_bugs=0.40, hidden_spoils=0.11, mendable=0.15, repairs=0.70,
)  # fmt: skip

# P: IO .718, CoT .718, Self-Refine .698. R: within .982, between .90; public tests and mending
# +.107 (mendable), an ensemble of three before it about 0, rewriting before it -.19 to -.26
# (rewrites; most of the spoilt programs pass the one public test); 320 completion tokens.
_MBPP = Profile(
    accuracy=0.718, family=0.03, wording=0.02, residual=0.015, auc=0.502, same_wrong=0.80,
    lengths=Lengths(free=320, code=320, thought=180, review=200),
    text=Text((5.27, 0.24), (1.67, 0.90), 1.66),
    gains={"custom": -0.01}, rejects=(0.10, 0.40), spoils=0.42, mends=0.15,
    rewrites=(0.46, 0.03), hidden_bugs=0.30, hidden_spoils=0.70, mendable=0.50,
)  # fmt: skip

# P: IO .683, CoT .785, Self-Refine .702. R: raw one-call .061 F1 at 65 completion tokens (a spoken
# answer; free is longer, so that the F1 fits), .740 with AnswerGenerate and a format step, .508
# with a vague one (plain_drafts); agreement .938 (.737 / .240), hence residual and same_wrong;
# tetrachoric .993 within a workflow; +.043 from choosing among 21 workflows, nothing among the
# three best (near_misses, rephrases). F: accuracy, so that IO's F1 is P's with the near misses.
_DROP = Profile(
    accuracy=0.672, family=0.02, wording=0.008, residual=0.002, auc=0.694, same_wrong=0.80,
    lengths=Lengths(free=78, thought=200, review=80),
    text=Text((4.09, 0.37), (0.22, 0.41), 1.51),
    gains={"answer_generate": 0.085}, reasoning=0.05,
    near_misses=0.05, rephrases=0.1, plain_drafts=1.6,
    heeds=(0.985, 0.97), rejects=(0.12, 0.40), spoils=0.50, mends=0.15,
)  # fmt: skip

# P: IO .681, CoT .679, Self-Refine .608. R: raw one-call .158 F1 at 25 completion tokens, .386 and
# .615 with better and better formats; agreement .862 (.684 / .267), hence residual and same_wrong;
# tetrachoric .993 within a workflow, .966 between workflows by right or wrong, but +.095 F1 from
# choosing among them (near_misses, rephrases). F: accuracy, so that IO's F1 is P's.
_HOTPOTQA = Profile(
    accuracy=0.710, family=0.03, wording=0.055, residual=0.005, auc=0.524, same_wrong=0.64,
    lengths=Lengths(free=27, thought=110, review=80),
    text=Text((4.47, 0.35), (0.20, 0.36), 1.53),
    near_misses=0.23, rephrases=0.30,
    heeds=(0.985, 0.97), rejects=(0.20, 0.40), spoils=0.60, mends=0.10,
)  # fmt: skip

# Sample problems and own datasets: nothing was recorded on them. The levels are choices that keep
# the shipped exercise learnable; noise and clustering resemble GSM8K (easy) to MATH (hard), DROP to
# HotpotQA, MBPP to HumanEval. Reviews are kinder than recorded ones.
_DEFAULTS: Mapping[Domain, Profile] = {
    "math": Profile(
        accuracy=0.69, family=0.15, wording=0.03, residual=0.03, auc=0.56, same_wrong=0.68,
        lengths=Lengths(free=140, thought=57), terse_loss=0.20,
        heeds=(0.97, 0.80), rejects=(0.07, 0.60), spoils=0.12, mends=0.35,
        scale=Scale(
            (0.92, 0.75, 0.40), (0.02, 0.028, 0.052), (0.75, 0.68, 0.62), (0.01, 0.08, 0.13),
            (Lengths(85, 38), Lengths(140, 57), Lengths(225, 75)),
        ),
    ),
    "qa": Profile(
        accuracy=0.683, family=0.02, wording=0.03, residual=0.015, auc=0.56, same_wrong=0.86,
        lengths=Lengths(free=45, thought=57),
        gains={"custom": -0.03},
        heeds=(0.985, 0.95), rejects=(0.07, 0.60), spoils=0.12, mends=0.35,
        scale=Scale(
            (0.85, 0.70, 0.50), (0.013, 0.0104, 0.024), (0.88, 0.88, 0.80),
            lengths=(Lengths(45, 38), Lengths(45, 57), Lengths(45, 75)),
        ),
    ),
    "code": Profile(
        accuracy=0.723, family=0.04, wording=0.03, residual=0.025, auc=0.56, same_wrong=0.68,
        lengths=Lengths(free=110, thought=57), gains={"custom": -0.02},
        rejects=(0.07, 0.60), spoils=0.14, mends=0.35,
        rewrites=(0.14, 0.25), hidden_bugs=0.15, mendable=0.55,
        scale=Scale((0.90, 0.75, 0.52), (0.023, 0.0194, 0.0315), (0.75, 0.70, 0.60)),
    ),
}  # fmt: skip

_PROFILES: Mapping[str, Profile] = {
    "gsm8k": _GSM8K,
    "math": _MATH,
    "humaneval": _HUMANEVAL,
    "mbpp": _MBPP,
    "drop": _DROP,
    "hotpotqa": _HOTPOTQA,
}


def profile_name(problem: Problem) -> str:
    """Names the problem's profile: its dataset, else its domain in words that no dataset has."""
    return problem.dataset if problem.dataset in _PROFILES else f"any {problem.domain}"


def profile_of(problem: Problem) -> Profile:
    """The profile of the problem's dataset, else its domain's."""
    return _PROFILES.get(problem.dataset) or _DEFAULTS[problem.domain]
