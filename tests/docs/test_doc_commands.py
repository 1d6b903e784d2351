"""The harness fails where a page does, and its tables hold nothing that no page needs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from doc_blocks import ROOT, Block, blocks_of, pages, spans_of
from doc_commands import ENDS_WITH, PARSED, PROGRAMS, PYTHON, STANDS_FOR, shorter
from doc_world import Failed, World, Zygote

BLOCKS = [block for page in pages() for block in blocks_of(page)]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def texts(language: str) -> str:
    """All blocks of a language, with single blanks."""
    found = "\n".join(block.text for block in BLOCKS if block.language == language)
    return re.sub(r"[ \\\n]+", " ", found) if language == "bash" else found


@pytest.mark.parametrize("row", [*PARSED, *ENDS_WITH, *STANDS_FOR])
def test_a_row_about_a_command_is_of_one_on_a_page(row: str) -> None:
    assert row in texts("bash")


@pytest.mark.parametrize("row", PROGRAMS)
def test_a_program_that_is_not_called_is_on_a_page(row: str) -> None:
    assert re.search(rf"(^|\s){re.escape(row)} ", texts("bash"))


@pytest.mark.parametrize("row", PYTHON)
def test_what_is_shortened_is_on_a_page(row: str) -> None:
    assert row in texts("python")


def test_a_command_is_shortened_by_what_follows_it_and_so_wins() -> None:
    words = ["fit", "--config", "configs/minimal.yaml", "--trainer.max_steps", "500"]
    assert shorter(words)[:5] == words
    assert shorter(words)[5:7] == ["--trainer.max_steps", "1"]
    assert shorter(["fit", "--help"]) == ["fit", "--help"]


def test_a_block_that_fails_is_reported_with_its_place(zygote: Zygote, tmp_path: Path) -> None:
    """So that none of the page tests passes because nothing was run."""
    cases = {
        "bash": "aflow-grpo journal nowhere",
        "python": "raise ValueError('no')",
        "yaml": "model: {grpo: {group_sise: 4}}",
        "json": '{"graph_code": "class Workflow: pass", "prompts": {}}',
        "sql": "SELECT * FROM nothing",
    }
    for language, text in cases.items():
        folder = tmp_path / language
        folder.mkdir()
        world = World(zygote, folder, None, [])
        with pytest.raises(Failed, match=r"docs/x\.md:7"):
            world.run(Block("docs/x.md", 7, language, text))
        world.close()


def test_commands_in_running_text_name_verbs_and_options_that_exist() -> None:
    """A person copies them, too. Those with an ellipsis or a placeholder are checked up to it."""
    from aflow_grpo.cli import trainer_parser
    from aflow_grpo.verbs import TRAINER_VERBS, VERBS

    known = {verb.name for verb in VERBS}
    fit = set(trainer_parser("fit").option_names)
    for page in pages():
        for span in spans_of(page):
            words = shlex.split(span[span.index("aflow-grpo ") :])[1:]
            assert words[0] in known or words[0].startswith("-") or words[0] == "VERB", (page, span)
            options = [w.lstrip("-").split("=")[0] for w in words[1:] if w.startswith("--")]
            if words[0] in TRAINER_VERBS:
                extra = {"help", "steps", "quiet", "debug", "print_config"}
                wrong = [name for name in options if name not in fit | extra and name.isascii()]
                assert not wrong, (page, span)


def test_every_config_and_path_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"configs/[\w./-]+\.yaml", README))
    named |= {f"configs/{name}" for name in re.findall(r"^\| `([\w./-]+\.yaml)`", README, re.M)}
    assert len(named) >= 7
    for name in named:
        assert (ROOT / name).is_file(), name
