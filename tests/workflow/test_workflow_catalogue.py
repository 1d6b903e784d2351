"""The catalogue of whole workflows: what validation says, and what running them shows.

The truth is CPython with stub operators, in a process of its own (`catalogue.under_cpython`).
"""

from __future__ import annotations

import asyncio
import json

import pytest
from catalogue import FAULTY_CASES, SOUND_CASES, Case
from catalogue.under_cpython import CPythonRun, run_under_cpython
from workflow_host import Host

from aflow_grpo.workflow.interpreter import Interpreter
from aflow_grpo.workflow.rules import RULES
from aflow_grpo.workflow.validate import is_valid, validate

ALL = (*SOUND_CASES, *FAULTY_CASES)


@pytest.fixture(scope="module")
def runs() -> dict[str, CPythonRun]:
    return {case.name: run for case, run in zip(ALL, run_under_cpython(ALL), strict=True)}


def test_the_catalogue_is_large_and_names_are_unique() -> None:
    assert len(SOUND_CASES) >= 60
    assert len(FAULTY_CASES) >= 80
    assert len({case.name for case in ALL}) == len(ALL)


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_findings_are_the_marked_ones(case: Case) -> None:
    findings = validate(case.source, case.domain)
    assert {(finding.rule, finding.line) for finding in findings} == case.expected


@pytest.mark.parametrize("case", SOUND_CASES, ids=lambda case: case.name)
def test_sound_workflow_runs_and_is_not_rejected(case: Case, runs: dict[str, CPythonRun]) -> None:
    assert runs[case.name].answer is not None, runs[case.name].error
    assert is_valid(validate(case.source, case.domain))


@pytest.fixture(scope="module")
def inside() -> dict[str, tuple[str | None, tuple[tuple[str, str], ...]]]:
    """Answer and calls of each sound case in the interpreter."""

    async def main() -> dict[str, tuple[str | None, tuple[tuple[str, str], ...]]]:
        outcomes = {}
        async with Interpreter(workers=2) as interpreter:
            for case in SOUND_CASES:
                host = Host()
                outcome = await interpreter.run(
                    case.source,
                    problem="2+3?",
                    entry_point="solve",
                    call_operator=host,
                    get_cost=host.cost,
                )
                calls = tuple((name, json.dumps(a, sort_keys=True)) for _, name, a in host.calls)
                outcomes[case.name] = (outcome.answer, calls)
        return outcomes

    return asyncio.run(main())


@pytest.mark.parametrize("case", SOUND_CASES, ids=lambda case: case.name)
def test_sound_workflow_does_the_same_in_the_interpreter(
    case: Case, runs: dict[str, CPythonRun], inside: dict[str, tuple[str | None, object]]
) -> None:
    assert inside[case.name] == (runs[case.name].answer, runs[case.name].calls)


@pytest.mark.parametrize("case", FAULTY_CASES, ids=lambda case: case.name)
def test_faulty_workflow_fails_unless_marked(case: Case, runs: dict[str, CPythonRun]) -> None:
    assert (runs[case.name].answer is not None) == case.runs, runs[case.name].error


def test_nearly_all_that_fail_are_rejected_before_they_run(runs: dict[str, CPythonRun]) -> None:
    failing = [case for case in ALL if runs[case.name].answer is None]
    missed = [c.name for c in failing if is_valid(validate(c.source, c.domain))]
    assert len(failing) >= 80
    assert 1 - len(missed) / len(failing) >= 0.95, missed


def test_every_rule_is_broken_somewhere_in_the_catalogue() -> None:
    broken = {rule for case in ALL for rule, _ in case.expected}
    elsewhere = {"too-long", "too-deep", "operator-not-enabled"}  # test_workflow_validate
    elsewhere |= {"bad-object", "no-workflow"}  # test_workflow_parse
    by_example = {
        "class-feature", "language-feature", "missing-feature", "differs-inside", "introspection",
        "missing-builtin",
    }  # fmt: skip
    assert {rule.id for rule in RULES} - broken - elsewhere <= by_example
