"""An OpenAI-compatible server that nobody here wrote: `transformers serve`, on a random model.

What it says is noise, so only what travels is judged: texts, usage, cost, and that it knows neither
JSON schemas nor prices.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from random_models import byte_tokenizer, random_qwen2
from trainer_runs import metrics_of, new_root, run_verb, write_settings
from transformers.utils.import_utils import is_serve_available

from aflow_grpo.llm.client import ExecutorClient
from aflow_grpo.llm.session import LLMSession
from aflow_grpo.llm.tiers import Tier
from aflow_grpo.operators.prompts import answer_prompt
from aflow_grpo.operators.replies import PartsReader

pytestmark = pytest.mark.skipif(
    not is_serve_available(), reason="transformers serve needs pip install 'transformers[serving]'"
)
SERVE = "from transformers.cli.transformers import main; main()"
PATIENCE_S = 120.0
MAX_TOKENS = 8


@pytest.fixture(scope="module")
def tier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tier]:
    """The server as a tier; it needs no key and has no price."""
    folder = tmp_path_factory.mktemp("served")
    random_qwen2().save_pretrained(folder / "model")
    byte_tokenizer().save_pretrained(folder / "model")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["serve", str(folder / "model"), "--device", "cpu", "--port", str(port)]
    command = [sys.executable, "-c", SERVE, *options, "--host", "127.0.0.1"]
    log = folder / "log"
    with (
        log.open("w") as told,
        subprocess.Popen(
            command,
            stdout=told,
            stderr=told,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""},
        ) as process,
    ):
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process, log)
            yield Tier(
                name="foreign",
                model=str(folder / "model"),
                base_url=f"http://127.0.0.1:{port}/v1",
                api_key="none",
                api_key_env="",
                max_tokens=MAX_TOKENS,
                max_concurrent=4,
                price=(0.0, 0.0),
            )
        finally:
            process.kill()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url):
                return
        except (urllib.error.URLError, ConnectionError):
            threading.Event().wait(0.1)
    raise AssertionError(f"no answer at {url}: {log.read_text()[-2000:]}")


def test_texts_usage_and_cost_come_back(tier: Tier) -> None:
    async def run() -> list[tuple[str, LLMSession]]:
        client = ExecutorClient([tier])
        await client.check()

        async def one(seed: int, prompt: str, system: str) -> tuple[str, LLMSession]:
            session = client.session(seed)
            return await session(prompt, system=system), session

        asked = [one(0, "hi", ""), one(1, "hi", ""), one(2, "hello", "Be brief.")]
        done = list(await asyncio.gather(*asked))
        await client.aclose()
        return done

    (first, one), (second, _), (third, other) = asyncio.run(run())
    assert first and first == second != third, "greedy, and a function of the messages"
    # One token per byte; the template writes each message as <role>content.
    assert one.usage.prompt_tokens == len("<user>hi<assistant>")
    assert other.usage.prompt_tokens == len("<system>Be brief.<user>hello<assistant>")
    for session in (one, other):
        usage = session.usage
        assert (usage.calls, usage.attempts) == (1, 1)
        assert 0 < usage.completion_tokens <= MAX_TOKENS
        assert usage.cost_usd == usage.billed_usd == 0
        assert session.tiers_used == ("foreign",)
        assert [call.finish_reason for call in session.calls] in (["length"], ["stop"])


def test_a_reply_in_parts_is_read_though_it_knows_no_schema(tier: Tier) -> None:
    prompt = answer_prompt("What is 2 + 2?", "")
    assert prompt.form is not None

    async def run() -> str:
        client = ExecutorClient([tier])
        text, _ = await client.session(0).call_with_format(
            prompt.user, PartsReader("thought", "answer"), system=prompt.system, form=prompt.form
        )
        await client.aclose()
        return text

    assert asyncio.run(run())


@pytest.mark.slow
def test_a_validation_runs_on_it_by_llm_tiers(tier: Tier, tmp_path: Path) -> None:
    settings = write_settings(
        tmp_path,
        llm__simulator=None,
        llm__tiers=[
            {
                "name": tier.name,
                "model": tier.model,
                "base_url": tier.base_url,
                "api_key": "none",
                "api_key_env": "",
                "max_tokens": MAX_TOKENS,
                "price": [0, 0],
            }
        ],
    )
    root = new_root(tmp_path / "run")
    assert run_verb("validate", "--config", settings, "--trainer.default_root_dir", root) == 0
    found = metrics_of(root, "validate")
    assert found["val/accuracy", 0] == 0 and ("val/reward", 0) in found
    with sqlite3.connect(root / "journal.db") as database:
        calls = database.execute("select tier, model, reply, completion_tokens from calls")
        rows = calls.fetchall()
    assert len(rows) >= 6
    assert {row[:2] for row in rows} == {("foreign", tier.model)}
    assert all(0 < tokens <= MAX_TOKENS for *_, tokens in rows)
    assert any(reply for _, _, reply, _ in rows)
