"""From a completion's text to a workflow source: takes any text, never raises.

Two forms count as written right: the hybrid form (a JSON object with `prompts` and `graph_code`)
and plain Python with a workflow class; each alone, or inside one outer code fence. Everything else
is either mended by a few well-defined repairs (then `repaired` is True: the workflow runs but is
not a direct execution), or a finding. Whether the code is a sound workflow is the validator's
question, not this module's: code with a syntax error comes through as it is.

Not covered: single keys or values that JSON lacks (unquoted keys, `NaN` arithmetic), strings that
were never closed, and AFlow's two-file form.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from aflow_grpo.records import FaultKind, Finding, WorkflowSource
from aflow_grpo.workflow.syntax import MAX_SOURCE_CHARS, SourceError, parse_source, quiet

__all__ = ["ParseResult", "parse_completion"]

_OUTER_FENCE = re.compile(r"\A```[ \t]*(?:json|python|py)?[ \t]*\r?\n(.*)```\Z", re.S | re.I)
_ANY_FENCE = re.compile(r"```[ \t]*\w*[ \t]*\r?\n(.*?)```", re.S)
_CLASS_LINE = re.compile(r"^[ \t]*class[ \t]+\w", re.M)
_OBJECT_START = re.compile(r"\{\s*[\"']")
_CODE_LINE = re.compile(
    r"^(?:from\s+[\w.]+\s+import\b|import\s+\w|class\s+\w+\s*[(:]|(?:async\s+)?def\s+\w|@\w|\w+\s*=)",
    re.M,
)
_CODE_AFTER_PROSE = re.compile(r"^(?:[ \t]+\S|class\s|def\s|async\s)", re.M)
_MAX_OBJECT_STARTS = 4
"""How many places of a text may be tried as the opening of the JSON object."""


@dataclass(frozen=True)
class ParseResult:
    """What a completion's text holds: a workflow source, or the findings that say why not."""

    source: WorkflowSource | None
    findings: tuple[Finding, ...] = ()


def parse_completion(text: str) -> ParseResult:
    """Reads a workflow from a completion.

    Args:
        text: Whatever the policy wrote.

    Returns:
        A result with exactly one of `source` and `findings`. Never raises, for any text.
    """
    if not _encodable([text]):
        return _nothing("the completion holds half of a surrogate pair, no character")
    if len(text) > MAX_SOURCE_CHARS:
        return _nothing(
            f"the completion has {len(text)} characters; at most {MAX_SOURCE_CHARS} are read"
        )
    body = text.strip()
    fenced = _OUTER_FENCE.match(body)
    if fenced:
        body = fenced.group(1).strip()
    if not body:
        return _nothing("the completion is empty")
    value = _load(body, strict=True)
    if isinstance(value, dict):
        return _from_object(value, repaired=False)
    if _is_code(body):
        return _plain(body, repaired=False)
    return _repair(body)


def _repair(body: str) -> ParseResult:
    """Mends what is neither strict JSON nor code alone; the first mended form that fits wins."""
    failed: ParseResult | None = None
    for value in _mended_objects(body):
        result = _from_object(value, repaired=True)
        if result.source is not None:
            return result
        failed = failed or result
    if failed is not None:
        return failed
    for match in _ANY_FENCE.finditer(body):
        if _is_code(match.group(1).strip()):
            return _plain(match.group(1).strip(), repaired=True)
    if _CLASS_LINE.search(body):
        return _code_amid_prose(body)
    return _nothing(
        "found neither a JSON object with `prompts` and `graph_code` nor a `class Workflow`"
    )


def _mended_objects(body: str) -> Iterator[dict[str, Any]]:
    """Objects that name `graph_code`, from the plausible openings in `body`, by mild repairs."""
    starts = [m.start() for m in _OBJECT_START.finditer(body)][:_MAX_OBJECT_STARTS]
    for start in starts:
        tail = body[start:]
        if "graph_code" not in tail:
            return
        mended, end = _balance(tail)
        for candidate in (tail[:end], mended):
            value = _load(candidate, strict=False)
            if value is None:
                value = _literal(candidate)
            if isinstance(value, dict) and "graph_code" in value:
                yield value
                break


def _balance(text: str) -> tuple[str, int]:
    """Drops trailing commas and adds missing closing brackets, outside strings.

    Returns:
        The mended text, cut where the first bracket closes, and how much of `text` it used.
    """
    out: list[str] = []
    open_brackets: list[str] = []
    quote = ""
    escaped = False
    end = len(text)
    for position, char in enumerate(text):
        if quote:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == quote:
                quote = ""
        elif char in "\"'":
            quote = char
        elif char in "{[":
            open_brackets.append("}" if char == "{" else "]")
        elif char in "}]":
            _drop_trailing_comma(out)
            if open_brackets:
                open_brackets.pop()
        out.append(char)
        if not open_brackets:
            end = position + 1
            break
    _drop_trailing_comma(out)
    return "".join(out) + "".join(reversed(open_brackets)), end


def _drop_trailing_comma(out: list[str]) -> None:
    last = len(out) - 1
    while last >= 0 and out[last].isspace():
        last -= 1
    if last >= 0 and out[last] == ",":
        out[last] = ""


def _load(text: str, *, strict: bool) -> Any:
    """`json.loads`, or None for what it refuses; with `strict=False` raw newlines may stand."""
    if not text.startswith("{"):
        return None
    try:
        return json.loads(text, strict=strict)
    except (ValueError, RecursionError):
        return None


def _literal(text: str) -> Any:
    """A Python dictionary display (single or triple quotes), or None."""
    try:
        with quiet():
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _from_object(value: dict[str, Any], *, repaired: bool) -> ParseResult:
    code = value.get("graph_code")
    if not isinstance(code, str) or not code.strip():
        given = "missing" if code is None else f"a {type(code).__name__}: {code!r:.60}"
        return _nothing(f"`graph_code` is {given}; expected Python source as text")
    prompts = value.get("prompts", {})
    if not isinstance(prompts, dict):
        return _wrong(
            f"`prompts` is a {type(prompts).__name__}; expected an object: operator -> instruction"
        )
    for name, prompt in prompts.items():
        if not isinstance(name, str) or not isinstance(prompt, str):
            return _wrong(
                f"`prompts[{name!r:.40}]` is a {type(prompt).__name__}; expected an instruction"
                " as text"
            )
    if not _encodable([code, *prompts, *prompts.values()]):
        return _wrong("a text holds half of a surrogate pair (\\ud800 to \\udfff), no character")
    fenced = _OUTER_FENCE.match(code.strip())
    if fenced:
        code, repaired = fenced.group(1), True
    return ParseResult(WorkflowSource(code, dict(prompts), hybrid=True, repaired=repaired))


def _encodable(texts: Iterable[str]) -> bool:
    """Whether all texts can be written as UTF-8, as every store and the interpreter need."""
    try:
        for text in texts:
            text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain(code: str, *, repaired: bool) -> ParseResult:
    return ParseResult(WorkflowSource(code, {}, hybrid=False, repaired=repaired))


def _is_code(text: str) -> bool:
    """Whether `text` is Python with a class; a faulty class that opens as code also counts."""
    if not _CLASS_LINE.search(text):
        return False
    try:
        parse_source(text)
    except SourceError as error:
        first_line_is_code = _CODE_LINE.match(text) is not None
        return first_line_is_code and not _prose_from(text, error.line)
    return True


def _prose_from(text: str, line: int | None) -> str:
    """The text from `line` on if it is unindented and no code follows, else an empty string."""
    if line is None:
        return ""
    rest = "\n".join(text.split("\n")[line - 1 :])
    return "" if not rest.strip() or _CODE_AFTER_PROSE.search(rest) else rest


def _code_amid_prose(body: str) -> ParseResult:
    """Cuts prose before the first line of code and after the last."""
    first = _CODE_LINE.search(body)
    code = body[first.start() :] if first else body
    try:
        parse_source(code)
    except SourceError as error:
        prose = _prose_from(code, error.line)
        if prose:
            code = code[: len(code) - len(prose)].rstrip()
    return _plain(code, repaired=True)


def _nothing(message: str) -> ParseResult:
    return ParseResult(None, (Finding(FaultKind.NO_WORKFLOW, message),))


def _wrong(message: str) -> ParseResult:
    return ParseResult(None, (Finding(FaultKind.BAD_STRUCTURE, message),))
