"""The site builds without a warning, with all pages in its navigation; links lead somewhere."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest
from doc_blocks import ROOT, links_of, pages
from markdown_it import MarkdownIt

DOCS = ROOT / "docs"
MARKDOWN = [page for page in pages() if page.endswith(".md")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    pytest.importorskip("sphinx", reason="the extra `docs` is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    built = subprocess.run(
        [*command, "-d", str(folder / "doctrees"), str(DOCS), str(folder / "html")],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    return folder / "html"


def test_it_builds_without_a_warning_and_without_leaving_anything_out(site: Path) -> None:
    written = {path.stem for path in DOCS.glob("*.md")}
    assert {path.stem for path in site.glob("*.html")} >= written
    index = (site / "index.html").read_text()
    for group in ("Start", "Guides", "Concepts", "Reference", "Operating"):
        assert f'<span class="caption-text">{group}</span>' in index
    for name in written - {"index"}:
        assert f'href="{name}.html"' in index, f"{name}.md is in no group of docs/index.md"


def test_a_finished_page_asks_nobody_for_anything(site: Path) -> None:
    """Scripts, styles, fonts and pictures are files of the site."""
    for path in site.glob("*.html"):
        for tag in re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", path.read_text()):
            for target in re.findall(r'(?:src|href)="([^"]+)"', tag):
                assert not re.match(r"(?:https?:)?//", target), f"{path.name}: {tag}"


@pytest.mark.parametrize("page", MARKDOWN)
def test_the_page_has_one_title_and_its_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    tokens = MarkdownIt("commonmark").parse(text)
    assert sum(token.type == "heading_open" and token.tag == "h1" for token in tokens) == 1
    for link in links_of(page):
        if re.match(r"https?:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        assert target.exists(), f"{page} leads to {link}, which is not there"
        if anchor:
            assert anchor in anchors(target), f"{page} leads to {link}: no such heading"


def anchors(path: Path) -> set[str]:
    """What headings of a page are called in links, on GitHub and on the site."""
    tokens = MarkdownIt("commonmark").parse(path.read_text(encoding="utf-8"))
    titles = [b.content for a, b in itertools.pairwise(tokens) if a.type == "heading_open"]
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", title).lower()).replace(" ", "-")
        for title in titles
    }
