"""The table of validation rules, and how a finding is made from one.

Every finding of validation names its rule; ids are stable. `docs/validation-rules.md` is rendered
from this table (`rules_page`). Which code breaks a rule is decided by the checks, not here.
"""

from __future__ import annotations

import ast

from aflow_grpo.records import Finding
from aflow_grpo.workflow.rule import Rule
from aflow_grpo.workflow.rules_language import LANGUAGE_RULES
from aflow_grpo.workflow.rules_operators import OPERATOR_RULES

__all__ = ["RULES", "RULES_BY_ID", "Rule", "example_code", "found", "rules_page"]

RULES: tuple[Rule, ...] = (*LANGUAGE_RULES, *OPERATOR_RULES)
RULES_BY_ID: dict[str, Rule] = {rule.id: rule for rule in RULES}


def found(
    rule_id: str, message: str, at: ast.expr | ast.stmt | ast.arg | int | None, hint: str = ""
) -> Finding:
    """A finding of a rule.

    Args:
        rule_id: A key of `RULES_BY_ID`.
        message: What was written, what is expected.
        at: The offending node, or its line.
        hint: What to do, when it can be said more precisely than in the rule.
    """
    rule = RULES_BY_ID[rule_id]
    line, column = (at, None) if at is None or isinstance(at, int) else (at.lineno, at.col_offset)
    return Finding(
        rule.kind,
        message,
        line,
        rule=rule.id,
        severity=rule.severity,
        column=None if column is None else column + 1,
        hint=hint or rule.hint,
    )


def example_code(rule: Rule) -> str:
    """A rule's example as a whole module."""
    if "class " in rule.example:
        return rule.example
    lines = rule.example.splitlines()
    imports = [line for line in lines if line.startswith(("import ", "from "))]
    if "asyncio." in rule.example and rule.id != "missing-import":
        imports.append("import asyncio")
    body = [f"        {line}" for line in lines if line not in imports]
    head = ["class Workflow:", "    async def __call__(self, problem, entry_point=None):"]
    return "\n".join([*imports, *head, *body]) + "\n"


def rules_page() -> str:
    """The docs page: all rules, in the order of the table."""
    rejected = sum(rule.severity == "reject" for rule in RULES)
    lines = [
        "# What validation looks for",
        "",
        "Rendered from `aflow_grpo/workflow/rules_language.py` and `rules_operators.py`; do not"
        " edit it by hand.",
        "",
        f"{len(RULES)} rules: {rejected} reject a workflow before it runs, {len(RULES) - rejected}"
        " only warn. A finding has the rule's id, line and column, the offending line, what was"
        " written and expected, and a hint. The *kind* is what the reward counts.",
        "",
        "| rule | severity | kind | finds |",
        "|---|---|---|---|",
    ]
    lines += [f"| [`{r.id}`](#{r.id}) | {r.severity} | `{r.kind}` | {r.what} |" for r in RULES]
    for rule in RULES:
        lines += ["", f"## {rule.id}", "", f"{rule.severity.capitalize()}s {rule.what}."]
        lines += [f"{rule.why} {rule.hint}"]
        if rule.example:
            where = f" (in a workflow for {rule.domain})" if rule.domain != "math" else ""
            lines += ["", f"For example{where}:", "", "```python"]
            lines += [*(line[:100] for line in rule.example.rstrip("\n").split("\n")), "```"]
    return "\n".join(lines) + "\n"
