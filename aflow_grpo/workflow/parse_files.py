"""AFlow's two-file form in one text: `graph.py` holds the class, `prompt.py` its constants.

Three ways of writing it are told apart: tags (``<graph>``, ``<prompt>``, as AFlow's optimiser
writes), fenced blocks that are named or of which one holds only constants, and comment lines that
name the files. The prompt file is read, never run: what its constants are must be visible in it.

Not covered: constants that are no text, that are computed by calls other than `dedent`, `join`,
`format`, `replace` and the strip methods, and functions in the prompt file. A
workflow that names one is rejected for a
prompt that is not defined.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from dataclasses import replace
from string import Formatter
from typing import NamedTuple

from aflow_grpo.records import Finding
from aflow_grpo.workflow.rules import found
from aflow_grpo.workflow.syntax import MAX_SOURCE_CHARS, SourceError, parse_source

__all__ = [
    "CLASS_LINE",
    "Fence",
    "TwoFiles",
    "fences",
    "find_files",
    "is_prompt_file",
    "prompt_constants",
    "unfenced",
]

CLASS_LINE = re.compile(r"^[ \t]*+class[ \t]++\w", re.M)

_OUTER_FENCE = re.compile(r"\A```[ \t]*+(?:json|python|py)?+[ \t]*+\r?\n(.*)```\Z", re.S | re.I)
_TAG = re.compile(r"<(/?)(graph(?:_code|\.py)?|prompts?(?:\.py|_custom)?)>", re.I)
_FILE = re.compile(r"(?:^|[\s/\\`*:\"'=(])(graph|prompt)\.py\b", re.I)
_LABEL = re.compile(
    r"(?:<!--)?[\s#=*`:\[\-/]*+(?:\d+[.)]\s*)?(?:(?:file|filename|path)[\s:=`\"']*+)?[*`]*+"
    r"(?:[\w.-]+/)*(graph|prompt)\.py[\s:=*`\"'#>\]\-]*(?:[-–—:(].*)?",
    re.I,
)
_MAX_LABEL_CHARS = 120
_MAX_MADE_CHARS = 4 * MAX_SOURCE_CHARS
"""Most characters that a prompt file's statements may build, one after the other."""
_PROMPT_NAME = re.compile(r"^[A-Z_][A-Z0-9_]*\s*=", re.M)


class TwoFiles(NamedTuple):
    """The two files as found in a text."""

    graph: str
    prompt: str
    prose: bool
    """Whether the text holds anything besides them."""


class Fence(NamedTuple):
    """A fenced block."""

    info: str
    """What stands behind the opening fence."""
    label: str
    """The last line before the block that is not blank."""
    body: str
    start: int
    """Offset of the opening fence's line."""
    end: int
    """Offset behind the closing fence."""


def unfenced(text: str) -> str | None:
    """What stands in the one fence around the whole text, if there is one."""
    match = _OUTER_FENCE.match(text)
    return match.group(1) if match else None


def fences(text: str) -> list[Fence]:
    """The fenced blocks of a text, in order; one that never closes reaches to the end."""
    found_blocks: list[Fence] = []
    label = info = ""
    opened: tuple[int, int] | None = None  # offsets of the opening line and of the body
    at = inner = 0
    for line in text.splitlines(keepends=True):
        stripped, after = line.strip(), at + len(line)
        opens = stripped.startswith("```") and "`" not in stripped[3:]
        if opened is not None and opens and stripped[3:]:
            inner += 1
        elif opened is not None and stripped == "```" and inner:
            inner -= 1
        elif opened is not None and stripped.endswith("```"):
            body = text[opened[1] : at + line.rindex("```")]
            found_blocks.append(Fence(info, label, body, opened[0], after))
            opened, label, inner = None, "", 0
        elif opened is None and opens:
            opened, info = (at, after), stripped[3:]
        elif opened is None and stripped:
            label = stripped
        at = after
    if opened is not None:
        found_blocks.append(Fence(info, label, text[opened[1] :], opened[0], len(text)))
    return found_blocks


def find_files(text: str) -> TwoFiles | None:
    """The two files in a text, or None where it is not of that form."""
    files = _by_tags(text) or _by_fences(text) or _by_lines(text)
    return files if files is not None and CLASS_LINE.search(files.graph) else None


def _by_tags(text: str) -> TwoFiles | None:
    """Each tag's part goes to its last closing tag before the other part opens."""
    tags = list(_TAG.finditer(text))
    opening: dict[str, re.Match[str]] = {}
    for tag in tags:
        line_start = text.rfind("\n", 0, tag.start()) + 1
        if not tag.group(1) and not text[line_start : tag.start()].strip():
            opening.setdefault(_kind(tag.group(2)), tag)
    if "graph" not in opening:
        return None
    parts, rest, at = {"prompt": ""}, "", 0
    ordered = sorted(opening.items(), key=lambda item: item[1].start())
    for index, (kind, tag) in enumerate(ordered):
        limit = ordered[index + 1][1].start() if index + 1 < len(ordered) else len(text)
        closing = [
            other
            for other in tags
            if tag.end() <= other.start() < limit
            and other.group(1)
            and other.group(2) == tag.group(2)
        ]
        rest += text[at : tag.start()] + ("" if closing else "no closing tag")
        parts[kind] = _inside(text[tag.end() : closing[-1].start() if closing else limit])
        at = closing[-1].end() if closing else limit
    return TwoFiles(parts["graph"], parts["prompt"], bool(_without_aside(rest + text[at:]).strip()))


def _without_aside(text: str) -> str:
    """The text without AFlow's note on what was changed."""
    before, _, rest = text.partition("<modification>")
    _, closed, after = rest.partition("</modification>")
    return before + after if closed else text


def _kind(name: str) -> str:
    return "graph" if name.lower().startswith("graph") else "prompt"


def _inside(text: str) -> str:
    """A file's text without a fence around it; its first line stays its first."""
    text = text.strip("\r\n")
    inner = unfenced(text.strip())
    return text if inner is None else inner


def _by_fences(text: str) -> TwoFiles | None:
    blocks = [block for block in fences(text) if not block.body.lstrip().startswith("{")]
    if len(blocks) < 2:
        return None
    parts: dict[str, Fence] = {}
    for block in blocks:
        first_line = block.body.lstrip().split("\n", 1)[0]
        label = _LABEL.fullmatch(first_line[:_MAX_LABEL_CHARS])
        named = label or _FILE.search(block.info) or _FILE.search(block.label)
        if named:
            parts.setdefault(named.group(1).lower(), block)
    if not parts and len(blocks) == 2:
        with_class = [block for block in blocks if CLASS_LINE.search(block.body)]
        if len(with_class) == 1 and "prompt_custom" in with_class[0].body:
            other = blocks[1 - blocks.index(with_class[0])]
            parts = {"graph": with_class[0], "prompt": other}
            if not _PROMPT_NAME.search(other.body):
                return None
    if set(parts) != {"graph", "prompt"}:
        return None
    return TwoFiles(parts["graph"].body, parts["prompt"].body, _has_prose(text, parts))


def _has_prose(text: str, parts: dict[str, Fence]) -> bool:
    """Whether there is more outside the two blocks than lines that name the files."""
    rest, at = "", 0
    for block in sorted(parts.values(), key=lambda block: block.start):
        rest += text[at : block.start]
        at = block.end
    lines = (rest + text[at:]).splitlines()
    return any(line.strip() and not _LABEL.fullmatch(line[:_MAX_LABEL_CHARS]) for line in lines)


def _by_lines(text: str) -> TwoFiles | None:
    """Lines that name a file open its part, and stay the first of it if they are comments."""
    parts: dict[str, str] = {}
    name, start, at = "", 0, 0
    for line in text.splitlines(keepends=True):
        bare = len(line) <= _MAX_LABEL_CHARS and not line.startswith((" ", "\t"))
        label = _LABEL.fullmatch(line.rstrip()) if bare else None
        if label:
            if text[start:at].strip():
                parts[name] = parts.get(name, "") + text[start:at]
            name = label.group(1).lower()
            start = at if line.lstrip().startswith("#") else at + len(line)
        at += len(line)
    if name:
        parts[name] = parts.get(name, "") + text[start:]
    missing = {"graph", "prompt"} - set(parts)
    if not name or len(missing) > 1:
        return None
    before = parts.pop("", "")
    if missing:
        parts[missing.pop()], before = before, ""
    if not parts["graph"].strip() or not parts["prompt"].strip():
        return None
    return TwoFiles(_inside(parts["graph"]), _inside(parts["prompt"]), bool(before.strip()))


def prompt_constants(code: str) -> dict[str, str] | Finding:
    """The texts that a prompt file defines, or what is wrong with it, by its own lines."""
    code = _inside(code)
    try:
        tree = parse_source(code)
    except SourceError as error:
        rule = "too-deep" if error.too_deep else "syntax-error"
        return _at_line(rule, f"prompt.py: {error.message}", code, error)
    known: dict[str, str] = {}
    made = 0
    for statement in tree.body:
        for name, value in _bindings(statement):
            text = _text(value, known)
            if text is None:
                known.pop(name, None)
                continue
            known[name] = text
            made += len(text)
            if made > _MAX_MADE_CHARS:
                message = f"prompt.py: its texts add up to more than {_MAX_MADE_CHARS} characters"
                return found("too-long", message, statement)
    return known


def is_prompt_file(code: str) -> bool:
    """Whether Python without any constant may be a prompt file: comments, imports, a docstring."""
    try:
        body = parse_source(_inside(code)).body
    except SourceError:
        return False
    return all(
        not isinstance(node, ast.Expr)
        or (isinstance(node.value, ast.Constant) and isinstance(node.value.value, str))
        for node in body
    )


def _at_line(rule: str, message: str, code: str, error: SourceError) -> Finding:
    finding = found(rule, message, error.line)
    lines = code.split("\n")
    line = error.line if error.line is not None and 1 <= error.line <= len(lines) else None
    source = lines[line - 1].strip()[:120] if line else ""
    return replace(finding, line=line, column=error.column if line else None, source=source)


def _bindings(statement: ast.stmt) -> list[tuple[str, ast.expr]]:
    if isinstance(statement, ast.Assign):
        return [pair for t in statement.targets for pair in _pairs(t, statement.value)]
    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
        target, value = statement.target, statement.value
    elif isinstance(statement, ast.AugAssign):
        target, value = statement.target, ast.Constant(None)
        if isinstance(target, ast.Name):
            value = ast.BinOp(ast.Name(target.id, ast.Load()), statement.op, statement.value)
    else:
        return []
    return [(target.id, value)] if isinstance(target, ast.Name) else []


def _pairs(target: ast.expr, value: ast.expr) -> list[tuple[str, ast.expr]]:
    """Name and value of `a = x`, or of each in `a, b = x, y`."""
    if isinstance(target, ast.Name):
        return [(target.id, value)]
    if isinstance(target, ast.Tuple):
        values = value.elts if isinstance(value, ast.Tuple) else []
        if len(values) != len(target.elts):
            values = [ast.Constant(None)] * len(target.elts)
        pairs = zip(target.elts, values, strict=True)
        return [(t.id, v) for t, v in pairs if isinstance(t, ast.Name)]
    return []


def _text(node: ast.expr, known: dict[str, str]) -> str | None:
    """The text that an expression surely is, by the constants before it."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.JoinedStr):
        return _joined(node.values, known)
    if isinstance(node, ast.FormattedValue):
        plain = node.conversion == -1 and node.format_spec is None
        return _text(node.value, known) if plain else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _joined([node.left, node.right], known)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return _repeated(node, known)
    return _called(node, known) if isinstance(node, ast.Call) else None


def _repeated(node: ast.BinOp, known: dict[str, str]) -> str | None:
    text = _text(node.left, known)
    times = node.right.value if isinstance(node.right, ast.Constant) else None
    if text is None or not isinstance(times, int) or len(text) * times > MAX_SOURCE_CHARS:
        return None
    return text * times


def _joined(parts: list[ast.expr], known: dict[str, str]) -> str | None:
    texts, total = [], 0
    for part in parts:
        text = _text(part, known)
        if text is None:
            return None
        texts.append(text)
        total += len(text)
        if total > 2 * MAX_SOURCE_CHARS:
            return None
    return "".join(texts)


def _called(node: ast.Call, known: dict[str, str]) -> str | None:
    """`dedent(x)`, `cleandoc(x)`, `x.join([y, z])`, `x.strip()` and its kin."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in ("dedent", "cleandoc") and len(node.args) == 1 and not node.keywords:
        text = _text(node.args[0], known)
        clean = textwrap.dedent if name == "dedent" else inspect.cleandoc
        return None if text is None else clean(text)
    if name == "join" and isinstance(node.func, ast.Attribute) and len(node.args) == 1:
        separator, items = node.func.value, node.args[0]
        if isinstance(items, (ast.List, ast.Tuple)):
            between = [part for item in items.elts for part in (separator, item)]
            return _joined(between[1:], known)
    if name in ("format", "replace") and isinstance(node.func, ast.Attribute):
        return _filled(node.func, node, known)
    if isinstance(node.func, ast.Attribute) and not (node.args or node.keywords):
        text = _text(node.func.value, known)
        if text is not None and name in ("strip", "lstrip", "rstrip"):
            stripped: str = getattr(text, name)()
            return stripped
    return None


def _filled(function: ast.Attribute, node: ast.Call, known: dict[str, str]) -> str | None:
    """`x.format(y, z=w)` with plain fields only, and `x.replace(y, z)`."""
    texts = [_text(part, known) for part in (function.value, *node.args)]
    named = {keyword.arg: _text(keyword.value, known) for keyword in node.keywords}
    if None in texts or None in named or None in named.values():
        return None
    template, *given = [str(text) for text in texts]
    if function.attr == "replace":
        fits = len(given) == 2 and given[0] and not named
        return template.replace(given[0], given[1]) if fits else None
    try:
        fields = [part[1:] for part in Formatter().parse(template) if part[1] is not None]
        plain = all(str(f).isidentifier() or not f for f, _, _ in fields)
        if not plain or any(spec or conversion for _, spec, conversion in fields):
            return None
        return template.format(*given, **{str(name): text for name, text in named.items()})
    except (ValueError, KeyError, IndexError):
        return None
