"""The table of rules: sound in itself, each with an example that breaks it, and the docs page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aflow_grpo.records import WorkflowSource
from aflow_grpo.workflow.rules import RULES, Rule, example_code, rules_page
from aflow_grpo.workflow.validate import SEVERITY, validate

PAGE = Path(__file__).parents[2] / "docs" / "validation-rules.md"


def test_ids_are_unique_and_kebab_case() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.id) for rule in RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_is_stated_in_sentences(rule: Rule) -> None:
    assert rule.kind in SEVERITY
    assert rule.why.endswith(".") and rule.hint.endswith(".")
    assert not rule.what.endswith(".")


@pytest.mark.parametrize("rule", [r for r in RULES if r.example], ids=lambda rule: rule.id)
def test_an_example_breaks_its_rule_and_no_other(rule: Rule) -> None:
    findings = validate(WorkflowSource(example_code(rule), {}), rule.domain)
    assert {finding.rule for finding in findings} == {rule.id}
    assert {finding.severity for finding in findings} == {rule.severity}
    assert {finding.kind for finding in findings} == {rule.kind}


def test_the_page_is_rendered_from_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == rules_page(), (
        "docs/validation-rules.md is stale; write it anew: python -c 'from aflow_grpo.workflow."
        'rules import rules_page; print(rules_page(), end="")\' > docs/validation-rules.md'
    )
