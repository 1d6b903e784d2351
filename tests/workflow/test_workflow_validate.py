"""Validation: a table of sound and faulty workflows, one defect each, with kind and line."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workflow_catalogue import FAULTY, SOUND, call

from aflow_grpo.records import Domain, FaultKind, Finding, WorkflowSource
from aflow_grpo.workflow.validate import MAX_FINDINGS, SEVERITY, primary_fault, validate

K = FaultKind


def check(
    code: str, domain: Domain = "math", prompts: dict[str, str] | None = None, **options: object
) -> tuple[Finding, ...]:
    source = WorkflowSource(code, prompts or {})
    return validate(source, domain, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("code", SOUND.values(), ids=SOUND.keys())
def test_sound_workflow_has_no_findings(code: str) -> None:
    assert check(code) == ()


@pytest.mark.parametrize(("code", "kind", "line"), FAULTY.values(), ids=FAULTY.keys())
def test_faulty_workflow(code: str, kind: FaultKind, line: int | None) -> None:
    findings = check(code)
    assert findings, "accepted"
    assert primary_fault(findings).kind is kind
    assert {finding.kind for finding in findings} - {kind} <= {K.BAD_RETURN, K.UNDEFINED_NAME}
    assert line in {finding.line for finding in findings if finding.kind is kind}


def test_messages_say_what_was_given_and_what_is_expected() -> None:
    (finding,) = check(call("r = await self.answer_generater(problem)", "return r, 0"))
    assert "did you mean `self.answer_generate`?" in finding.message
    (finding,) = check(call("r = await self.review(problem=problem)", "return r, 0"))
    assert "missing argument `solution`" in finding.message
    assert "review(problem, solution, mode=None)" in finding.message


@pytest.mark.parametrize(("domain", "kinds"), [("code", []), ("qa", [K.FORBIDDEN_OPERATOR])])
def test_domain_decides_on_test(domain: Domain, kinds: list[FaultKind]) -> None:
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


def test_prompts_by_key_and_constant() -> None:
    code = call(
        "a = await self.custom(problem, self.prompts['x'])",
        "b = await self.custom(problem, prompt_custom.Y)",
        "return a['response'] + b['response'], COST",
    )
    assert check(code, prompts={"x": "1", "Y": "2"}) == ()
    assert [f.kind for f in check(code, prompts={"x": "1"})] == [K.UNKNOWN_PROMPT]


def test_forbidden_operator_is_primary_only_when_alone() -> None:
    forbidden = Finding(K.FORBIDDEN_OPERATOR, "a", 1)
    others = [Finding(kind, "b", 9) for kind in SEVERITY if kind is not K.FORBIDDEN_OPERATOR]
    assert primary_fault([forbidden]) is forbidden
    for other in others:
        assert primary_fault([forbidden, other]) is other
    with pytest.raises(ValueError, match="at least one finding"):
        primary_fault([])


def test_every_invalid_kind_has_a_severity() -> None:
    not_from_text = {"length_limit", "exception", "bad_answer", "memory_limit", "time_limit"}
    not_from_text |= {"call_budget", "endpoint", "deadline"}
    assert set(SEVERITY) == {kind for kind in K if kind not in not_from_text}


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
        "return",
        "break",
        "@x",
        "async for i in x: pass",
        "match r:",
        '    case {"a": b}: pass',
        "x: int",
        "*a, b = r",
        "\0",
    ]
)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(_LINES, max_size=8).map(lambda ls: call(*ls))))
def test_never_raises(code: str) -> None:
    for finding in check(code):
        assert finding.kind in SEVERITY


def test_validation_is_fast_on_large_code() -> None:
    lines = ["r = await self.custom(input=problem)"] * 2000
    start = time.perf_counter()
    assert check(call(*lines, "return r['response'], COST")) == ()
    assert time.perf_counter() - start < 8.0


def test_findings_are_few_and_short_and_hold_the_worst() -> None:
    lines = [f"self.{'x' * 400}{n}" for n in range(200)]
    findings = check(call(*lines, "return input(), 0"))
    assert len(findings) == MAX_FINDINGS
    assert max(len(finding.message) for finding in findings) == 400
    assert primary_fault(findings).kind is K.FORBIDDEN_SYNTAX
