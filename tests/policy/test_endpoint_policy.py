"""A policy behind an endpoint: what it asks for, what it makes of the answers; real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from scripted_endpoint import Response, Scripted, completion, dead_url, error
from writing_endpoint import COMPLETION_TOKENS, PROMPT_TOKENS, writing_endpoint, written

from aflow_grpo.errors import ConfigError
from aflow_grpo.execution import inspect_completion
from aflow_grpo.llm.client import ExecutorClient
from aflow_grpo.llm.journal import Journal
from aflow_grpo.llm.tiers import WriterTier
from aflow_grpo.policy import EndpointPolicy
from aflow_grpo.records import Completion, FaultKind, Status, Usage, VisibleProblem
from aflow_grpo.workflow.policy_prompt import full_prompt

MATH = VisibleProblem("math/1", "sample", "math", "What is 2 + 3?")
QA = VisibleProblem("qa/1", "sample", "qa", "Who?", context="Ada wrote it.\n" + "It rained. " * 90)
RETRY = error(500)


def tier(endpoint: Scripted, **changes: Any) -> WriterTier:
    fields = {"base_url": endpoint.base_url, "api_key": "k", "api_key_env": "", "backoff_s": 0.001}
    return WriterTier(**{**fields, **changes})


@contextmanager
def connected(policy: EndpointPolicy, journal: Journal | None = None) -> Iterator[ExecutorClient]:
    """Connect the policy to a client on an event loop that runs while it writes."""
    with asyncio.Runner() as runner:
        client = ExecutorClient([policy.tier], journal=journal)
        policy.connect(client, runner.run)
        yield client
        runner.run(client.aclose())


def test_groups_are_asked_for_in_order_each_with_its_seed() -> None:
    with writing_endpoint() as endpoint:
        policy = EndpointPolicy(tier(endpoint, temperature=0.8, top_p=0.9, max_tokens=300))
        with connected(policy):
            completions = policy.write([MATH, QA], [3, 1, 4, 5])
    assert [c.text for c in completions] == [written("math")] * 2 + [written("qa")] * 2
    asked = {r["seed"]: r for r in endpoint.requests}
    assert asked.keys() == {3, 1, 4, 5}
    for seed, problem in ((3, MATH), (1, MATH), (4, QA), (5, QA)):
        assert asked[seed]["messages"] == full_prompt(problem)
        rest = [asked[seed][name] for name in ("temperature", "top_p", "max_tokens", "model")]
        assert rest == [0.8, 0.9, 300, "gpt-4o-mini"]
    cost = PROMPT_TOKENS * 0.15e-6 + COMPLETION_TOKENS * 0.6e-6
    for done in completions:
        assert done.usage == Usage(
            1, 1, PROMPT_TOKENS, COMPLETION_TOKENS, *[pytest.approx(cost, rel=1e-12)] * 2
        )
        assert (done.prompt_length, done.length) == (PROMPT_TOKENS, COMPLETION_TOKENS)
        assert (done.prompt_ids, done.token_ids, done.logprobs) == ((), (), ())
        assert done.finished and not done.unavailable and not done.context_cut


def test_each_workflow_is_told_of_while_others_are_still_being_written() -> None:
    told: dict[int, Completion] = {}

    def answer(message: str) -> Response:
        # The second is not written before the first has been told of.
        return completion("late" if told else "early") if "(qa)" in message or told else RETRY

    with writing_endpoint(answer) as endpoint:
        policy = EndpointPolicy(tier(endpoint, max_attempts=200, backoff_s=0.0))
        with connected(policy):
            written_B = policy.write([MATH, QA], [1, 2], on_written=told.__setitem__)
    assert [c.text for c in written_B] == ["late", "early"]
    assert list(told) == [1, 0] and written_B == [told[0], told[1]]


def test_greedy_is_temperature_0_and_knows_no_seed() -> None:
    with writing_endpoint() as endpoint:
        policy = EndpointPolicy(tier(endpoint))
        with connected(policy):
            once, again = (policy.write([MATH], [seed], greedy=True) for seed in (7, 8))
    assert once == again
    assert endpoint.requests[0] == endpoint.requests[1]
    assert (endpoint.requests[0]["temperature"], endpoint.requests[0]["seed"]) == (0.0, 0)


def test_what_was_written_before_comes_from_the_journal(tmp_path: Path) -> None:
    texts = []
    with writing_endpoint(finish_reason="length") as endpoint:
        for _ in range(2):
            policy, journal = EndpointPolicy(tier(endpoint)), Journal(tmp_path / "j.db")
            with connected(policy, journal) as client:
                texts.append(policy.write([MATH, QA], [1, 2]))
            journal.close()
    first, second = texts
    assert len(endpoint.requests) == 2
    assert [c.text for c in first] == [c.text for c in second]
    assert not any(c.finished for c in [*first, *second]), "also the journal knows of the cut"
    assert [c.usage.cost_usd for c in first] == [c.usage.cost_usd for c in second]
    assert client.usage.billed_usd == 0.0


@pytest.mark.parametrize(("reason", "status"), [("length", Status.CUT), ("stop", Status.OK)])
def test_a_completion_at_its_limit_is_cut(reason: str, status: Status) -> None:
    with writing_endpoint(finish_reason=reason) as endpoint:
        policy = EndpointPolicy(tier(endpoint))
        with connected(policy):
            (done,) = policy.write([MATH], [1])
    assert inspect_completion(done, MATH).status is status


def judged_unavailable(policy: EndpointPolicy) -> tuple[Completion, str]:
    with connected(policy):
        (done,) = policy.write([QA], [1])
    execution = inspect_completion(done, QA)
    assert (execution.status, execution.fault_kind) == (Status.UNAVAILABLE, FaultKind.ENDPOINT)
    return done, execution.message


def test_an_endpoint_that_does_not_answer_is_nobodys_fault() -> None:
    down = WriterTier(base_url=dead_url(), api_key="k", api_key_env="", backoff_s=0, max_attempts=2)
    done, message = judged_unavailable(EndpointPolicy(down))
    assert "ConnectionRefused" in message and "Nothing was written" in message
    assert done.usage == Usage(attempts=2)
    assert (done.length, done.prompt_length) == (0, 0)


def test_a_prompt_that_fits_no_context_says_what_to_lower() -> None:
    too_long = error(400, "context_length_exceeded")
    with writing_endpoint(lambda _: too_long) as endpoint:
        _, message = judged_unavailable(EndpointPolicy(tier(endpoint)))
    assert "lower model.policy.max_context_chars" in message


def test_only_the_context_is_shortened_and_the_record_says_so() -> None:
    with writing_endpoint() as endpoint:
        policy = EndpointPolicy(tier(endpoint), max_context_chars=100)
        with connected(policy):
            done_math, done_qa = policy.write([MATH, QA], [1, 2])
    assert done_qa.context_cut and not done_math.context_cut
    asked = {r["seed"]: r["messages"] for r in endpoint.requests}
    assert asked[1] == full_prompt(MATH)
    assert asked[2] == full_prompt(QA, max_context_chars=100) != full_prompt(QA)


def test_an_empty_text_is_a_workflow_that_is_invalid_not_one_that_is_missing() -> None:
    with writing_endpoint(lambda _: completion("")) as endpoint:
        policy = EndpointPolicy(tier(endpoint))
        with connected(policy):
            (done,) = policy.write([MATH], [1])
    assert inspect_completion(done, MATH).status is Status.INVALID


def test_it_has_no_weights() -> None:
    policy = EndpointPolicy()
    policy.setup()
    policy.keep_reference()
    assert policy.sampler_differs
    assert list(policy.parameters()) == [] and policy.trainable_state_dict() == {}
    assert policy.describe() == "gpt-4o-mini at https://api.openai.com/v1"
    assert policy.fingerprint() == "endpoint gpt-4o-mini at https://api.openai.com/v1"
    done = Completion("x", (), (), (), finished=True)
    for refusal in (
        policy.require_weights,
        lambda: policy.score([done]),
        lambda: policy.reference_logprobs([done]),
    ):
        with pytest.raises(
            ConfigError, match=r"neither be trained nor take a checkpoint.*validate"
        ):
            refusal()


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ConfigError, match=r"model\.policy\.max_context_chars=-1: expected"):
        EndpointPolicy(max_context_chars=-1)
    with pytest.raises(RuntimeError, match="connect"):
        EndpointPolicy().write([MATH], [1])
