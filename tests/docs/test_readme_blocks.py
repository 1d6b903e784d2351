"""Every command and code block runs of what a reader opens outside docs/, the configs among it."""

from pathlib import Path

import pytest
from doc_blocks import pages
from doc_pages import run_page
from doc_world import Zygote

PAGES = [page for page in pages() if not page.startswith("docs/")]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_the_page_runs(
    page: str, zygote: Zygote, finished_run: Path, tmp_path: Path
) -> None:
    run_page(page, zygote, finished_run, tmp_path)
