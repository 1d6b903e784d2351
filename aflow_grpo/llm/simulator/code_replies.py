"""What the imitated gpt-4o-mini replies about code problems: programs that are really run.

Right is the problem's reference solution; wrong is one of its three bugs, in plain sight of the
public tests or hidden from them; the tests decide in the end. Recorded: mending after a failed test
lifts MBPP from .728 to .835; rewriting code before it is tested costs .06 to .28, much of it hidden
from MBPP's one public test.
"""

from __future__ import annotations

from aflow_grpo.llm.simulator import prose
from aflow_grpo.llm.simulator.programs import code_in, fingerprint, hidden_bug, visible_bugs
from aflow_grpo.llm.simulator.replies import CHARS, Call, pick, review_text
from aflow_grpo.llm.simulator.wire import outside, section
from aflow_grpo.records import Problem

__all__ = ["reply_with_code"]

_PATCHES = 0.15
"""Chance that it is made to pass the tests it was shown, and those alone."""
_PLANS = 0.5
"""Strength from which a plan is all that a reply gives."""
_ASKED = 0.3
"""Strength from which an instruction counts."""
_EDGE_GAIN = 0.01
_REWRITE_LENGTH = 1.7
"""A rewrite says what it changed."""


def reply_with_code(call: Call) -> str:
    """The reply to a call about a code problem."""
    lengths = call.skill.lengths(call.problem)
    match call.operator:
        case "sc_ensemble" | "md_ensemble":
            return pick(call)
        case "review":
            right, text = _judged(call.problem, call.solution)
            return review_text(call, right, fingerprint(code_in(text)))
        case "revise":
            return f"<solution>\n{_block(_revised(call))}\n</solution>"
        case "test":
            return _explained(call, _mended(call, call.solution), lengths.code)
        case "programmer":
            name = call.problem.entry_point or "the function"
            return _block(f"{_program(call)}\n\n\ndef solve():\n    return {name!r}")
        case "custom_code_generate":
            return _explained(call, _program(call), lengths.code)
        case _:
            return _free(call)


def _program(call: Call) -> str:
    gain = call.profile.gains.get(call.operator, 0.0)
    gain += call.profile.reasoning * call.reading.reasoning + _EDGE_GAIN * call.reading.edges
    if call.solves("code", gain) and call.problem.answer.strip():
        return call.problem.answer
    return _bug(call, call.profile.hidden_bugs, "bug")


def _bug(call: Call, hidden: float, habit: str) -> str:
    """One of the problem's three habitual wrong programs, at times hidden from public tests."""
    problem = call.problem
    bugs = visible_bugs(problem.answer, problem.entry_point)
    index = call.wrong_index() % len(bugs)
    bug = bugs[index]
    if not call.skill.coin(problem, f"{habit} hides {index}", hidden, call.rng):
        return bug
    return hidden_bug(bug, problem.entry_point, problem.public_tests) or bug


def _mended(call: Call, solution: str) -> str:
    """Code after a failed test: what the model can solve it mends, the rest seldom."""
    right, _ = _judged(call.problem, solution)
    if right:
        return code_in(solution)
    understood = call.solves("code") or call.skill.coin(
        call.problem, "mendable", call.profile.mendable, call.rng
    )
    if understood and call.skill.coin(call.problem, "repairs", call.profile.repairs, call.rng):
        return call.problem.answer
    return _bug(call, _PATCHES, "patch")


def _revised(call: Call) -> str:
    right, _ = _judged(call.problem, call.solution)
    feedback = section(call.user, "feedback") or ""
    criticised = "does not follow" in feedback or "wrong" in feedback.lower()
    profile = call.profile
    spoils, mends = (profile.spoils, profile.mends) if criticised else profile.rewrites
    return _rewritten(call, call.solution, right, (spoils, mends))


def _rewritten(call: Call, code: str, right: bool, chances: tuple[float, float]) -> str:
    """A new version of `code`: the same but for `chances` to spoil and to mend it."""
    spoils, mends = chances
    if right and call.habit("spoils", spoils):
        return _bug(call, call.profile.hidden_spoils, "spoilt")
    if not right and call.habit("mends", mends):
        return call.problem.answer
    return code_in(code)


def _free(call: Call) -> str:
    """Custom: new code; about given code a critique, a mended or a rewritten version."""
    problem, reading = call.problem, call.reading
    around, tokens = outside(call.user, problem), call.skill.lengths(call.problem).free
    if not _mentions_code(problem, around):
        if reading.plan > _PLANS:
            return prose.code_notes(call.rng, CHARS * tokens)
        return _explained(call, _program(call), tokens)
    right, code = _judged(problem, around)
    if max(reading.check, reading.edges) > _ASKED > reading.rewrite:
        return _critique(call, right)
    if reading.failure > _ASKED and not right:
        return _explained(call, _mended(call, code), tokens)
    strength = 0.5 + 0.5 * min(1.0, 1.3 * max(reading.rewrite, reading.check))
    spoils, mends = call.profile.rewrites
    new = _rewritten(call, code, right, (spoils * strength, mends * strength))
    return _explained(call, new, _REWRITE_LENGTH * tokens)


def _critique(call: Call, right: bool) -> str:
    """Advice in words; it is right about the code as often as a review."""
    rejects = call.habit(f"critique/{right}", call.profile.rejects[not right])
    opening = "The logic is off in one place." if rejects else "The logic holds up."
    notes = prose.code_notes(call.rng, CHARS * call.skill.lengths(call.problem).review)
    return f"{opening}\n{notes}"


def _mentions_code(problem: Problem, text: str) -> bool:
    return "```" in text or f"def {problem.entry_point}" in text or "return " in text


def _judged(problem: Problem, text: str) -> tuple[bool, str]:
    """(whether the code in a text is right, that code)."""
    # Bugs first: `return total` is the beginning of `return total + 1`.
    for bug in visible_bugs(problem.answer, problem.entry_point):
        hidden = hidden_bug(bug, problem.entry_point, problem.public_tests)
        for code in (hidden, bug):
            if code and code in text:
                return False, code
    if problem.answer.strip() and problem.answer.strip() in text:
        return True, problem.answer
    code = code_in(text)
    return fingerprint(code) == fingerprint(problem.answer), code


def _explained(call: Call, code: str, tokens: float) -> str:
    """Code in a block, with talk around it where the dataset's replies have that length."""
    block = _block(code)
    chars = int(CHARS * tokens) - len(block)
    silent = max(call.reading.silence, call.reading.brevity) > _ASKED
    if silent or chars < len(prose.CODE_INTRO):
        return block
    notes = prose.code_notes(call.rng, chars - len(prose.CODE_INTRO))
    return f"{prose.CODE_INTRO}\n\n{block}\n\n{notes}"


def _block(code: str) -> str:
    return f"```python\n{code.strip()}\n```"
