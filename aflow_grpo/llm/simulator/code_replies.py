"""What the imitated gpt-4o-mini replies about code problems: programs that are really run.

Right is the problem's reference solution, wrong is one of its mutants; the tests decide in the end.
Recorded: mending after a failed test lifts MBPP from .728 to .835; rewriting code that was right
costs .06 to .28.
"""

from __future__ import annotations

from aflow_grpo.llm.simulator import prose
from aflow_grpo.llm.simulator.programs import code_in, mutants
from aflow_grpo.llm.simulator.replies import Call, agrees_with_gold, pick, review_text
from aflow_grpo.llm.simulator.wire import section
from aflow_grpo.seeds import derive_seed

__all__ = ["reply_with_code"]

_MENDABLE = 0.45
"""Share of problems whose failures the model understands."""
_MENDS = (0.05, 0.60)
"""Chance per round that a failing program is mended: not mendable, mendable."""
_REVISE_MENDS = 0.35
_REVISE_SPOILS = (0.08, 0.14, 0.20)


def reply_with_code(call: Call) -> str:
    """The reply to a call about a code problem."""
    match call.operator:
        case "sc_ensemble" | "md_ensemble":
            return pick(call)
        case "review":
            return review_text(call, agrees_with_gold(call.problem, _solution(call)))
        case "revise":
            return f"<solution>\n{_block(_revised(call))}\n</solution>"
        case "test":
            return _block(_mended(call))
        case "programmer":
            name = call.problem.entry_point or "the function"
            return _block(f"{_program(call)}\n\n\ndef solve():\n    return {name!r}")
        case "custom_code_generate":
            return _block(_program(call))
        case _:
            return f"{prose.CODE_INTRO}\n\n{_block(_program(call))}\n\n{prose.CODE_OUTRO}"


def _program(call: Call) -> str:
    return call.problem.answer if call.succeeds() else _mutant(call)


def _mutant(call: Call) -> str:
    """One of the problem's three habitual wrong programs."""
    choices = mutants(call.problem.answer)
    start = derive_seed("habitual bug", call.problem.id)
    # Steps of a third of the list, so that the three differ in kind.
    step = max(1, len(choices) // 3)
    return choices[(start + call.wrong_index() * step) % len(choices)]


def _mended(call: Call) -> str:
    solution = _solution(call)
    if agrees_with_gold(call.problem, solution):
        return code_in(solution)
    mendable = call.skill.latent(call.problem, "mend") < _MENDABLE
    return call.problem.answer if call.rng.random() < _MENDS[mendable] else _mutant(call)


def _revised(call: Call) -> str:
    solution = _solution(call)
    if agrees_with_gold(call.problem, solution):
        spoils = call.rng.random() < _REVISE_SPOILS[call.level - 1]
        return _mutant(call) if spoils else code_in(solution)
    mends = call.rng.random() < _REVISE_MENDS
    return call.problem.answer if mends else code_in(solution)


def _solution(call: Call) -> str:
    return section(call.user, "solution") or ""


def _block(code: str) -> str:
    return f"```python\n{code.strip()}\n```"
