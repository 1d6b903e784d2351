"""Reads objects that are nearly JSON, as models write them, without dropping a character of them.

Understood besides JSON: raw newlines, trailing and missing commas, single, triple and back quotes,
unquoted keys, comments, Python's constants, adjacent string literals, quotes inside a string that
nobody escaped, backslashes likewise, and closing brackets that are missing at the end. Anything
else is not read at all, rather than guessed at; only a string that never ends is taken as it is
and marked. Where a text can be read in several ways, that one is taken whose code is Python.

No library serves. `json_repair` 0.64.5 turns a right ``\\\\\\"`` into a bare quote as soon as there
is a mistake elsewhere, loses code after a quote that nobody escaped, and takes 9 s for 100 kB of
``{`` and more than 15 s for ``{"`` (measured); `json5` and its like refuse raw newlines.

Time is linear in the text, and the Python parser reads a bounded number of characters.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from aflow_grpo.workflow.syntax import SourceError, parse_source, quiet

__all__ = ["CODE_KEYS", "PROMPT_KEYS", "Mended", "is_python", "mended_objects"]

CODE_KEYS = ("graph_code", "graph", "graph.py")
"""Keys of the code, the language's own first."""
PROMPT_KEYS = ("prompts", "prompt", "prompt.py", "prompt_custom")
"""Keys of the prompts: an object, or the text of a prompt file."""

_KEYS = "|".join(re.escape(key) for key in sorted((*CODE_KEYS, *PROMPT_KEYS), reverse=True))
_START = re.compile(
    rf"\{{\s*+(?:(?://|\#)[^\n]*+\n\s*+)?"
    rf"(?:[\"'][\w .-]{{1,40}}[\"']|[\"'`]?(?:{_KEYS})[\"'`]?)\s*+:"
)
_CODE_KEY = re.compile(rf"\b(?:{'|'.join(map(re.escape, CODE_KEYS))})\b")
_BLANK = re.compile(r"(?:\s++|//[^\n]*+|\#[^\n]*+|/\*.*?\*/)*+", re.S)
_WORD = re.compile(r"[A-Za-z_][\w.]*+")
_PLAIN = re.compile(r"[-+]?\d++(?:\.\d++)?(?:[eE][-+]?\d++)?|true|false|null|True|False|None")
_QUOTE = re.compile(r"[rRuU]?(\"\"\"|'''|\"|'|`)")
_ENDS_KEY = re.compile(r"\s*+:")
_ENDS_VALUE = re.compile(
    r"""\s*+(?:[}\]]|\Z|/[/*]|\#|,\s*+(?:["'`{}\[\]]|\w++\s*+:|//|\#|\Z)"""
    r"""|["'`][\w .-]{1,40}["'`]\s*+:)"""
)
_ESCAPES = re.compile(r"(?:\\u[0-9a-fA-F]{4})+|\\(.)", re.S)
_DECODED = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "'": "'", "/": "/", "\\": "\\", "\n": ""}
"""A backslash before anything else is kept: `\\d` and `\\b` are regular expressions, not JSON."""
_CONSTANTS = {
    "true": True, "True": True, "false": False, "False": False, "null": None, "None": None,
}  # fmt: skip

_MAX_STARTS = 4
"""How many places of a text may be tried as the opening of the object."""
_MAX_DEPTH = 8
_MAX_ENDS = 4
"""How many places may be tried as a string's end, from either side."""
_PARSED_CHARS = 200_000
"""How many characters of possible readings the Python parser may get."""


class Mended(NamedTuple):
    """An object that was read, and how."""

    value: dict[str, Any]
    lossy: bool
    """Whether it ends inside a string, so that some of it may be missing."""


class _Unreadable(Exception):
    """The text is no object of the kind that is understood here."""


class _Budget:
    """Characters that the Python parser may still read."""

    def __init__(self) -> None:
        self._left = _PARSED_CHARS

    def is_python(self, code: str) -> bool:
        """Whether `code` parses; False once the budget is spent."""
        self._left -= len(code)
        return self._left >= 0 and is_python(code)


def is_python(code: str) -> bool:
    """Whether `code` is Python with a statement in it."""
    try:
        return bool(parse_source(code, compiled=False).body)
    except SourceError:
        return False


def mended_objects(text: str) -> Iterator[Mended]:
    """The objects with a code key that `text` may hold; for each opening the soundest reading.

    An exact reader comes before a tolerant one: JSON with raw newlines, then the reader of this
    module, then a Python display. The first whose code parses is taken, else the first of all.
    """
    budget = _Budget()
    for count, match in enumerate(_START.finditer(text)):
        start = match.start()
        if count == _MAX_STARTS or not _CODE_KEY.search(text, start):
            return
        first: Mended | None = None
        for mended in _readings(text, start, budget):
            code = _code_of(mended.value)
            if code is None:
                continue
            first = first or mended
            if budget.is_python(code):
                first = mended
                break
        if first is not None:
            yield first


def _readings(text: str, start: int, budget: _Budget) -> Iterator[Mended]:
    try:
        value, _ = json.JSONDecoder(strict=False).raw_decode(text, start)
        if isinstance(value, dict) and not re.search(r"\\[bf]", text):
            yield Mended(value, lossy=False)
    except (ValueError, RecursionError):
        pass
    reader = _Reader(text, start, budget)
    try:
        value = reader.object(0)
        yield Mended(value, reader.lossy)
    except _Unreadable:
        pass
    try:
        with quiet():
            value = ast.literal_eval(text[start : text.rfind("}") + 1])
        if isinstance(value, dict):
            yield Mended(value, lossy=False)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass


def _code_of(value: dict[str, Any]) -> str | None:
    """The code of an object; an empty text when it has the key but no text."""
    key = next((key for key in CODE_KEYS if key in value), None)
    if key is None:
        return None
    return value[key] if isinstance(value[key], str) else ""


class _Reader:
    """Reads one object from a position of a text; see the module for what it understands.

    Args:
        text: The whole text.
        position: Where the object opens.
        budget: What the Python parser may still read.
    """

    def __init__(self, text: str, position: int, budget: _Budget) -> None:
        self._text = text
        self._at = position
        self._budget = budget
        self.lossy = False
        """Whether a string never ended."""

    def object(self, depth: int) -> dict[str, Any]:
        """An object, from its opening bracket on.

        Raises:
            _Unreadable: For anything that is not understood; nothing is ever skipped.
        """
        found: dict[str, Any] = {}
        self._at += 1
        while not self._closes("}"):
            key = self._key()
            self._blank()
            if self._text[self._at : self._at + 1] != ":" or key in found:
                raise _Unreadable
            self._at += 1
            code = depth == 0 and key in (*CODE_KEYS, *PROMPT_KEYS)
            found[key] = self._value(depth, code=code)
        return found

    def _array(self, depth: int) -> list[Any]:
        found = []
        self._at += 1
        while not self._closes("]"):
            found.append(self._value(depth, code=False))
        return found

    def _closes(self, bracket: str) -> bool:
        """Goes past blanks, a comma, and the closing bracket if it comes; the text's end closes."""
        self._blank()
        if self._text.startswith(",", self._at):
            self._at += 1
            self._blank()
        if self._text.startswith(bracket, self._at):
            self._at += 1
            return True
        return self._at >= len(self._text)

    def _blank(self) -> None:
        match = _BLANK.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _key(self) -> str:
        if _QUOTE.match(self._text, self._at):
            return self._string(_ENDS_KEY, code=False)
        return self._taken(_WORD)

    def _value(self, depth: int, *, code: bool) -> Any:
        self._blank()
        if depth == _MAX_DEPTH:
            raise _Unreadable
        if self._text.startswith("{", self._at):
            return self.object(depth + 1)
        if self._text.startswith("[", self._at):
            return self._array(depth + 1)
        if _QUOTE.match(self._text, self._at):
            return self._string(_ENDS_VALUE, code=code)
        word = self._taken(_PLAIN)
        return _CONSTANTS[word] if word in _CONSTANTS else float(word)

    def _taken(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if not match:
            raise _Unreadable
        self._at = match.end()
        return match.group()

    def _string(self, ends: re.Pattern[str], *, code: bool) -> str:
        """A string, from its opening quote on; `ends` is what follows its closing quote."""
        opening = _QUOTE.match(self._text, self._at)
        assert opening is not None
        quote, start = opening.group(1), opening.end()
        raw = self._text[self._at] in "rR"
        possible = self._possible_ends(quote, start, ends) if code else []
        for end in possible:
            for reading in _decodings(self._text[start:end], quote, raw):
                if self._budget.is_python(reading):
                    self._at = end + len(quote)
                    return reading
        for end in possible or _unescaped(self._text, quote, start):
            after = end + len(quote)
            if len(quote) == 3 or ends.match(self._text, after):
                self._at = after
                return next(_decodings(self._text[start:end], quote, raw))
        self.lossy = True
        self._at = len(self._text)
        return next(_decodings(self._text[start:], quote, raw))

    def _possible_ends(self, quote: str, start: int, ends: re.Pattern[str]) -> list[int]:
        """Where a string of code may end: its first quote, before a known key, at the end."""
        first = next(_unescaped(self._text, quote, start), None)
        if first is None:
            return []
        mark = re.escape(quote)
        before_key = re.compile(rf"{mark}\s*+,?+\s*+[\"'`]?(?:{_KEYS})[\"'`]?\s*+:")
        before_end = re.compile(rf"{mark}\s*+,?+\s*+[}}\]]")
        keys = [m.start() for m in before_key.finditer(self._text, start)][:_MAX_ENDS]
        brackets = [m.start() for m in before_end.finditer(self._text, start)][-_MAX_ENDS:]
        return [
            end
            for end in dict.fromkeys([first, *keys, *reversed(brackets)])
            if ends.match(self._text, end + len(quote))
        ]


def _unescaped(text: str, quote: str, start: int) -> Iterator[int]:
    """Where `quote` stands in `text` from `start` on, without a backslash before it."""
    for match in re.compile(rf"\\.|{re.escape(quote)}", re.S).finditer(text, start):
        if match.group() == quote:
            yield match.start()


def _decodings(text: str, quote: str, raw: bool) -> Iterator[str]:
    """What the inside of a string may mean, the likeliest first, each once.

    All its escapes decoded; all but line ends and tabs; all but quotes; none. Whoever leaves both
    quotes and line ends bare meant the last.
    """
    if "\\" not in text:
        yield text
        return
    readings = [_decoded(text), _decoded(text, "ntr"), _decoded(text, "\"'"), text]
    bare = len(quote) == 1 and "\n" in text and next(_unescaped(text, quote, 0), None) is not None
    yield from dict.fromkeys(reversed(readings) if raw or bare else readings)


def _decoded(text: str, kept: str = "") -> str:
    """The text with its escapes decoded, except those of the characters in `kept`."""

    def decode(escape: re.Match[str]) -> str:
        char = escape.group(1)
        if char is None:
            codes: str = json.loads(f'"{escape.group()}"')
            return codes
        return escape.group() if char in kept else _DECODED.get(char, escape.group())

    return _ESCAPES.sub(decode, text)
