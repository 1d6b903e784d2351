"""The reference pages are what the parsers say."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest
from doc_blocks import ROOT

from aflow_grpo.exits import Exit
from aflow_grpo.verbs import VERBS

STALE = "is stale: write it anew with `python docs/reference.py`"


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """docs/reference.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs"))
        return importlib.import_module("reference")


@pytest.mark.parametrize("name", ["configuration", "command_line"])
def test_the_page_is_what_the_parsers_say(reference: ModuleType, name: str) -> None:
    page = ROOT / "docs" / f"{name.replace('_', '-')}.md"
    assert page.read_text(encoding="utf-8") == getattr(reference, f"{name}_page")(), STALE


def test_every_key_of_base_yaml_is_explained(reference: ModuleType) -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for key in ("model.grpo.group_size", "llm.budget_usd", "data.batch_size", "trainer.max_steps"):
        assert f"| `{key}` |" in text
    assert "| `llm.tiers[].price` |" in text, "the items of a list are explained too"
    assert "| `model.policy.init_args.lora.rank` |" in text, "and groups that may be null"


def test_every_verb_and_every_exit_code_is_there() -> None:
    text = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    for verb in VERBS:
        assert f"\n## {verb.name}\n" in text
    for code in Exit:
        assert f"| {code.value} | {code.name} |" in text
