"""From a completion's text to a workflow source: takes any text, never raises.

Three forms count as written right: the hybrid form (a JSON object with `prompts` and
`graph_code`), plain Python with a workflow class, and AFlow's two files (`parse_files`; also as an
object with `graph` and `prompt`); each alone, or inside one outer code fence. Everything else is
either mended (then `repaired` is True: the workflow runs but is not a direct execution), or a
finding. Mending cuts the prose around a workflow and reads what is nearly JSON (`repair`). Whether
the code is a sound workflow is the validator's question, not this module's: code with a syntax
error comes through as it is.

Not covered: objects within objects, lists of workflows, code that is cut into several blocks.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from aflow_grpo.records import Finding, WorkflowSource
from aflow_grpo.workflow.parse_files import (
    CLASS_LINE,
    TwoFiles,
    fences,
    find_files,
    is_prompt_file,
    prompt_constants,
    unfenced,
)
from aflow_grpo.workflow.repair import CODE_KEYS, PROMPT_KEYS, is_python, mended_objects
from aflow_grpo.workflow.rules import found
from aflow_grpo.workflow.syntax import MAX_SOURCE_CHARS, SourceError, parse_source

__all__ = ["ParseResult", "parse_completion"]

_CODE_LINE = re.compile(
    r"^(?:from\s++[\w.]++\s++import\b|import\s++\w|class\s++\w++\s*+[(:]|(?:async\s++)?def\s++\w|@\w"
    r"|\w++\s*+=)",
    re.M,
)
_CODE_AFTER_PROSE = re.compile(r"^(?:[ \t]++\S|class\s|def\s|async\s)", re.M)
_THOUGHTS = re.compile(r"\A\s*+<think>.*?</think>|\A(?!\s*+[{`]).*?^</think>[ \t]*+$", re.S | re.M)


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
    thoughts = _THOUGHTS.match(text)
    body = (text[thoughts.end() :] if thoughts else text).strip()
    inner = unfenced(body)
    if inner is not None and not _holds_blocks(inner.strip()):
        body = inner.strip()
    result = _as_written(body)
    if thoughts and result.source is not None:
        return ParseResult(replace(result.source, repaired=True))
    return result


def _holds_blocks(text: str) -> bool:
    """Whether what stands between a text's first and last fence is more than one block."""
    return "\n```" in text and not text.startswith("{") and not is_python(text)


def _as_written(body: str) -> ParseResult:
    """Reads the forms that are right as written, else mends."""
    if not body:
        return _nothing("the completion is empty")
    value = _load(body)
    if isinstance(value, dict):
        return _from_object(value)
    files = None if body.startswith("{") else find_files(body)
    if files is not None:
        return _from_files(files, body)
    if _is_code(body):
        return _plain(body)
    return _repair(body)


def _repair(body: str) -> ParseResult:
    """Mends what is in none of the forms; the first mended form that fits wins."""
    failed: ParseResult | None = None
    for mended in mended_objects(body):
        result = _from_object(mended.value, repaired=True, lossy=mended.lossy)
        if result.source is not None:
            return result
        failed = failed or result
    if failed is not None:
        return failed
    for block in fences(body):
        if _is_code(block.body.strip()):
            return _plain(block.body.strip(), repaired=True)
    if CLASS_LINE.search(body):
        return _code_amid_prose(body)
    return _nothing(
        "found neither a JSON object with `prompts` and `graph_code` nor a `class Workflow`"
    )


def _load(text: str) -> Any:
    """`json.loads`, or None for what it refuses or what is no object."""
    if not text.startswith("{"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _from_object(
    value: dict[str, Any], *, repaired: bool = False, lossy: bool = False
) -> ParseResult:
    code_key = next((key for key in CODE_KEYS if key in value), CODE_KEYS[0])
    code = value.get(code_key)
    if not isinstance(code, str) or not code.strip():
        given = "missing" if code is None else f"a {type(code).__name__}: {code!r:.60}"
        return _nothing(f"`{code_key}` is {given}; expected Python source as text")
    prompt_key = next((key for key in PROMPT_KEYS if key in value), PROMPT_KEYS[0])
    prompts = _prompts_of(value.get(prompt_key, {}), prompt_key)
    if isinstance(prompts, Finding):
        return ParseResult(None, (prompts,))
    if not _encodable([code, *prompts, *prompts.values()]):
        return _wrong("a text holds half of a surrogate pair (\\ud800 to \\udfff), no character")
    inner = unfenced(code.strip())
    if inner is not None:
        code, repaired = inner, True
    hybrid = (code_key, prompt_key) == (CODE_KEYS[0], PROMPT_KEYS[0])
    hybrid = hybrid and not isinstance(value.get(prompt_key), str)
    return ParseResult(WorkflowSource(code, prompts, hybrid, repaired, lossy))


def _prompts_of(given: Any, key: str) -> dict[str, str] | Finding:
    """Prompts from an object, or from the text of a prompt file."""
    if isinstance(given, str):
        constants = prompt_constants(given)
        if isinstance(constants, dict) and (constants or is_prompt_file(given)):
            return constants
        if isinstance(constants, Finding) and key != PROMPT_KEYS[0]:
            return constants
    if not isinstance(given, dict):
        message = (
            f"`{key}` is a {type(given).__name__}; expected an object: operator -> instruction"
        )
        return found("bad-object", message, None)
    for name, prompt in given.items():
        if not isinstance(name, str) or not isinstance(prompt, str):
            message = f"`{key}[{name!r:.40}]` is a {type(prompt).__name__}"
            return found("bad-object", f"{message}; expected an instruction as text", None)
    return dict(given)


def _encodable(texts: Iterable[str]) -> bool:
    """Whether all texts can be written as UTF-8, as every store and the interpreter need."""
    try:
        for text in texts:
            text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _from_files(files: TwoFiles, body: str) -> ParseResult:
    value = _load(files.prompt.strip())
    given = value if isinstance(value, dict) else files.prompt
    prompts = _prompts_of(given, "prompt.py") if files.prompt.strip() else {}
    if isinstance(prompts, Finding):
        return ParseResult(None, (prompts,))
    if not _encodable([*prompts, *prompts.values()]):
        return _wrong("a text holds half of a surrogate pair (\\ud800 to \\udfff), no character")
    one_module = bool(_read_bare(files.graph, prompts)) and is_python(body)
    code = body if one_module else files.graph
    return ParseResult(WorkflowSource(code, prompts, hybrid=False, repaired=files.prose))


def _read_bare(code: str, names: Iterable[str]) -> set[str]:
    """Which of these names `code` reads without defining them: then the files are one module."""
    try:
        nodes = list(ast.walk(parse_source(code, compiled=False)))
    except SourceError:
        return set()
    read = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    stored = {n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    imports = (n for n in nodes if isinstance(n, (ast.Import, ast.ImportFrom)))
    stored |= {alias.asname or alias.name for node in imports for alias in node.names}
    return set() if "*" in stored else (set(names) & read) - stored


def _plain(code: str, *, repaired: bool = False, lossy: bool = False) -> ParseResult:
    return ParseResult(WorkflowSource(code, {}, hybrid=False, repaired=repaired, lossy=lossy))


def _is_code(text: str) -> bool:
    """Whether `text` is Python with a class; a faulty class that opens as code also counts."""
    if text.startswith("{") or not CLASS_LINE.search(text):
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
    """Cuts prose before the first line of code and after the last; of an object, a part is lost."""
    first = _CODE_LINE.search(body)
    code = body[first.start() :] if first else body
    try:
        parse_source(code)
    except SourceError as error:
        prose = _prose_from(code, error.line)
        if prose:
            code = code[: len(code) - len(prose)].rstrip()
    return _plain(code, repaired=True, lossy=CODE_KEYS[0] in body)


def _nothing(message: str) -> ParseResult:
    return ParseResult(None, (found("no-workflow", message, None),))


def _wrong(message: str) -> ParseResult:
    return ParseResult(None, (found("bad-object", message, None),))
