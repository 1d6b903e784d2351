"""docs/troubleshooting.md quotes messages of the program: each of them is still in its source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from aflow_grpo.exits import Exit
from aflow_grpo.records import FaultKind

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
TREES = {
    path: ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "aflow_grpo").rglob("*.py"))
}
ERRORS = {
    *("AFlowError", "ConfigError", "DataError", "ExecutorError", "OutageError", "BudgetSpent"),
    *("SandboxUnavailable", "RankFailed", "DivergedError"),
}
VARIABLE = "\N{REPLACEMENT CHARACTER}"
"""Stands in a message for what is filled in."""
SAYS_WHAT_TO_DO = re.compile(
    r"\b(expected|give|set|use|move|add|take|raise|lower|wait|leave|choose|check|mend|put|serve|"
    r"look|read|sample|ask|install|reinstall|write|needs)\b",
    re.IGNORECASE,
)
WORD = re.compile(r"(?<!\S)[a-z]{2,}\b")
LOG_FIELD = re.compile(r"%[-#0 +]*\d*(?:\.\d+)?[srdgf]")


def text_of(node: ast.expr) -> str:
    """The fixed words of an expression that makes a text."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else VARIABLE
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    return VARIABLE


def texts() -> Iterator[str]:
    """Every text in the package, with a mark for what is filled in."""
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr | ast.Constant):
                found = LOG_FIELD.sub(VARIABLE, text_of(node))
                if len(found) > 8:
                    yield found


def quoted() -> list[str]:
    """The messages on the page: headings and first cells that are code with a message in it."""
    found = re.findall(r"^### `(.+)`$", PAGE, re.MULTILINE)
    heads = r"\| (?:message \| what to do|reason \| what it means) \|\n\|---\|---\|\n"
    rows = re.split(heads, PAGE)[1:]
    for rows_of_one in rows:
        for line in rows_of_one.splitlines():
            if not line.startswith("|"):
                break
            found += re.findall(r"^\| `(.+?)` \|", line)
    return found


def says(text: str, message: str) -> bool:
    """Whether the source's `text` has all fixed words of the page's `message`, in their order."""
    place = 0
    for part in message.split("…"):
        found = text.find(part, place)
        if found < 0:
            return False
        place = found + len(part)
    return True


TEXTS = list(texts())


def test_the_page_quotes_messages() -> None:
    assert len(quoted()) > 90 and len(set(quoted())) == len(quoted())


@pytest.mark.parametrize("message", quoted())
def test_a_quoted_message_is_still_in_the_source(message: str) -> None:
    fixed = "".join(part for part in message.split("…"))
    assert len(fixed.strip(" .:=,;")) >= 5, "too few words to be found by"
    assert any(says(text, message) for text in TEXTS), (
        f"{message!r} is on docs/troubleshooting.md and in no module; mend the page"
    )


def messages() -> Iterator[tuple[str, str]]:
    """(Where, text) of every error for a person whose words stand in one place."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                text = text_of(node.args[0])
                if node.func.id in ERRORS and len(WORD.findall(text)) > 1:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", text


def test_every_error_is_on_the_page_or_says_itself_what_to_do() -> None:
    """The page's general form is "…: expected …"; what says less needs an entry of its own."""
    entries = quoted()
    silent = [
        f"{where}: {text}"
        for where, text in messages()
        if not SAYS_WHAT_TO_DO.search(text) and not any(says(text, entry) for entry in entries)
    ]
    assert silent == [], "give these a remedy, or an entry on docs/troubleshooting.md"


@pytest.mark.parametrize("kind", list(FaultKind))
def test_every_fault_of_a_workflow_is_explained(kind: FaultKind) -> None:
    assert f"`{kind.value}`" in PAGE


@pytest.mark.parametrize("code", [code for code in Exit if code])
def test_every_exit_code_is_explained(code: Exit) -> None:
    assert re.search(rf"^\| (?:\d+, )?{code.value}(?:, \d+)? \|", PAGE, re.MULTILINE)


def test_the_check_would_notice() -> None:
    assert not any(says(text, "No API key for rank …") for text in TEXTS)
