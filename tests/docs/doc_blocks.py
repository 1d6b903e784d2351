"""The fenced blocks of the pages, and the commands in the opening comments of the configs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

__all__ = [
    "LANGUAGES",
    "ROOT",
    "Block",
    "blocks_of",
    "links_of",
    "pages",
    "spans_of",
]

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = ("bash", "python", "yaml", "json", "text", "sql", "mermaid")
"""What a block may be; `text` is what a command prints."""
_FILE = re.compile(r"^(?:#|<!--) ([\w./-]+\.(?:py|ya?ml|jsonl?|txt|env))(?: -->)?$")


@dataclass(frozen=True)
class Block:
    """One fenced block, or one command of a config's opening comment."""

    page: str
    """Relative to the checkout."""
    line: int
    """Of the opening fence, from 1."""
    language: str
    text: str
    heading: str = ""
    """The heading that it stands under."""

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str | None:
        """The name of the file that the block is, which its first line gives as a comment."""
        first = _FILE.match(self.text.split("\n", 1)[0])
        return first[1] if first else None


def pages() -> list[str]:
    """Every page and every config, relative to the checkout."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    for folder, pattern in (
        ("docs", "*.md"),
        ("experiments", "README.md"),
        ("data", "README.md"),
        ("configs", "*.yaml"),
        ("experiments", "*.yaml"),
    ):
        found += sorted((ROOT / folder).rglob(pattern))
    hidden = (ROOT / "docs" / "_build", ROOT / "data" / "prepared")
    return [
        str(path.relative_to(ROOT)) for path in found if not any(h in path.parents for h in hidden)
    ]


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page, in its order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if page.endswith(".yaml"):
        return _of_comment(page, text)
    found, heading = [], ""
    tokens = MarkdownIt("commonmark").parse(text)
    for i, token in enumerate(tokens):
        if token.type == "heading_open":
            heading = tokens[i + 1].content
        if token.type in ("fence", "code_block"):
            line = (token.map or [0])[0] + 1
            language = token.info.split(" ")[0] if token.type == "fence" else "indented"
            if not language.startswith("{"):  # a directive of the site, e.g. its navigation
                found.append(Block(page, line, language, token.content, heading))
    return found


def _of_comment(page: str, text: str) -> list[Block]:
    """The commands that a config opens with, one block each."""
    found: list[Block] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith("#"):
            break
        words = line.removeprefix("#")
        # Indented once for a command, further for its next line.
        if re.match(r"   (?! )", words):
            found.append(Block(page, number, "bash", re.sub(r" {3,}\(.*\)$", "", words.strip())))
        elif re.match(r"     \S", words) and found:
            last = found.pop()
            found.append(Block(page, last.line, "bash", f"{last.text} {words.strip()}"))
    return found


def spans_of(page: str) -> list[str]:
    """The commands that stand in running text: code spans that begin with `aflow-grpo VERB`."""
    if page.endswith(".yaml"):
        return []
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        for child in token.children or []:
            if child.type == "code_inline" and re.search(r"(^|\s)aflow-grpo [a-z]", child.content):
                found.append(child.content)
    return found


def links_of(page: str) -> list[str]:
    """Where a page's links and pictures lead."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        for child in token.children or []:
            target = child.attrs.get("href") or child.attrs.get("src")
            if target:
                found.append(str(target))
    return found
