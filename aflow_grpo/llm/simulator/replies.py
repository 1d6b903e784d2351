"""What the imitated gpt-4o-mini replies, operator by operator, for math and question answering.

Every reply is a function of the request. What it says follows from three things: whether the call
finds the answer (`skill`), which draft it was shown, and what its instruction asks for
(`instructions`). On QA a free prompt gets a wordy reply unless the short answer alone is asked for;
in math a reply nobody asked to conclude may end without a readable answer; a draft is mostly taken
over; an ensemble follows the plurality, but is led astray by long derivations that disagree. Code
problems are in `code_replies`, the figures in `profile`.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from aflow_grpo.llm.simulator import prose
from aflow_grpo.llm.simulator.instructions import Reading, read_instruction, short_chance
from aflow_grpo.llm.simulator.profile import Profile
from aflow_grpo.llm.simulator.programs import code_in, fingerprint, solver
from aflow_grpo.llm.simulator.skill import Skill
from aflow_grpo.llm.simulator.values import (
    canonical,
    extract,
    is_right,
    mentioned,
    near_miss,
    with_unit,
    wrong_values,
)
from aflow_grpo.llm.simulator.wire import candidates, outside, section
from aflow_grpo.records import Problem
from aflow_grpo.seeds import derive_seed

__all__ = ["Call", "pick", "reply", "review_text", "unknown_reply"]

CHARS = 4
"""Characters of a token."""
_CRASHES = 0.05
_MENDS_CRASH = 0.75
_FOLLOWS_PLURALITY = 0.97
_LONG_CHARS = 600
"""Candidates from here on are derivations rather than answers."""
_CHECKED = "The value that was computed agrees with this."
_WORDING_CHARS = 160
_OPENING_CHARS = 60
_CODE_BLOCK = re.compile(r"```python\n.*?\n```", re.DOTALL)
_SURE_ANSWER = 0.985
"""Share of AnswerGenerate's answers that are short, whatever else is asked for."""
_KEPT_WORDS = 15
_TERSE = 0.6
_PLANS = 0.5
"""Strength from which a plan is all that a reply gives."""


@dataclass(frozen=True)
class Call:
    """One request, understood."""

    operator: str
    problem: Problem
    user: str
    rng: random.Random
    """Seeded by the request."""
    skill: Skill

    @cached_property
    def profile(self) -> Profile:
        """The dataset's figures."""
        return self.skill.profile(self.problem)

    @cached_property
    def around(self) -> str:
        """What the workflow says besides the problem: instructions; for Custom drafts too."""
        if self.operator == "custom":
            return outside(self.user, self.problem)
        return section(self.user, "instruction") or ""

    @cached_property
    def reading(self) -> Reading:
        """What is asked for."""
        return read_instruction(self.around)

    @cached_property
    def wording(self) -> str:
        """Names the request's words: the operator and the opening of what it is told."""
        told = self.around.strip()[:_WORDING_CHARS]
        if self.operator == "programmer":  # what it is told is how the analysis opens
            told += (section(self.user, "analysis") or "")[:_OPENING_CHARS]
        return f"{self.operator}/{derive_seed(told)}" if told else self.operator

    @property
    def solution(self) -> str:
        """The solution that the operator works on."""
        return section(self.user, "solution") or ""

    def solves(self, family: str, gain: float = 0.0) -> bool:
        """Whether an attempt of its own finds the right answer."""
        return self.skill.solves(self.problem, family, self.wording, gain, self.rng)

    def habit(self, name: str, chance: float) -> bool:
        """A habit that the problem and the request's words decide."""
        return self.skill.coin(self.problem, name, chance, self.rng, wording=self.wording)

    def wrong_index(self) -> int:
        """Which of the problem's wrong answers this call gives, when it gives one."""
        return self.skill.wrong_choice(self.problem, self.rng.random())


def reply(call: Call) -> str:
    """The reply to a call about a math or QA problem."""
    match call.operator:
        case "answer_generate":
            return _answered(call)
        case "programmer":
            return _program(call)
        case "sc_ensemble" | "md_ensemble":
            return pick(call)
        case "format":
            return _formatted(call)
        case "review":
            value = extract(call.solution)
            form = canonical(value) if value else "nothing"
            return review_text(call, is_right(call.problem, value), form)
        case "revise":
            return _revised(call)
        case _:
            return _spoken(call) if call.problem.domain == "qa" else _derived(call)


def pick(call: Call) -> str:
    """The letter of the most consistent candidate; among equals, any.

    Long derivations that disagree mislead it, unless one of them was computed.
    """
    choices = candidates(call.user)
    if not choices:
        return "<choice>A</choice>"
    problem, rng = call.problem, call.rng
    forms = [_form(problem, text) for _, text in choices]
    counts = Counter(forms)
    most = max(counts.values())
    best = [i for i, form in enumerate(forms) if counts[form] == most]
    bias = call.profile.biased_pick
    if bias and len(counts) > 1 and min(len(text) for _, text in choices) > _LONG_CHARS:
        checked = [i for i, (_, text) in enumerate(choices) if _CHECKED in text]
        wrong = [i for i, form in enumerate(forms) if not is_right(problem, form)]
        if checked:
            best = [i for i in best if i in checked] or (best if most > 1 else checked)
        elif wrong and call.skill.coin(problem, "misled", bias, rng):
            best = wrong
    if rng.random() > _FOLLOWS_PLURALITY:
        best = list(range(len(choices)))
    return f"<choice>{choices[rng.choice(best)][0]}</choice>"


def review_text(call: Call, right: bool, form: str) -> str:
    """A verdict, and its reasons.

    Args:
        call: The request.
        right: Whether the solution is.
        form: Names the solution: the same one gets the same verdict nearly always.
    """
    chance = call.profile.rejects[not right]
    care = 1 + 0.3 * call.reading.check if not right else 1.0
    rejects = call.skill.coin(
        call.problem, f"review/{derive_seed(form)}", min(0.95, chance * care), call.rng
    )
    chars = CHARS * call.skill.lengths(call.problem).review - 100
    notes = prose.aside(call.rng, chars) if chars > 150 else ""
    if rejects:
        feedback = "The result does not follow: one of the intermediate values is off."
        return f"<verdict>wrong</verdict>\n<feedback>{feedback} {notes}".rstrip() + "</feedback>"
    feedback = "The result follows from the statement and is consistent with it."
    return f"<verdict>right</verdict>\n<feedback>{feedback} {notes}".rstrip() + "</feedback>"


def unknown_reply(operator: str, user: str, rng: random.Random) -> str:
    """A plausible reply about a problem that nobody told the simulator of.

    What it can do without knowing the problem (pick, extract, pass a solution on), it does;
    everything else is wrong.
    """
    draft = section(user, "solution") or ""
    if operator in ("sc_ensemble", "md_ensemble"):
        letters = [letter for letter, _ in candidates(user)] or ["A"]
        return f"<choice>{rng.choice(letters)}</choice>"
    if operator == "review":
        return "<verdict>right</verdict>\n<feedback>No mistake was found.</feedback>"
    if operator == "revise":
        return f"<solution>\n{draft}\n</solution>"
    if operator == "programmer":
        return f"```python\n{solver(prose.UNKNOWN_VALUE, '', rng, crashes=False)}\n```"
    if operator in ("custom_code_generate", "test"):
        name = (section(user, "entry_point") or "").strip()
        name = name if name.isidentifier() else "solution"
        return f"```python\ndef {name}(*args):\n    return None\n```"
    value = extract(draft or user)
    if value is None or value == user.strip():  # a short question is no answer to itself
        value = prose.UNKNOWN_VALUE
    if operator == "answer_generate":
        return f"<thought>{prose.aside(rng, 150)}</thought>\n<answer>{value}</answer>"
    if operator == "format":
        return f"<answer>{value}</answer>"
    code = _CODE_BLOCK.search(user)
    if code:
        return code[0]
    short = rng.random() < short_chance(read_instruction(user), draft=True)
    return value if short else f"What was asked for is **{value}**. {prose.spoken(rng, 100)}"


def _gold(problem: Problem) -> str:
    return extract(problem.answer) or problem.answer


def _wrong(call: Call) -> str:
    wrong = wrong_values(call.problem)
    return wrong[min(call.wrong_index(), len(wrong) - 1)]


def _value(call: Call, family: str, gain: float, draft: str | None) -> str:
    """The answer that a call comes to: the draft's, mostly, or its own.

    Args:
        call: The request.
        family: Kind of method.
        gain: Of the method over one written answer.
        draft: An answer that the request shows; None for none.
    """
    right = draft is not None and is_right(call.problem, draft)
    if draft is not None:
        # Named by the draft's value, so that repeats agree.
        habit = f"heeds/{canonical(draft)}"
        if call.habit(habit, call.profile.heeds[not right]):
            return _gold(call.problem) if right else draft
    found = call.solves(family, gain)
    return _gold(call.problem) if found else _wrong(call)


def _gain(call: Call) -> float:
    """What operator and instruction add to a written answer."""
    profile, reading = call.profile, call.reading
    gain = profile.gains.get(call.operator, 0.0)
    if call.operator == "custom":
        gain += profile.reasoning * min(1.0, reading.reasoning + 0.5 * reading.grounding)
    return gain


def _answered(call: Call) -> str:
    draft = mentioned(call.problem, outside(call.user, call.problem))
    value = _phrased(call, _value(call, "written", _gain(call), draft))
    lengths = call.skill.lengths(call.problem)
    thought = prose.aside(call.rng, CHARS * lengths.thought)
    if call.problem.domain == "qa" and not call.habit("short answer", _SURE_ANSWER):
        value = f"The text names {value} in this place."
    return f"<thought>{thought}</thought>\n<answer>{value}</answer>"


def _phrased(call: Call, value: str) -> str:
    """A right short answer in the model's words: at times a word too many or too few."""
    if not call.profile.near_misses or not is_right(call.problem, value):
        return value
    profile = call.profile
    closely = call.skill.coin(
        call.problem,
        "phrase",
        1 - profile.near_misses,
        call.rng,
        wording=call.wording,
        share=profile.rephrases,
    )
    if closely:
        return _gold(call.problem)
    return near_miss(call.problem)


def _spoken(call: Call) -> str:
    """A free reply to a QA problem: the short answer where that is asked for, else a sentence."""
    problem, reading, rng = call.problem, call.reading, call.rng
    draft = mentioned(problem, call.around)
    value = _phrased(call, _value(call, "written", _gain(call), draft))
    chance = short_chance(reading, draft=draft is not None, plain=call.profile.plain_drafts)
    if call.habit("short", chance):
        return with_unit(problem, value) if reading.units > 0.6 else value
    tokens = call.skill.lengths(problem).free * (1 + reading.talk + reading.reasoning)
    chars = int(CHARS * tokens) - 75
    rest = prose.spoken(rng, chars)
    if draft is not None and reading.check > 0.3:
        return f"Taking the text into account, **{value}** fits the question. {rest}".strip()
    return f"The text puts it plainly: what the question asks for is **{value}**. {rest}".strip()


def _derived(call: Call) -> str:
    """A free reply to a math problem: a derivation and its result, which may be hard to read."""
    problem, reading, rng, profile = call.problem, call.reading, call.rng, call.profile
    draft = mentioned(problem, call.around)
    if reading.plan > _PLANS and reading.closing < _PLANS and draft is None:
        return prose.derivation(rng, 2 * call.skill.lengths(problem).free)
    terse = reading.silence > _TERSE and reading.reasoning < 0.5
    gain = _gain(call) - (profile.terse_loss if terse and draft is None else 0.0)
    value = _value(call, "written", gain, draft)
    asked = min(1.0, 1.1 * max(reading.closing, reading.brevity, reading.extract))
    loose = profile.loose_form * (1 - asked)
    if draft is not None:
        loose = max(loose, profile.muddles * max(reading.talk, reading.units))
    if not call.habit("form", 1 - loose):
        return _unreadable(value, rng)
    if terse or (draft is not None and max(reading.brevity, reading.silence) > _TERSE):
        return value
    length = 0.7 if reading.brevity > _TERSE else 1 + profile.prolix * reading.reasoning
    chars = CHARS * length * call.skill.lengths(problem).free
    checked = f"\n{_CHECKED}" if draft is not None else ""
    # The same request opens in the same words, so that a program from it is the same too.
    first = derive_seed(problem.id, call.wording)
    steps = prose.derivation(rng, int(chars) - 60, first)
    return f"{steps}{checked}\n\nTherefore, the result is $\\boxed{{{value}}}$."


def _unreadable(value: str, rng: random.Random) -> str:
    """The answer in running text, with another number after it."""
    other = rng.randint(2, 9)
    steps = prose.derivation(rng, 500)
    end = f"when the {other} from before are counted again as {other + 1}."
    return f"{steps}\n\nThis leaves {value}, or {other} more than what was there at first, {end}"


def _program(call: Call) -> str:
    retried = section(call.user, "failure") is not None
    crashes = call.rng.random() < (1 - _MENDS_CRASH if retried else _CRASHES)
    analysis = section(call.user, "analysis") or ""
    value = _value(
        call, "program", call.skill.program_gain(call.problem), mentioned(call.problem, analysis)
    )
    code = f"```python\n{solver(value, call.problem.question, call.rng, crashes=crashes)}\n```"
    chars = CHARS * call.skill.lengths(call.problem).program - len(code)
    return f"{code}\n\n{prose.code_notes(call.rng, chars)}" if chars > 100 else code


def _formatted(call: Call) -> str:
    value = extract(call.solution)
    if value is None:
        value = " ".join(call.solution.split()[:_KEPT_WORDS]) or prose.UNKNOWN_VALUE
    else:
        reading = call.reading
        chance = _SURE_ANSWER - 0.5 * max(0.0, reading.talk - reading.brevity)
        if not call.habit(f"format/{canonical(value)}", chance):
            value = f"{value} (as the solution says)"
    return f"<answer>{value}</answer>"


def _revised(call: Call) -> str:
    """The solution again, or another one; criticism makes the difference."""
    solution, feedback = call.solution, section(call.user, "feedback") or ""
    value = extract(solution)
    right = is_right(call.problem, value)
    profile = call.profile
    chance = profile.spoils if right else profile.mends
    if "does not follow" not in feedback and "wrong" not in feedback.lower():
        chance *= 0.4
    if not call.habit(f"revise/{canonical(value or '')}", chance):
        return f"<solution>\n{solution}\n</solution>"
    new = _wrong(call) if right else _gold(call.problem)
    if call.problem.domain == "math" and len(solution.split()) > _KEPT_WORDS:
        steps = prose.derivation(call.rng, CHARS * call.skill.lengths(call.problem).free)
        new = f"{steps}\n\nThe result is $\\boxed{{{new}}}$."
    return f"<solution>\n{new}\n</solution>"


def _form(problem: Problem, text: str) -> str:
    if problem.domain == "code":
        return fingerprint(code_in(text))
    value = extract(text)
    return canonical(value) if value is not None else text.strip()
