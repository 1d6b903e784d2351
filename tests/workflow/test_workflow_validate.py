"""Validation: tables of small sound and faulty workflows with kind and line, and properties.

Whole workflows, their rules and the truth of running them: `test_workflow_catalogue`.
"""

from __future__ import annotations

import re
import time

import pytest
from catalogue import SOUND_CASES
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from workflow_catalogue import FAULTY, SOUND, call

from aflow_grpo.records import Domain, FaultKind, Finding, WorkflowSource
from aflow_grpo.workflow.contract import TEN_OPERATORS
from aflow_grpo.workflow.rules import RULES_BY_ID
from aflow_grpo.workflow.validate import (
    MAX_FINDINGS,
    SEVERITY,
    is_valid,
    primary_fault,
    rejections,
    validate,
)

K = FaultKind


def check(
    code: str,
    domain: Domain | None = "math",
    prompts: dict[str, str] | None = None,
    **options: object,
) -> tuple[Finding, ...]:
    source = WorkflowSource(code, prompts or {})
    return validate(source, domain, **options)  # type: ignore[arg-type]


def rules(code: str, **options: object) -> set[str]:
    return {finding.rule for finding in check(code, **options)}  # type: ignore[arg-type]


@pytest.mark.parametrize("code", SOUND.values(), ids=SOUND.keys())
def test_sound_workflow_has_no_findings(code: str) -> None:
    assert check(code) == ()


@pytest.mark.parametrize(("code", "kind", "line"), FAULTY.values(), ids=FAULTY.keys())
def test_faulty_workflow(code: str, kind: FaultKind, line: int | None) -> None:
    findings = rejections(check(code))
    assert findings, "accepted"
    assert primary_fault(findings).kind is kind
    assert {f.kind for f in findings} - {kind} <= {K.BAD_RETURN, K.UNDEFINED_NAME, K.NOT_AWAITED}
    assert line in {finding.line for finding in findings if finding.kind is kind}


def test_a_finding_says_where_what_and_what_to_do() -> None:
    code = call('é = "ü"; r = await self.answer_generater(é)', "return r, 0")
    (finding,) = check(code)
    assert finding.rule == "unknown-operator"
    assert (finding.kind, finding.severity) == (K.UNKNOWN_OPERATOR, "reject")
    assert finding.line == 3
    assert finding.source == 'é = "ü"; r = await self.answer_generater(é)'
    assert finding.column == 9 + finding.source.index("self.")
    assert finding.hint == "Did you mean `self.answer_generate`?"


def test_messages_say_what_was_given_and_what_is_expected() -> None:
    (finding,) = check(call("r = await self.review(problem=problem)", "return r['feedback'], 0"))
    assert "missing argument `solution`" in finding.message
    assert "review(problem, solution, mode=None)" in finding.message


def test_a_syntax_error_is_on_its_line_and_column() -> None:
    (finding,) = check(call("r = = 1"))
    assert (finding.rule, finding.line, finding.column) == ("syntax-error", 3, 13)
    assert finding.source == "r = = 1"


@pytest.mark.parametrize(
    ("domain", "kinds"), [("code", []), ("qa", [K.FORBIDDEN_OPERATOR]), (None, [])]
)
def test_domain_decides_on_test(domain: Domain | None, kinds: list[FaultKind]) -> None:
    code = call(
        "r = await self.test(problem=problem, solution='x', entry_point=entry_point)",
        "return r['solution'], COST",
    )
    assert [finding.kind for finding in check(code, domain)] == kinds


def test_enabled_narrows_the_domain() -> None:
    code = SOUND["direct"]
    assert check(code, enabled={"custom"}) == ()
    (finding,) = check(code, enabled={"programmer"})
    assert finding.kind is K.FORBIDDEN_OPERATOR
    assert "enabled: programmer" in finding.message
    assert check(code, None, enabled={"programmer"}) == ()


def test_prompts_by_key_and_constant() -> None:
    code = call(
        "a = await self.custom(problem, self.prompts['x'])",
        "b = await self.custom(problem, prompt_custom.Y)",
        "return a['response'] + b['response'], COST",
    )
    assert check(code, prompts={"x": "1", "Y": "2"}) == ()
    assert [f.kind for f in check(code, prompts={"x": "1"})] == [K.UNKNOWN_PROMPT]


def test_both_key_conventions_are_accepted() -> None:
    for spec in TEN_OPERATORS.specs:
        arguments = ", ".join(
            f"{p.name}={'[problem]' if p.type == 'list[str]' else 'problem'}"
            for p in spec.parameters
            if p.required
        )
        for key in spec.returns:
            code = call(
                f"r = await self.{spec.attribute}({arguments})",
                f'return r["{key.name}"], COST',
            )
            assert check(code, None) == (), (spec.name, key.name)


def test_the_call_budget_is_a_setting() -> None:
    lines = [f"r{i} = await self.custom(input=problem)" for i in range(5)]
    code = call(*lines, "return r0['response'], COST")
    assert check(code, call_budget=5) == ()
    assert rules(code, call_budget=4) == {"too-many-calls"}


def test_forbidden_operator_is_primary_only_when_alone() -> None:
    forbidden = Finding(K.FORBIDDEN_OPERATOR, "a", 1)
    others = [Finding(kind, "b", 9) for kind in SEVERITY if kind is not K.FORBIDDEN_OPERATOR]
    assert primary_fault([forbidden]) is forbidden
    for other in others:
        assert primary_fault([forbidden, other]) is other
    with pytest.raises(ValueError, match="at least one rejection"):
        primary_fault([])


def test_warnings_make_no_workflow_invalid() -> None:
    warning = Finding(K.SYNTAX_ERROR, "a", 1, severity="warn")
    fault = Finding(K.BAD_RETURN, "b", 2)
    assert is_valid([warning]) and is_valid([])
    assert not is_valid([warning, fault])
    assert primary_fault([warning, fault]) is fault
    with pytest.raises(ValueError, match="at least one rejection"):
        primary_fault([warning])


def test_every_invalid_kind_has_a_severity() -> None:
    assert set(SEVERITY) == {kind for kind in K if kind.status == "invalid"}
    assert len(set(SEVERITY)) == len(SEVERITY)


_LINES = st.sampled_from(
    [
        "r = await self.custom(input=problem)",
        'return r["response"], 0',
        "x = [",
        ")",
        "if x:",
        "    pass",
        "else:",
        "op = self.custom",
        "await op(*a, **k)",
        "def f(self): return self",
        "class A: pass",
        "lambda: (yield)",
        "global r",
        "nonlocal r",
        "self.x.y.z = 1",
        "del self.x",
        "import os as operator",
        "from .prompt import *",
        "return",
        "break",
        "continue",
        "while x: x = x if x else x",
        "try: r += 1",
        "except* ValueError: r",
        "finally: pass",
        "@x",
        "async for i in x: pass",
        "async with x as (a, b): pass",
        "match r:",
        '    case {"a": b, **c}: pass',
        "x: int",
        "*a, b = r",
        "[(y := z) for z in y]",
        "'{a[0].b!r:{c}}'.format(1, *a)",
        "'é' + 'ü'; r.response",
        "\0",
        "\ufeff",
        "\r",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(_LINES, max_size=8).map(lambda ls: call(*ls))))
def test_never_raises_and_every_line_exists(code: str) -> None:
    lines = code.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for finding in check(code, prompts={"A": "{x}"}):
        assert finding.kind in SEVERITY
        assert finding.rule in RULES_BY_ID
        assert finding.hint.endswith((".", "?"))
        assert finding.line is None or 1 <= finding.line <= len(lines)
        if finding.line is not None:
            text = lines[finding.line - 1]
            assert text.strip().startswith(finding.source)
            assert finding.column is None or 1 <= finding.column <= len(text) + 1


def _mutants(code: str, pattern: str, replacement: str) -> list[str]:
    """The code with one occurrence changed, once for each."""
    return [
        code[: match.start()] + match.expand(replacement) + code[match.end() :]
        for match in re.finditer(pattern, code)
    ]


MUTATIONS: dict[str, tuple[str, str, set[str]]] = {
    "await is dropped": (r"(?<== )await (self\.\w+\()", r"\1", {"missing-await"}),
    "key is renamed": (
        r'(\w+)\["(?:response|answer|output|feedback)"\]',
        r'\1["resopnse"]',
        {"unknown-key"},
    ),
    "operator is renamed": (
        r"await self\.(custom|programmer|test|review)\(",
        r"await self.\1ing(",
        {"unknown-operator"},
    ),
    "argument is renamed": (
        r"\b(input|solutions|solution)=(problem|solutions|code)\b",
        r"\1z=\2",
        {"unknown-argument", "missing-argument"},
    ),
    "cost is dropped": (
        r", self\.llm\.get_usage_summary\(\)\[.total_cost.\]",
        "",
        {"bad-return"},
    ),
    "bracket is dropped": (r"\(problem", "problem", {"syntax-error"}),
    "class is indented away": (r"class (Workflow|SolveGraph)", r" class \1", {"syntax-error"}),
}


@pytest.mark.parametrize(
    ("pattern", "replacement", "expected"), MUTATIONS.values(), ids=MUTATIONS.keys()
)
def test_mutations_of_sound_workflows_break_the_right_rule(
    pattern: str, replacement: str, expected: set[str]
) -> None:
    made = caught = 0
    for case in SOUND_CASES:
        before = {f.rule for f in validate(case.source, case.domain)}
        for code in _mutants(case.source.graph_code, pattern, replacement):
            source = WorkflowSource(code, case.source.prompts)
            new = {f.rule for f in validate(source, case.domain)} - before
            made += 1
            caught += bool(new & expected)
    assert made >= 10
    assert caught / made >= 0.75, f"{caught} of {made}"


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SOUND_CASES), st.randoms(use_true_random=False))
def test_a_line_of_a_sound_workflow_may_be_lost(case: object, rng: object) -> None:
    lines = case.source.graph_code.split("\n")  # type: ignore[attr-defined]
    index = rng.randrange(len(lines))  # type: ignore[attr-defined]
    assume(lines[index].strip())
    code = "\n".join(lines[:index] + lines[index + 1 :])
    for finding in check(code, case.domain, dict(case.source.prompts)):  # type: ignore[attr-defined]
        assert finding.line is None or 1 <= finding.line <= len(lines)


def test_validation_is_fast_on_large_code() -> None:
    lines = ["r = await self.custom(input=problem)"] * 2000
    start = time.perf_counter()
    assert rules(call(*lines, "return r['response'], COST")) == {"too-many-calls"}
    assert time.perf_counter() - start < 8.0


def test_findings_are_few_and_short_and_hold_the_worst() -> None:
    lines = [f"self.{'x' * 400}{n}" for n in range(200)]
    findings = check(call(*lines, "return input(), 0"))
    assert len(findings) == MAX_FINDINGS
    assert max(len(finding.message) for finding in findings) == 400
    assert primary_fault(findings).kind is K.FORBIDDEN_SYNTAX
