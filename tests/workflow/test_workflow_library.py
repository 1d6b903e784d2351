"""The fixed workflows: valid for their domain, running by the policy's own path, as described."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from executed_world import CODE, MARKERS, MATH, QA, WORLD, opened
from workflow_host import Host, run

from aflow_grpo.llm.simulator import Simulator
from aflow_grpo.records import DOMAINS, Domain, Execution, Status
from aflow_grpo.workflow.library import FIXED, fallback_workflow, library, library_page
from aflow_grpo.workflow.validate import is_valid, validate

ALL = [(domain, name) for domain in DOMAINS for name in library(domain)]
PROBLEMS = {"math": MATH[0], "code": CODE[0], "qa": QA[0]}
ROOT = Path(__file__).parents[2]


class Agreeing(Host):
    """Gives every text the same value, so that samples agree."""

    async def __call__(self, index: int, attribute: str, arguments: Any) -> dict[str, Any]:
        result = await super().__call__(index, attribute, arguments)
        return {key: "5" if isinstance(value, str) else value for key, value in result.items()}


class Failing(Host):
    """Lets every program end in an error."""

    async def __call__(self, index: int, attribute: str, arguments: Any) -> dict[str, Any]:
        result = await super().__call__(index, attribute, arguments)
        return result | ({"output": "Error: no solve()"} if "output" in result else {})


HOSTS = [Host(True), Host(False), Agreeing(True), Agreeing(False), Failing(True)]


@pytest.mark.parametrize("domain", DOMAINS)
def test_each_domain_has_a_choice_and_a_fallback(domain: Domain) -> None:
    sources = library(domain)
    assert len(sources) >= 10
    assert fallback_workflow(domain) in sources.values()


def test_the_table_lists_exactly_what_there_is() -> None:
    described = {(domain, name) for name, fixed in FIXED.items() for domain in fixed.calls}
    assert described == set(ALL)


@pytest.mark.parametrize(("domain", "name"), ALL)
def test_workflow_is_valid_and_makes_as_many_calls_as_the_table_says(
    domain: Domain, name: str
) -> None:
    source = library(domain)[name]
    assert is_valid(validate(source, domain))
    made = []
    for host in HOSTS:
        host.calls.clear()
        outcome = run(source.graph_code, host)
        assert outcome.fault is None and outcome.answer
        made.append(outcome.operator_calls)
    assert (min(made), max(made)) == FIXED[name].calls[domain]


@pytest.fixture(scope="module")
def executions() -> dict[tuple[str, str], Execution]:
    """Every fixed workflow on one problem of its domain, with the simulated executor."""

    async def everything() -> dict[tuple[str, str], Execution]:
        with Simulator(WORLD, MARKERS) as simulator:
            async with opened(simulator.tier()) as world:
                run = world.executor.run
                return {
                    (domain, name): await run(source, PROBLEMS[domain].visible, seed=3)
                    for domain in DOMAINS
                    for name, source in library(domain).items()
                }

    return asyncio.run(everything())


@pytest.mark.parametrize(("domain", "name"), ALL)
def test_workflow_runs_end_to_end(
    domain: Domain, name: str, executions: dict[tuple[str, str], Execution]
) -> None:
    execution = executions[domain, name]
    assert execution.status is Status.OK, execution.message
    assert execution.answer
    fewest, most = FIXED[name].calls[domain]
    assert fewest <= len(execution.calls) <= most
    assert execution.usage.cost_usd > 0


@pytest.mark.parametrize(
    ("domain", "name", "agreeing", "calls"),
    [
        ("math", "cascade", True, 2),
        ("math", "cascade", False, 4),
        ("qa", "cascade", False, 4),
        ("math", "cascade_agreement", True, 2),
        ("qa", "cascade_agreement", False, 6),
    ],
)
def test_cascade_spends_more_only_where_samples_differ(
    domain: Domain, name: str, agreeing: bool, calls: int
) -> None:
    host = Agreeing() if agreeing else Host()
    assert run(library(domain)[name].graph_code, host).operator_calls == calls


@pytest.mark.parametrize(("passed", "calls"), [(True, 2), (False, 6)])
def test_cascade_spends_more_only_after_a_failed_test(passed: bool, calls: int) -> None:
    assert run(library("code")["cascade_test"].graph_code, Host(passed)).operator_calls == calls


def test_first_of_each_domain_is_one_call() -> None:
    for domain in DOMAINS:
        first = next(iter(library(domain).values()))
        assert run(first.graph_code).operator_calls == 1


def test_docs_page_is_what_the_table_says() -> None:
    assert (ROOT / "docs" / "library.md").read_text() == library_page()
