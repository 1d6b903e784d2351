"""What an untrained policy's workflows look like: random operator sequences per domain.

The tiny policy learns from these by supervision, so they are the prior that GRPO starts from. The
choice of a sequence is blind to its quality on purpose: good, poor, needlessly long and doubled
sequences all occur, as in what a small language model writes. Flaws are not made here
(`flaws.py`), nor is the text that holds the code (`synthetic.py`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aflow_grpo.records import Domain

__all__ = ["MOST_STEPS", "Choice", "Draft", "Plan", "draft_of", "draft_workflow", "table_sizes"]

MOST_STEPS = 2
"""Most steps after the first one, each of one or two operators."""
_STOP_SHARE = 0.45
"""Chance of ending after each step."""
_PROMPT_SHARE = 0.6
"""Share of Custom calls whose instruction stands under `prompts` rather than in the code."""

_INSTRUCTIONS: dict[Domain, tuple[str, ...]] = {
    "math": ("Solve step by step.", "Give only the final number.", "Use algebra."),
    "code": ("Write clean Python.", "Return only the code.", "Think of edge cases."),
    "qa": ("Answer briefly.", "Give only the final answer.", "Use the context."),
}


@dataclass(frozen=True)
class Draft:
    """The body of a workflow's `__call__`, before flaws and before rendering."""

    lines: tuple[str, ...]
    """Statements without the method's own indentation; the `return` is not among them."""
    answer: str
    """The expression that the workflow returns as its answer."""
    source: str
    """Attribute of the operator that the workflow begins with."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    """Operator name -> instruction."""

    def then(self, lines: tuple[str, ...], answer: str) -> Draft:
        """The same draft with more statements and another answer."""
        return Draft((*self.lines, *lines), answer, self.source, self.prompts)


@dataclass(frozen=True)
class _Source:
    """One way of getting a first solution: a call, and where its answer is."""

    operator: str
    variable: str
    call: str
    key: str

    @property
    def answer(self) -> str:
        return f"{self.variable}['{self.key}']"


_ANSWER = _Source("answer_generate", "a", "self.answer_generate(input=problem)", "answer")
_CUSTOM = _Source("custom", "c", "self.custom(input=problem)", "response")
_PROGRAM = _Source("programmer", "p", "self.programmer(problem=problem)", "output")
_PROGRAM_CODE = _Source("programmer", "p", "self.programmer(problem=problem)", "code")
_CODE = _Source(
    "custom_code_generate",
    "k",
    "self.custom_code_generate(problem=problem, entry_point=entry_point)",
    "response",
)

_SOURCES: dict[Domain, tuple[tuple[_Source, float], ...]] = {
    "math": ((_ANSWER, 0.42), (_CUSTOM, 0.32), (_PROGRAM, 0.26)),
    "code": ((_CODE, 0.70), (_CUSTOM, 0.15), (_PROGRAM_CODE, 0.15)),
    "qa": ((_ANSWER, 0.50), (_CUSTOM, 0.50)),
}
_VOTE_SHARE: dict[Domain, float] = {"math": 0.25, "code": 0.25, "qa": 0.30}
"""Share of drafts that begin with three samples of their source and an ensemble."""


def _once(source: _Source, _rng: random.Random) -> tuple[tuple[str, ...], str]:
    return (f"{source.variable} = await {source.call}",), source.answer


def _vote(source: _Source, rng: random.Random) -> tuple[tuple[str, ...], str]:
    """Three samples in a loop or comprehension, then an ensemble."""
    sample: tuple[str, ...]
    if rng.random() < 0.5:
        sample = (f"s = [(await {source.call})['{source.key}'] for _ in range(3)]",)
    else:
        sample = (
            "s = []",
            "for _ in range(3):",
            f"    {source.variable} = await {source.call}",
            f"    s.append({source.answer})",
        )
    if rng.random() < 0.15:
        return (
            *sample,
            "m = await self.md_ensemble(solutions=s, problem=problem)",
        ), "m['solution']"
    return (*sample, "e = await self.sc_ensemble(solutions=s, problem=problem)"), "e['response']"


def _review(draft: Draft, rng: random.Random) -> Draft:
    """Review, then revise: only what was found wrong, or in any case (which wastes a call)."""
    judge = "r = await self.review(problem=problem, solution=x)"
    mend = "v = await self.revise(problem=problem, solution=x, feedback=r['feedback'])"
    opening = (f"x = {draft.answer}", judge)
    if rng.random() < 0.65:
        check = ("if not r['review_result']:", f"    {mend}", "    x = v['solution']")
        return draft.then((*opening, *check), "x")
    return draft.then((*opening, mend), "v['solution']")


def _format(draft: Draft, _rng: random.Random) -> Draft:
    call = f"f = await self.format(problem=problem, solution={draft.answer})"
    return draft.then((call,), "f['solution']")


def _program(draft: Draft, _rng: random.Random) -> Draft:
    call = f"p = await self.programmer(problem=problem, analysis={draft.answer})"
    return draft.then((call,), "p['output']")


def _test(draft: Draft, _rng: random.Random) -> Draft:
    call = f"t = await self.test(problem=problem, solution={draft.answer}, entry_point=entry_point)"
    return draft.then((call,), "t['solution']")


def _refine(draft: Draft, _rng: random.Random) -> Draft:
    """A Custom call over problem and solution: AFlow's runs show that it often does harm."""
    return draft.then((f"c = await self.custom(input=problem + {draft.answer})",), "c['response']")


def _compare(source: _Source) -> Callable[[Draft, random.Random], Draft]:
    """A second solution from `source`, and an ensemble of the two."""

    def step(draft: Draft, _rng: random.Random) -> Draft:
        lines = (
            f"y = {draft.answer}",
            f"{source.variable} = await {source.call}",
            f"e = await self.sc_ensemble(solutions=[y, {source.answer}], problem=problem)",
        )
        return draft.then(lines, "e['response']")

    return step


def _cascade(source: _Source) -> Callable[[Draft, random.Random], Draft]:
    """A second solution from `source`; only if it differs, a third, and an ensemble of all."""

    def step(draft: Draft, _rng: random.Random) -> Draft:
        lines = (
            f"y = {draft.answer}",
            f"{source.variable} = await {source.call}",
            f"x = {source.answer}",
            "if x != y:",
            f"    {source.variable} = await {source.call}",
            f"    e = await self.sc_ensemble(solutions=[x, y, {source.answer}], problem=problem)",
            "    x = e['response']",
        )
        return draft.then(lines, "x")

    return step


_Step = Callable[[Draft, random.Random], Draft]
_STEPS: dict[Domain, tuple[tuple[_Step, float], ...]] = {
    "math": (
        (_review, 0.28),
        (_program, 0.24),
        (_format, 0.20),
        (_refine, 0.14),
        (_compare(_ANSWER), 0.08),
        (_cascade(_ANSWER), 0.06),
    ),
    "code": ((_test, 0.46), (_review, 0.28), (_refine, 0.14), (_compare(_CODE), 0.12)),
    "qa": (
        (_format, 0.40),
        (_review, 0.26),
        (_refine, 0.18),
        (_compare(_ANSWER), 0.09),
        (_cascade(_ANSWER), 0.07),
    ),
}


def _pick(weighted: tuple[tuple[_Step, float], ...], rng: random.Random) -> _Step:
    return rng.choices([step for step, _ in weighted], [weight for _, weight in weighted])[0]


def _instruct(draft: Draft, domain: Domain, rng: random.Random) -> Draft:
    """Give a draft with Custom calls an instruction: as a prompt, in the code, or none."""
    if not any("self.custom(" in line for line in draft.lines):
        return draft
    text = rng.choice(_INSTRUCTIONS[domain])
    if rng.random() < _PROMPT_SHARE:
        return Draft(draft.lines, draft.answer, draft.source, {"Custom": text})
    if rng.random() < 0.5:
        return draft
    written = tuple(
        line.replace(
            "self.custom(input=problem)", f"self.custom(input=problem, instruction='{text}')"
        )
        for line in draft.lines
    )
    return Draft(written, draft.answer, draft.source, draft.prompts)


def draft_workflow(domain: Domain, rng: random.Random) -> Draft:
    """One random draft for `domain` that the contract allows; all choices come from `rng`."""
    sources = _SOURCES[domain]
    source = rng.choices([s for s, _ in sources], [weight for _, weight in sources])[0]
    begin = _vote if rng.random() < _VOTE_SHARE[domain] else _once
    lines, answer = begin(source, rng)
    draft = Draft(lines, answer, source.operator)
    for _ in range(MOST_STEPS):
        if rng.random() < _STOP_SHARE:
            break
        draft = _pick(_STEPS[domain], rng)(draft, rng)
    return _instruct(draft, domain, rng)


Choice = tuple[int, int]
"""Position in a domain's table of sources or steps, and the seed of how it is written."""


@dataclass(frozen=True)
class Plan:
    """A draft as the choices that made it, so that one of them can be changed."""

    source: Choice
    vote: bool = False
    """Whether it begins with three samples of the source and an ensemble."""
    steps: tuple[Choice, ...] = ()
    """At most `MOST_STEPS`."""
    instruction: int = 0
    """Seed of what Custom calls are told."""


def table_sizes(domain: Domain) -> tuple[int, int]:
    """How many sources and how many steps there are to choose from."""
    return len(_SOURCES[domain]), len(_STEPS[domain])


def draft_of(domain: Domain, plan: Plan) -> Draft:
    """The draft that a plan describes; every one that `draft_workflow` can make has a plan."""
    which, seed = plan.source
    source = _SOURCES[domain][which][0]
    begin = _vote if plan.vote else _once
    lines, answer = begin(source, random.Random(seed))
    draft = Draft(lines, answer, source.operator)
    for which, seed in plan.steps:
        draft = _STEPS[domain][which][0](draft, random.Random(seed))
    return _instruct(draft, domain, random.Random(plan.instruction))
