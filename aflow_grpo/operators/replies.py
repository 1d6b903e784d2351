"""Reads the executor's replies: named parts, choices, and the last line as a way out.

A part stands in its tag or in a JSON object, as the endpoint was asked for. A text never breaks a
workflow by its form alone: a missing tag falls back to the text around it, so every key of an
operator's contract is always there. An object that is cut or misses a part is asked for again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from aflow_grpo.llm.structured import fields_of

__all__ = ["Choice", "Parts", "PartsReader", "Vote", "last_line", "tagged"]

_LEAD = re.compile(
    r"(?:so,?\s+|therefore,?\s+)?(?:the\s+)?(?:final\s+)?answer\s*(?:is\b|:)\s*:?\s*", re.I
)
_DECORATION = " \t\n\r.,:;()[]{}<>*_`'\"#"


def tagged(text: str, tag: str) -> str | None:
    """The content of the last `<tag>`, stripped; up to the end when the reply was cut inside it."""
    start = text.rfind(f"<{tag}>")
    if start < 0:
        return None
    content = text[start + len(tag) + 2 :]
    return content.split(f"</{tag}>", 1)[0].strip()


def last_line(text: str) -> str:
    """The last line that says something, without `The answer is`; empty for an empty text."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    return _LEAD.sub("", lines[-1], count=1).strip() or lines[-1]


class Parts(NamedTuple):
    """A reply, taken apart."""

    text: str
    """All of it."""
    by_name: Mapping[str, str | None]
    """Each part; None where the text has no such tag."""


class PartsReader:
    """Reads named parts from a JSON object or from tags.

    Args:
        names: The parts.
    """

    def __init__(self, *names: str) -> None:
        self._names = names

    def parse(self, text: str) -> Parts:
        """The parts.

        Raises:
            ValueError: The text is a JSON object that is cut or misses a part.
        """
        found = fields_of(text, self._names)
        return Parts(text, found or {name: tagged(text, name) for name in self._names})


class Choice:
    """Reads one letter as an index below `count`; one object serves one question.

    `A`, `(A)`, `A.` and `**A**` are letters, a sentence is not. Refuses a first reply that names
    no candidate, so that it is asked again, and takes the first candidate for a second one.

    Args:
        count: How many candidates there are.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._refused = False

    def parse(self, text: str) -> int:
        """The chosen index.

        Raises:
            ValueError: The first reply names no candidate.
        """
        index = _index(text, self._count)
        if index is not None:
            return index
        if self._refused:
            return 0
        self._refused = True
        last = chr(ord("A") + self._count - 1)
        raise ValueError(f"expected one letter from A to {last}.")


class Vote:
    """Reads one letter of several votes; one that names no candidate is lost, not asked again.

    Args:
        count: How many candidates there are.
    """

    def __init__(self, count: int) -> None:
        self._count = count

    def parse(self, text: str) -> int | None:
        """The chosen index, or None."""
        return _index(text, self._count)


def _index(text: str, count: int) -> int | None:
    try:
        found = fields_of(text, ("choice",))
    except ValueError:
        return None
    choice = tagged(text, "choice") if found is None else found["choice"]
    letter = (text if choice is None else choice).strip(_DECORATION).upper()
    if len(letter) != 1 or not "A" <= letter <= "Z":
        return None
    index = ord(letter) - ord("A")
    return index if index < count else None
