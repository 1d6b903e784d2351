"""The client of a generation server against a real one on loopback: checks, adapters, faults."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
from random_models import byte_tokenizer, random_qwen2
from scripted_endpoint import dead_url
from serving_world import CUT, GARBAGE, HANG, Serving, serving

from aflow_grpo.errors import ExecutorError, OutageError
from aflow_grpo.llm.generation import Asked
from aflow_grpo.llm.generation_server import GenerationServer, ModelGone
from aflow_grpo.llm.tiers import Tier
from aflow_grpo.policy.loading import add_lora, load
from aflow_grpo.policy.settings import LoraSettings

ASKED = Asked((5, 6, 7), seed=3, max_tokens=6, temperature=0.8, top_p=1.0, end_ids=(0,))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a random model."""
    folder = tmp_path_factory.mktemp("base")
    random_qwen2().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def adapter(base: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of an adapter of rank 2."""
    folder = tmp_path_factory.mktemp("adapter")
    model, _ = load(base)
    add_lora(model, LoraSettings(rank=2), seed=0).save_pretrained(
        str(folder), save_embedding_layers=False
    )
    return str(folder)


def tier(base_url: str, model: str, **changes: Any) -> Tier:
    fields: dict[str, Any] = {"backoff_s": 0.001, "timeout_s": 10.0, "max_attempts": 3}
    return Tier(name="sampler", base_url=base_url, model=model, **{**fields, **changes})


def against(
    server: Serving, scenario: Callable[[GenerationServer], Awaitable[Any]], **changes: Any
) -> Any:
    """Run `scenario` with a client of `server`."""

    async def run() -> Any:
        client = GenerationServer(tier(server.base_url, server.source, **changes), "test-key")
        try:
            return await scenario(client)
        finally:
            await client.aclose()

    with serving(server):
        return asyncio.run(run())


def check(server: Serving, temperature: float = 0.8, longest: int = 64, **changes: Any) -> None:
    against(server, lambda c: c.check(longest=longest, temperature=temperature), **changes)


def test_a_server_as_it_has_to_be_passes_and_nothing_is_left_on_it(base: str) -> None:
    server = Serving(base, key="test-key")
    check(server)
    assert server.loaded == []


def test_a_server_of_another_model_is_refused(base: str) -> None:
    with pytest.raises(
        ExecutorError, match=r"serves other\. Give that name, .*--served-model-name"
    ):
        check(Serving(base, name="other"))


def test_a_context_that_is_too_short_is_refused(base: str) -> None:
    with pytest.raises(ExecutorError, match=r"63 tokens in all; .* Serve with --max-model-len 64"):
        check(Serving(base, max_model_len=63))


def test_a_server_that_takes_no_adapters_is_refused(base: str) -> None:
    with pytest.raises(ExecutorError, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"):
        check(Serving(base, runtime_loras=False))


def test_log_probabilities_at_temperature_1_are_refused_unless_that_is_the_temperature(
    base: str,
) -> None:
    with pytest.raises(ExecutorError, match="--logprobs-mode processed_logprobs"):
        check(Serving(base, processed_logprobs=False))
    check(Serving(base, processed_logprobs=False), temperature=1.0)


def test_a_wrong_key_is_refused_and_not_repeated(base: str) -> None:
    with pytest.raises(ExecutorError, match=r"refused the key.* OPENAI_API_KEY") as caught:
        check(Serving(base, key="another"))
    assert "test-key" not in str(caught.value)


def test_a_server_that_is_not_there_is_tried_as_often_as_the_settings_say(
    base: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        client = GenerationServer(tier(dead_url(), base), "k")
        try:
            await client.check(longest=8, temperature=1.0)
        finally:
            await client.aclose()

    with (
        caplog.at_level(logging.INFO, "aflow_grpo"),
        pytest.raises(OutageError, match=r"in 3 attempts; the last: no connection"),
    ):
        asyncio.run(run())
    assert len(caplog.records) == 2, "two waits between three attempts"


def test_an_adapter_draws_under_its_name_until_it_is_unloaded(base: str, adapter: str) -> None:
    server = Serving(base)

    async def scenario(client: GenerationServer) -> None:
        await client.load("aflow-a", adapter)
        await client.load("aflow-a", adapter)  # another process of the run was quicker
        drawing = await client.draw("aflow-a", ASKED)
        assert len(drawing.token_ids) == len(drawing.logprobs) <= 6
        assert [card.name for card in await client.models() if not card.base] == ["aflow-a"]
        await client.unload("aflow-a")
        await client.unload("aflow-a")
        with pytest.raises(ModelGone, match="does not exist"):
            await client.draw("aflow-a", ASKED)

    against(server, scenario)
    assert server.loaded == ["aflow-a"], "loaded once, never in place"
    assert server.drawn_by() == ["aflow-a", "aflow-a"], "what is not there is not asked for again"


def test_a_name_that_holds_another_adapter_is_refused(
    base: str, adapter: str, tmp_path: Path
) -> None:
    async def scenario(client: GenerationServer) -> None:
        await client.load("aflow-a", adapter)
        with pytest.raises(ExecutorError, match="already been loaded"):
            await client.load("aflow-a", str(tmp_path))

    against(Serving(base), scenario)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_lora_rank": 1}, "rank 2 is greater .*Serve with --max-lora-rank of at least"),
        ({"enable_lora": False}, r"LoRA is not enabled.*Serve with --enable-lora\.$"),
        ({"runtime_loras": False}, "Serve with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"),
    ],
)
def test_what_keeps_an_adapter_out_is_named_after_one_attempt(
    base: str, adapter: str, changes: dict[str, Any], said: str
) -> None:
    server = Serving(base, **changes)
    with pytest.raises(ExecutorError, match=said) as caught:
        against(server, lambda client: client.load("aflow-a", adapter))
    assert not isinstance(caught.value, OutageError)
    assert [path for path, _ in server.requests].count("/v1/load_lora_adapter") == 1


def test_a_folder_that_the_server_does_not_see_is_named(base: str, tmp_path: Path) -> None:
    with pytest.raises(ExecutorError, match=r"No adapter found .*model\.policy\.backend|same path"):
        against(Serving(base), lambda c: c.load("aflow-a", str(tmp_path / "elsewhere")))


PASSING = [429, 500, 503, CUT, GARBAGE, {"choices": []}]


@pytest.mark.parametrize("fault", PASSING, ids=str)
def test_a_fault_that_passes_costs_an_attempt_and_nothing_else(base: str, fault: Any) -> None:
    expected = against(Serving(base), lambda client: client.draw(base, ASKED))
    server = Serving(base, fault=lambda path, index: fault if index < 2 else None)
    assert against(server, lambda client: client.draw(base, ASKED)) == expected
    assert len(server.requests) == 3


@pytest.mark.parametrize("fault", PASSING, ids=str)
def test_a_fault_that_stays_is_an_outage(base: str, fault: Any) -> None:
    server = Serving(base, fault=lambda path, index: fault)
    with pytest.raises(OutageError, match="did not answer in 3 attempts; the last: "):
        against(server, lambda client: client.draw(base, ASKED))
    assert len(server.requests) == 3


def test_a_server_that_hangs_is_an_outage_after_its_time(base: str) -> None:
    server = Serving(base, fault=lambda path, index: HANG)
    with pytest.raises(OutageError, match=r"no answer within 0\.05 s"):
        against(server, lambda client: client.draw(base, ASKED), timeout_s=0.05)


@pytest.mark.parametrize("status", [400, 422])
def test_a_refusal_is_final(base: str, status: int) -> None:
    server = Serving(base, fault=lambda path, index: status)
    with pytest.raises(ExecutorError, match=f"HTTP {status}.*on purpose") as caught:
        against(server, lambda client: client.draw(base, ASKED))
    assert not isinstance(caught.value, OutageError) and len(server.requests) == 1


def test_a_wrong_answer_is_final(base: str) -> None:
    def without_ids(body: dict[str, Any]) -> None:
        del body["choices"][0]["token_ids"]

    server = Serving(base, fault=lambda path, index: without_ids)
    with pytest.raises(ExecutorError, match="no token ids") as caught:
        against(server, lambda client: client.draw(base, ASKED))
    assert not isinstance(caught.value, OutageError) and len(server.requests) == 1


def test_no_more_are_asked_for_at_once_than_the_settings_say(base: str) -> None:
    open_now, most = 0, 0

    class Counting(Serving):
        async def _reply(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
            nonlocal open_now, most
            open_now += 1
            most = max(most, open_now)
            try:
                return await super()._reply(method, path, body)
            finally:
                open_now -= 1

    async def scenario(client: GenerationServer) -> None:
        await asyncio.gather(*(client.draw(base, ASKED) for _ in range(6)))

    against(Counting(base), scenario, max_concurrent=2)
    assert most == 2
