"""Texts as Python literals that a person can read: one line of text a line, whatever is in it."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["quoted", "quoted_mapping"]

_MOST = 88
"""Longest literal on one line, in characters."""


def quoted(text: str) -> str:
    """A literal in double quotes; what cannot be seen is escaped, so is half a surrogate pair."""
    inner = repr("'" + text)[2:-1]  # with a single quote in it, repr chooses double ones
    if '"' in text:
        # Unless there are double quotes too: then it escapes the single ones.
        inner = inner.replace("\\'", "'").replace('"', '\\"')
        return f'"{inner.removeprefix(chr(39))}"'
    return f'"{inner}"'


def quoted_mapping(texts: Mapping[str, str]) -> str:
    """An assignment's right side: ``{`` to ``}``, one entry after the other."""
    if not texts:
        return "{}"
    lines = ["{"]
    for name, text in texts.items():
        pieces = _pieces(text)
        if len(pieces) == 1:
            lines.append(f"    {quoted(name)}: {pieces[0]},")
        else:
            lines += [f"    {quoted(name)}: (", *(f"        {p}" for p in pieces), "    ),"]
    return "\n".join([*lines, "}"])


def _pieces(text: str) -> list[str]:
    """The text cut at its line ends, and where a line is too long."""
    pieces: list[str] = []
    for line in text.splitlines(keepends=True) or [""]:
        while len(quoted(line)) > _MOST and len(line) > _MOST // 2:
            at = line.rfind(" ", 1, _MOST // 2) + 1 or _MOST // 2
            pieces.append(quoted(line[:at]))
            line = line[at:]
        pieces.append(quoted(line))
    return pieces
