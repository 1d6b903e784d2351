"""What an instruction asks for, read from its words, and how far a reply follows it.

A workflow can give every operator an instruction. Recorded runs show that its wording decides more
than most operators do: on DROP a request for the short answer moves .061 to .740, and a step that
asks to verify an answer that was short already costs .02 to .69. So the reading is graded: every
family of phrases has a strength in [0, 1] that grows with each of its phrases found, and families
pull against each other (an explanation is asked for, and the answer alone).

Phrases match whole words; case, digits and punctuation do not count. A forbidden explanation is
not a wanted one. Not covered: meaning beyond these phrases (an instruction in other words, or one
that is wrong about the problem, is read as empty), and what a reply then says (`replies`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["Reading", "read_instruction", "short_chance"]

_EDGE_CHARS = 1200
"""An instruction longer than two of these is read at both ends: in between are drafts."""
_BOXED_VALUE = re.compile(r"\\boxed\{[^{}]*\d")
"""A draft's, not a request for one."""
_NO_WORDS = re.compile(r"[^a-z]+")

_SILENCE: Mapping[str, float] = {
    "no explanation": 0.7, "no explanations": 0.7, "without explanation": 0.7,
    "without any explanation": 0.7, "without explanations": 0.7, "do not explain": 0.7,
    "don t explain": 0.7, "no reasoning": 0.7, "without reasoning": 0.7, "no working": 0.6,
    "do not show": 0.6, "no commentary": 0.6, "no comments": 0.3, "no other text": 0.7,
    "no additional text": 0.7, "no extra text": 0.7, "no extra words": 0.6, "no extra": 0.4,
    "nothing else": 0.7, "nothing more": 0.6, "no sentence": 0.5, "no sentences": 0.5,
    "no full sentence": 0.5, "not a sentence": 0.5, "no preamble": 0.5, "no units": 0.2,
    "without any additional": 0.6, "no additional": 0.5, "avoid explanations": 0.6,
    "omit": 0.2, "do not include": 0.3, "do not add": 0.4,
}  # fmt: skip
_BREVITY: Mapping[str, float] = {
    "only": 0.65, "alone": 0.8, "just": 0.5, "short": 0.6, "shortest": 0.75, "shortly": 0.5,
    "concise": 0.45, "concisely": 0.45, "succinct": 0.45, "brief": 0.5, "briefly": 0.55,
    "few words": 0.7, "one word": 0.7, "single word": 0.7, "a word or": 0.5, "single number": 0.7,
    "as short as possible": 0.5, "exact answer": 0.5, "exact phrase": 0.6, "exact span": 0.6,
    "exact words": 0.5, "exact": 0.3, "minimal": 0.5, "direct answer": 0.35, "directly": 0.25,
    "bare": 0.6, "number only": 0.5, "answer only": 0.5, "plain number": 0.5, "short form": 0.4,
    "entity": 0.25, "span": 0.35, "phrase": 0.25, "numeric value": 0.3, "noun phrase": 0.4,
    "precise": 0.15, "to the point": 0.35,
}  # fmt: skip
_TALK: Mapping[str, float] = {
    "explain": 0.7, "explanation": 0.6, "explanations": 0.6, "explaining": 0.6, "detail": 0.5,
    "details": 0.4, "detailed": 0.55, "elaborate": 0.6, "thorough": 0.4, "thoroughly": 0.4,
    "comprehensive": 0.5, "justify": 0.55, "justification": 0.55, "describe": 0.4, "discuss": 0.5,
    "full sentence": 0.6, "complete sentence": 0.6, "complete sentences": 0.6, "paragraph": 0.5,
    "summarize": 0.3, "summary": 0.3, "support your": 0.4, "evidence": 0.25, "why": 0.35,
    "at length": 0.5, "rationale": 0.5,
}  # fmt: skip
_REASONING: Mapping[str, float] = {
    "step by step": 0.7, "steps": 0.35, "step": 0.2, "think": 0.35, "reason": 0.4,
    "reasoning": 0.4, "break down": 0.4, "break it down": 0.4, "show your work": 0.5,
    "show your": 0.3, "derive": 0.35, "solve": 0.15, "plan": 0.3, "carefully": 0.2,
    "analyze": 0.3, "analyse": 0.3, "analysis": 0.25, "work through": 0.4, "logically": 0.25,
    "algebra": 0.15, "chain of thought": 0.6, "quote": 0.2,
}  # fmt: skip
_CHECK: Mapping[str, float] = {
    "verify": 0.7, "verification": 0.6, "check": 0.5, "double check": 0.3, "validate": 0.65,
    "confirm": 0.5, "review": 0.55, "make sure": 0.2, "ensure": 0.15, "is correct": 0.35,
    "correctness": 0.4, "accuracy": 0.2, "inconsistencies": 0.4, "errors": 0.3, "mistakes": 0.3,
    "mistake": 0.3, "critique": 0.6, "evaluate": 0.4, "assess": 0.45, "issues": 0.35,
    "feedback": 0.5, "criticise": 0.6, "criticize": 0.6,
}  # fmt: skip
_REWRITE: Mapping[str, float] = {
    "rewrite": 0.7, "improve": 0.55, "improved": 0.5, "refine": 0.5, "refined": 0.4,
    "revise": 0.6, "optimize": 0.6, "optimise": 0.6, "refactor": 0.7, "enhance": 0.55,
    "robust": 0.3, "fix": 0.4, "correct it": 0.35, "correct the": 0.3, "corrected": 0.4,
    "clean up": 0.4, "clean": 0.3, "modify": 0.45, "update": 0.35, "better version": 0.5,
}  # fmt: skip
_EXTRACT: Mapping[str, float] = {
    "format": 0.5, "formatted": 0.45, "extract": 0.65, "final answer": 0.45, "clean": 0.3,
    "reformat": 0.5, "shorten": 0.6, "boil down": 0.5, "trim": 0.5, "condense": 0.55,
}  # fmt: skip
_CLOSING: Mapping[str, float] = {
    "final answer": 0.55, "last line": 0.6, "end with": 0.45, "boxed": 0.8, "box": 0.4,
    "conclude": 0.35, "at the end": 0.45, "the number": 0.35, "number": 0.2, "numeric": 0.35,
    "numerical": 0.35, "the answer is": 0.5, "clearly state": 0.4, "single value": 0.5,
    "step by step": 0.4, "final": 0.3, "alone": 0.5, "only": 0.3,
}  # fmt: skip
_UNITS: Mapping[str, float] = {
    "with units": 0.8, "with its unit": 0.8, "with the unit": 0.8, "include units": 0.8,
    "include the unit": 0.8, "include the units": 0.8, "including units": 0.8, "units": 0.35,
    "unit of": 0.4,
}  # fmt: skip
_GROUNDING: Mapping[str, float] = {
    "context": 0.4, "passage": 0.4, "from the text": 0.4, "according to": 0.3, "paragraph": 0.2,
    "quote": 0.4, "facts": 0.2,
}  # fmt: skip
_EDGES: Mapping[str, float] = {
    "edge cases": 0.6, "edge case": 0.5, "corner cases": 0.6, "special cases": 0.4,
    "empty input": 0.4, "empty inputs": 0.4, "constraints": 0.3, "all cases": 0.3,
    "boundary": 0.4, "examples": 0.2,
}  # fmt: skip
_CODE: Mapping[str, float] = {
    "code": 0.4, "function": 0.3, "python": 0.3, "implementation": 0.4, "implement": 0.5,
    "program": 0.3, "write": 0.3, "solution": 0.15,
}  # fmt: skip

_FAILURE: Mapping[str, float] = {
    "failed": 0.6, "fails": 0.6, "failing": 0.6, "fail": 0.4, "does not pass": 0.6, "error": 0.4,
    "is wrong": 0.5, "incorrect": 0.4, "bug": 0.5, "bugs": 0.4, "debug": 0.5,
}  # fmt: skip
_PLAN: Mapping[str, float] = {
    "plan": 0.6, "outline": 0.55, "approach": 0.2, "strategy": 0.4, "do not solve": 0.7,
    "don t solve": 0.7, "hint": 0.4, "hints": 0.4,
}  # fmt: skip

_FAMILIES: Mapping[str, Mapping[str, float]] = {
    "brevity": _BREVITY,
    "talk": _TALK,
    "reasoning": _REASONING,
    "check": _CHECK,
    "rewrite": _REWRITE,
    "extract": _EXTRACT,
    "closing": _CLOSING,
    "units": _UNITS,
    "grounding": _GROUNDING,
    "edges": _EDGES,
    "code": _CODE,
    "failure": _FAILURE,
    "plan": _PLAN,
}


@dataclass(frozen=True)
class Reading:
    """How strongly a text asks for something, each in [0, 1]."""

    silence: float = 0.0
    """That nothing be explained."""
    brevity: float = 0.0
    """A short answer."""
    talk: float = 0.0
    """Explanations."""
    reasoning: float = 0.0
    """Work in steps."""
    check: float = 0.0
    """Verification, a critique."""
    rewrite: float = 0.0
    """A better version of what is there."""
    extract: float = 0.0
    """A known answer in its form."""
    closing: float = 0.0
    """A readable final answer."""
    units: float = 0.0
    """Units beside numbers."""
    grounding: float = 0.0
    """What the context says."""
    edges: float = 0.0
    """Care for rare inputs."""
    code: float = 0.0
    """A program."""
    failure: float = 0.0
    """That something be mended which failed."""
    plan: float = 0.0
    """A plan rather than a solution."""

    @property
    def empty(self) -> bool:
        """Whether nothing that is known here was asked for."""
        return self == _EMPTY


_EMPTY = Reading()


def read_instruction(text: str) -> Reading:
    """The reading of an instruction, or of whatever surrounds a problem."""
    if len(text) > 2 * _EDGE_CHARS:
        text = f"{text[:_EDGE_CHARS]} . {text[-_EDGE_CHARS:]}"
    return _read(text)


@lru_cache(maxsize=4096)
def _read(text: str) -> Reading:
    text = _BOXED_VALUE.sub(" ", text)
    words = f" {_NO_WORDS.sub(' ', text.lower()).strip()} "
    if len(words) < 4:
        return _EMPTY
    silence = 0.0
    for phrase, weight in _SILENCE.items():
        if f" {phrase} " in words:
            silence = 1 - (1 - silence) * (1 - weight)
            words = words.replace(f" {phrase} ", " ")
    strengths = {name: _strength(words, phrases) for name, phrases in _FAMILIES.items()}
    return Reading(silence=silence, **strengths)


def _strength(words: str, phrases: Mapping[str, float]) -> float:
    missing = 1.0
    for phrase, weight in phrases.items():
        if phrase in words and f" {phrase} " in words:
            missing *= 1 - weight
    return 1 - missing


def short_chance(reading: Reading, *, draft: bool, plain: float = 0.0) -> float:
    """Chance that a free reply to a QA problem is the short answer alone.

    Fitted to recorded workflows: an empty instruction .01 (DROP .061, HotpotQA .158 in F1), a
    request for the short answer alone .99, a vague format step about .5 (DROP .51, HotpotQA .39),
    a step that verifies or explains .1 (DROP .04 to .26) unless it also asks for the answer alone.

    Args:
        reading: Of what surrounds the problem.
        draft: An answer is there already, so that a short one is likelier.
        plain: How much likelier, on this dataset.
    """
    if reading.empty and not draft:
        return 0.01
    logit = (
        -3.0
        + (1.6 + plain if draft else 0.0)
        + 9.0 * reading.brevity
        + 4.0 * reading.silence
        + 2.2 * reading.extract
        - 3.5 * reading.talk
        - (4.0 if draft else 1.5) * reading.check
        - 0.5 * reading.rewrite
        - 2.0 * reading.reasoning
    )
    least = 0.135 if draft else 0.02
    # A step that checks or rewrites what was short already now and then says what it found.
    most = 1 - 0.12 * max(reading.check, reading.rewrite) if draft else 1.0
    return least + (most - least) / (1 + math.exp(-logit))
