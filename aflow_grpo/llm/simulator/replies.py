"""What the imitated gpt-4o-mini replies, operator by operator, for math and question answering.

Every reply is a function of the request. Effects follow recorded runs: on QA a free prompt gets a
wordy reply that a strict scorer rejects unless the instruction asks for the short answer alone
(DROP .061 before, .740 after formatting); the Programmer lifts middle and hard math; a review is
right about wrong solutions in 80 % of the cases and about right ones in 93 %; a revision mends a
wrong solution in a third of the cases and spoils a right one in 6 to 20 %; picking by consistency
follows the plurality. Code problems are in `code_replies`.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass

from aflow_grpo.llm.simulator import prose
from aflow_grpo.llm.simulator.programs import code_in, fingerprint, solver
from aflow_grpo.llm.simulator.skill import Skill, level_of
from aflow_grpo.llm.simulator.values import canonical, extract, is_right, wrong_values
from aflow_grpo.llm.simulator.wire import candidates, outside, section
from aflow_grpo.records import Problem

__all__ = ["Call", "agrees_with_gold", "pick", "reply", "review_text", "unknown_reply"]

_WANTS_SHORT = re.compile(
    r"\b(only|just|short|shortest|concise|concisely|brief|briefly|exact (?:phrase|answer|span)|"
    r"few words|no explanations?|without (?:any )?explanations?)\b",
    re.IGNORECASE,
)
_DRAFT_GAIN = 0.05
_TERSE_BY_CHANCE = 0.07
_CRASHES = 0.06
_MENDS_CRASH = 0.75
_FORMAT_FAILS = 0.03
_FOLLOWS_PLURALITY = 0.95
_REVIEW_RIGHT = 0.93
_REVIEW_WRONG = 0.80
_REVISE_MENDS = (0.40, 0.35, 0.30)
_REVISE_SPOILS = (0.06, 0.10, 0.20)
_HEEDS_PRAISE = 0.5
_KEPT_WORDS = 15


@dataclass(frozen=True)
class Call:
    """One request, understood."""

    operator: str
    problem: Problem
    user: str
    rng: random.Random
    """Seeded by the request."""
    skill: Skill

    @property
    def level(self) -> int:
        return level_of(self.problem)

    def succeeds(self, gain: float = 0.0) -> bool:
        """Whether this call finds the right answer."""
        return self.rng.random() < self.skill.probability(self.problem, self.operator, gain)

    def wrong_index(self) -> int:
        """Which of the problem's wrong answers this call gives, when it gives one."""
        return self.skill.wrong_choice(self.problem, self.rng.random())


def reply(call: Call) -> str:
    """The reply to a call about a math or QA problem."""
    match call.operator:
        case "answer_generate":
            value = _value(call, _draft_gain(call, outside(call.user, call.problem)))
            thought = prose.thought(call.rng, call.level)
            return f"<thought>{thought}</thought>\n<answer>{value}</answer>"
        case "programmer":
            return _program(call)
        case "sc_ensemble" | "md_ensemble":
            return pick(call)
        case "format":
            return _formatted(call)
        case "review":
            return review_text(call, agrees_with_gold(call.problem, _solution(call)))
        case "revise":
            return _revised(call)
        case _:
            return _free(call)


def agrees_with_gold(problem: Problem, solution: str) -> bool:
    """Whether a solution is right, as far as its text tells."""
    if problem.domain == "code":
        return fingerprint(code_in(solution)) == fingerprint(problem.answer)
    return is_right(problem, extract(solution))


def pick(call: Call) -> str:
    """The letter of the most consistent candidate; among equals, any."""
    choices = candidates(call.user)
    if not choices:
        return "<choice>A</choice>"
    forms = [_form(call.problem, text) for _, text in choices]
    counts = Counter(forms)
    most = max(counts.values())
    best = [
        letter for (letter, _), form in zip(choices, forms, strict=True) if counts[form] == most
    ]
    follows = call.rng.random() < _FOLLOWS_PLURALITY
    letter = call.rng.choice(best) if follows else call.rng.choice(choices)[0]
    return f"<choice>{letter}</choice>"


def review_text(call: Call, right: bool) -> str:
    """A verdict that is mostly right about the solution, and its reasons."""
    truthful = call.rng.random() < (_REVIEW_RIGHT if right else _REVIEW_WRONG)
    if right == truthful:
        feedback = "The steps follow from the statement and the result is consistent with it."
        return f"<verdict>right</verdict>\n<feedback>{feedback}</feedback>"
    feedback = (
        "The result does not follow: one of the intermediate steps uses a wrong value. Redo the "
        "computation from the statement and check the last step again."
    )
    return f"<verdict>wrong</verdict>\n<feedback>{feedback}</feedback>"


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
    value = extract(draft or user) or prose.UNKNOWN_VALUE
    if operator == "answer_generate":
        return f"<thought>{prose.thought(rng, 1)}</thought>\n<answer>{value}</answer>"
    return f"<answer>{value}</answer>" if operator == "format" else value


def _value(call: Call, gain: float = 0.0) -> str:
    if call.succeeds(gain):
        return extract(call.problem.answer) or call.problem.answer
    wrong = wrong_values(call.problem)
    return wrong[min(call.wrong_index(), len(wrong) - 1)]


def _free(call: Call) -> str:
    """Custom: prose around the answer, or the answer alone where the instruction wants that."""
    around = outside(call.user, call.problem)
    value = _value(call, _draft_gain(call, around))
    if _WANTS_SHORT.search(around):
        return value
    if call.problem.domain == "math":
        return (
            f"{prose.steps(call.rng, call.level)}\n\nTherefore, the result is $\\boxed{{{value}}}$."
        )
    if call.rng.random() < _TERSE_BY_CHANCE:
        return value
    return (
        f"According to the passage, what the question asks for is **{value}**. The text says so "
        "where it speaks of the matter, and nothing else in the passage contradicts it."
    )


def _draft_gain(call: Call, around: str) -> float:
    """A draft in the prompt pulls the reply towards itself; instructions are no draft."""
    value = extract(around)
    if value is None:
        return 0.0
    if is_right(call.problem, value):
        return _DRAFT_GAIN
    wrong = {canonical(text) for text in wrong_values(call.problem)}
    return -_DRAFT_GAIN if canonical(value) in wrong else 0.0


def _program(call: Call) -> str:
    retried = section(call.user, "failure") is not None
    share = 1 - _MENDS_CRASH if retried else _CRASHES
    crashes = call.rng.random() < share
    analysis = section(call.user, "analysis") or ""
    value = _value(call, _draft_gain(call, analysis))
    return f"```python\n{solver(value, call.problem.question, call.rng, crashes=crashes)}\n```"


def _formatted(call: Call) -> str:
    solution = _solution(call)
    value = extract(solution)
    if value is None:
        value = " ".join(solution.split()[:_KEPT_WORDS]) or prose.UNKNOWN_VALUE
    elif call.rng.random() < _FORMAT_FAILS:
        value = f"{value} (as the solution says)"
    return f"<answer>{value}</answer>"


def _revised(call: Call) -> str:
    solution, feedback = _solution(call), section(call.user, "feedback") or ""
    right = agrees_with_gold(call.problem, solution)
    criticised = "does not follow" in feedback or "wrong" in feedback.lower()
    chance = (_REVISE_SPOILS if right else _REVISE_MENDS)[call.level - 1]
    if not criticised:
        chance *= _HEEDS_PRAISE
    if call.rng.random() >= chance:
        return f"<solution>\n{solution}\n</solution>"
    problem = call.problem
    wrong = wrong_values(problem)
    gold = extract(problem.answer) or problem.answer
    value = wrong[min(call.wrong_index(), len(wrong) - 1)] if right else gold
    if problem.domain == "math" and len(solution.split()) > _KEPT_WORDS:
        value = f"{prose.thought(call.rng, call.level)}\n\nThe result is $\\boxed{{{value}}}$."
    return f"<solution>\n{value}\n</solution>"


def _solution(call: Call) -> str:
    return section(call.user, "solution") or ""


def _form(problem: Problem, text: str) -> str:
    if problem.domain == "code":
        return fingerprint(code_in(text))
    value = extract(text)
    return canonical(value) if value is not None else text.strip()
