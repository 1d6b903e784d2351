"""Which operator asks, about which problem, with what: the reading half of the wire convention.

The system message opens with the operator's marker; the user message holds the problem somewhere,
and for most operators tagged sections. The markers are injected, since the contract of the
operators is another room's. Not here: what to reply.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from aflow_grpo.records import Problem

__all__ = ["ProblemIndex", "candidates", "operator_of", "outside", "section", "texts_of"]

_CANDIDATE = re.compile(r'<candidate letter="(\w+)">\n(.*?)\n</candidate>', re.DOTALL)
_OPENING_CHARS = 24
_MAX_LABELS = 2


def operator_of(system: str, markers: Mapping[str, str]) -> str:
    """The operator whose marker opens `system`; `custom` when none does (a plain request)."""
    for attribute, marker in markers.items():
        if system.startswith(marker):
            return attribute
    return "custom"


def section(user: str, tag: str) -> str | None:
    """The content of a tagged section, up to the last closing tag (content may hold tags too)."""
    start = user.find(f"<{tag}>\n")
    end = user.rfind(f"\n</{tag}>")
    begin = start + len(tag) + 3
    return user[begin:end] if start >= 0 and begin <= end else None


def candidates(user: str) -> list[tuple[str, str]]:
    """(letter, solution) of every candidate, in order."""
    return _CANDIDATE.findall(section(user, "solutions") or "")


def outside(user: str, problem: Problem) -> str:
    """What surrounds the problem in `user`: instructions, drafts."""
    rest = user.replace(problem.question, " ")
    return rest.replace(problem.context, " ") if problem.context else rest


class ProblemIndex:
    """Finds the problem that a text is about.

    First by lines (the first line of the context or the question stands alone, or after a label
    such as ``Question: ``), then at any place (it is embedded in a sentence). A find is verified
    against the whole question, and against the context where several problems share a question.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self._by_line: dict[str, list[Problem]] = {}
        self._by_opening: dict[str, list[Problem]] = {}
        questions: set[str] = set()
        for problem in problems:
            question = problem.question.strip()
            if problem.context:
                self._add(problem.context.strip(), problem)
            if question not in questions:  # those that share it are told apart by their contexts
                questions.add(question)
                self._add(question, problem)
        self.find = lru_cache(maxsize=1024)(self._find)

    def _add(self, key: str, problem: Problem) -> None:
        self._by_line.setdefault(key.split("\n", 1)[0].strip(), []).append(problem)
        if len(key) >= _OPENING_CHARS:
            self._by_opening.setdefault(key[:_OPENING_CHARS], []).append(problem)

    def _find(self, text: str) -> Problem | None:
        found = _best(self._line_hits(text), text)
        if found is not None and found.context in text:
            return found
        return _best(self._opening_hits(text), text) or found

    def _line_hits(self, text: str) -> list[Problem]:
        hits: list[Problem] = []
        for line in text.split("\n"):
            rest = line.strip()
            for _ in range(_MAX_LABELS + 1):
                hits += self._by_line.get(rest, ())
                rest = rest.partition(": ")[2]
        return hits

    def _opening_hits(self, text: str) -> list[Problem]:
        openings = self._by_opening
        windows = (text[i : i + _OPENING_CHARS] for i in range(len(text) - _OPENING_CHARS + 1))
        return [problem for window in windows if window in openings for problem in openings[window]]


def _best(hits: Sequence[Problem], text: str) -> Problem | None:
    whole = [problem for problem in hits if problem.question.strip() in text]
    with_context = [problem for problem in whole if problem.context and problem.context in text]
    return max(with_context or whole, key=_question_length, default=None)


def _question_length(problem: Problem) -> int:
    return len(problem.question)


def texts_of(messages: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """(system text, user text) of a chat; several messages of a role are joined.

    Raises:
        ValueError: A message has no text content.
    """
    parts: dict[str, list[str]] = {"system": [], "user": []}
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):  # a text may come in parts
            content = "".join(str(part["text"]) for part in content if part.get("text"))
        if not isinstance(content, str) or (not content and message.get("content")):
            raise ValueError("messages[].content: expected a string or text parts")
        role = "system" if message.get("role") == "developer" else message.get("role")
        if role in parts:
            parts[role].append(content)
    return "\n".join(parts["system"]), "\n".join(parts["user"])
