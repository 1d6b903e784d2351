"""Runs a page: every block in its order, in a checkout of its own."""

from __future__ import annotations

from pathlib import Path

from doc_blocks import LANGUAGES, Block, blocks_of
from doc_world import World, Zygote

from aflow_grpo.records import WorkflowSource
from aflow_grpo.workflow.rules import RULES as RULES_TABLE
from aflow_grpo.workflow.rules import RULES_BY_ID, Rule, example_code
from aflow_grpo.workflow.validate import validate

__all__ = ["run_page"]

RULES = "docs/validation-rules.md"
"""Its blocks are workflows with a fault; they are no Python that runs."""
FRESH = ("README.md", "docs/index.md", "docs/quickstart.md", "configs/quickstart.yaml")
"""Their first command makes the run that the other pages look at."""


def _rule(block: Block) -> Rule:
    """The rule that a block is the example of, after a look at whether it is one."""
    rule = RULES_BY_ID[block.heading]
    assert block.text.split() == "\n".join(x[:100] for x in rule.example.split("\n")).split()
    findings = validate(WorkflowSource(example_code(rule), {}), rule.domain)
    assert rule.id in {finding.rule for finding in findings}, block.where
    return rule


def run_page(page: str, zygote: Zygote, run: Path, folder: Path) -> None:
    """Run the blocks of a page.

    Raises:
        Failed: At the first that does not work.
    """
    blocks = blocks_of(page)
    if page == RULES:
        assert [_rule(block).id for block in blocks] == [r.id for r in RULES_TABLE if r.example]
        return
    unnamed = [b.where for b in blocks if b.language not in LANGUAGES]
    assert not unnamed, f"blocks without one of the languages {LANGUAGES}: {unnamed}"
    if not blocks:
        return
    world = World(zygote, folder, run, blocks, fresh=page in FRESH)
    try:
        for block in blocks:
            world.run(block)
    finally:
        world.close()
