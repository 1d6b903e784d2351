"""The fixed workflows: valid for their domain, and running by the policy's own path."""

from __future__ import annotations

import pytest
from workflow_host import Host, run

from aflow_grpo.records import DOMAINS, Domain
from aflow_grpo.workflow.library import fallback_workflow, library
from aflow_grpo.workflow.validate import validate

ALL = [(domain, name) for domain in DOMAINS for name in library(domain)]


@pytest.mark.parametrize("domain", DOMAINS)
def test_each_domain_has_a_choice_and_a_fallback(domain: Domain) -> None:
    sources = library(domain)
    assert len(sources) >= 5
    assert fallback_workflow(domain) in sources.values()


@pytest.mark.parametrize(("domain", "name"), ALL)
@pytest.mark.parametrize("verdict", [True, False])
def test_workflow_is_valid_and_runs(domain: Domain, name: str, verdict: bool) -> None:
    source = library(domain)[name]
    assert validate(source, domain) == ()
    host = Host(verdict)
    outcome = run(source.graph_code, host)
    assert outcome.fault is None
    assert outcome.operator_calls == len(host.calls) >= 1
    assert (outcome.answer is not None and outcome.answer.endswith(f"#{len(host.calls) - 1}")) or (
        # A review that approves leaves the first answer standing.
        verdict and name == "review_revise" and outcome.answer in ("answer_generate#0", CODE)
    )


CODE = "custom_code_generate#0"


@pytest.mark.parametrize(
    ("domain", "name", "agreeing", "calls"),
    [("math", "cascade", True, 2), ("math", "cascade", False, 4), ("qa", "cascade", False, 4)],
)
def test_cascade_spends_more_only_where_samples_differ(
    domain: Domain, name: str, agreeing: bool, calls: int
) -> None:
    host = Host()

    async def answers(index: int, *rest: object) -> dict[str, object]:
        result = await host(index, *rest)  # type: ignore[arg-type]
        return dict.fromkeys(result, "5") if agreeing else result

    assert run(library(domain)[name].graph_code, answers).operator_calls == calls


def test_first_of_each_domain_is_one_call() -> None:
    for domain in DOMAINS:
        first = next(iter(library(domain).values()))
        assert run(first.graph_code).operator_calls == 1
