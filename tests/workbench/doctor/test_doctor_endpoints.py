"""Keys, addresses and probes, against real servers; a key is never shown."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from doctor_world import named
from scripted_endpoint import HANG, Response, Scripted, completion, dead_url, error, scripted

from aflow_grpo.llm.simulator import Simulator, SimulatorSettings
from aflow_grpo.llm.tiers import REAL_KEY_CHARS
from aflow_grpo.workbench.doctor.check import Check
from aflow_grpo.workbench.doctor.endpoints import endpoint_checks, endpoints_of, masked, softened
from aflow_grpo.workbench.doctor.probing import probe_backend, probe_tier, probe_tracking
from aflow_grpo.workbench.doctor.run_settings import read_settings
from aflow_grpo.workflow.contract import TEN_OPERATORS

KEY = "sk-proj-Zq83kfLmVb2xWc7YdTn4RuPa"
OTHER = "sk-other-9fhQ2mXc8LpZ4vBt6NsW1kJe"
VARIABLES = ("OPENAI_API_KEY", "PRIMARY_API_KEY", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "HF_TOKEN", "WANDB_API_KEY", "VLLM_API_KEY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def looked(folder: Path, *tiers: dict[str, object], **more: object) -> list[Check]:
    path = folder / "llm.yaml"
    path.write_text(yaml.safe_dump({"llm": {"simulator": None, "tiers": list(tiers)}, **more}))
    settings = read_settings([path])
    endpoints = endpoints_of(settings)
    checks = softened(list(endpoint_checks(settings, endpoints)), endpoints)
    assert KEY not in str(checks) and OTHER not in str(checks)
    return checks


def test_the_simulator_needs_no_key() -> None:
    settings = read_settings()
    checks = list(endpoint_checks(settings, endpoints_of(settings)))
    assert named(checks, "executor").found.startswith("simulated")
    assert {check.status for check in checks} == {"ok"}


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (KEY, "…RuPa (32 characters)"),
        ("none", "set (4 characters)"),
        ("x" * (REAL_KEY_CHARS - 1), "set (15 characters)"),
        ("", "set (0 characters)"),
    ],
)
def test_no_more_than_the_end_of_a_long_key_is_shown(key: str, shown: str) -> None:
    assert masked(key) == shown


def test_a_key_is_told_with_its_variable_and_tier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
    line = named(looked(tmp_path, {"name": "primary"}), "key.primary")
    assert line.status == "ok"
    assert line.found == "…RuPa (32 characters), from variable OPENAI_API_KEY, for gpt-4o-mini"


def test_a_missing_key_is_a_failure_that_names_its_places(tmp_path: Path) -> None:
    line = named(looked(tmp_path, {"name": "primary"}), "key.primary")
    assert line.status == "failure"
    assert "OPENAI_API_KEY: not set" in line.found and "llm.tiers[0].api_key" in line.found
    assert line.remedy == "export OPENAI_API_KEY=…"


def test_a_key_by_reference_names_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIMARY_API_KEY", KEY)
    tier = {"name": "one", "api_key": "${PRIMARY_API_KEY}", "api_key_env": ""}
    checks = looked(tmp_path, tier)
    assert "llm.tiers[0].api_key (variable PRIMARY_API_KEY)" in named(checks, "key.one").found
    assert "key.PRIMARY_API_KEY" not in [check.name for check in checks]


def test_a_key_written_into_a_file_is_warned_of(tmp_path: Path) -> None:
    line = named(looked(tmp_path, {"name": "one", "api_key": KEY}), "key.one")
    assert line.status == "warning"
    assert "written out in a file" in line.found


def test_two_places_that_differ_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    line = named(looked(tmp_path, {"name": "one", "api_key": OTHER}), "key.one")
    assert line.status == "warning" and "api_key differs from the variable" in line.found
    assert not caplog.records


@pytest.mark.parametrize(
    ("tier", "words"),
    [
        ({"name": "x", "modell": "gpt-4o"}, "llm.tiers[0] has no setting modell"),
        ({"name": "x", "timeout_s": -1}, "timeout_s=-1: expected more than 0"),
        ({"name": "x", "timeout_s": "soon"}, "llm.tiers[0]: a value is of the wrong kind"),
        ({"name": "x", "base_url": "nowhere"}, "expected an address"),
        ({"name": "x", "base_url": f"https://u:{KEY}@h.example/v1"}, "holds a user, a password"),
        ({"name": ""}, "expected some text"),
    ],
)
def test_a_tier_that_cannot_be_read(tmp_path: Path, tier: dict[str, object], words: str) -> None:
    line = named(looked(tmp_path, tier), "tier.llm.tiers[0]")
    assert line.status == "failure" and words in line.found


def test_an_unknown_price_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    line = named(looked(tmp_path, {"name": "one", "model": "llama-9"}), "key.one")
    assert line.status == "failure" and "llm.tiers[0].price" in line.remedy


@pytest.mark.parametrize(
    ("url", "status", "words"),
    [
        ("https://api.openai.com/v1", "ok", "not asked"),
        ("https://api.openai.com/v1/", "ok", "not asked"),
        ("https://api.openai.com", "warning", "does not end with /v1"),
        ("http://models.example/v1", "warning", "not encrypted"),
    ],
)
def test_an_address_is_judged_without_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, status: str, words: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    line = named(looked(tmp_path, {"name": "one", "base_url": url}), "address.one")
    assert line.status == status and words in line.found


def test_a_local_server_that_is_not_running_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    down = {"name": "mine", "base_url": dead_url()}
    assert named(looked(tmp_path, down), "address.mine").status == "failure"
    chain = looked(tmp_path, down, {"name": "backup"})
    assert named(chain, "address.mine").status == "warning"  # the backup is asked then


def test_a_proxy_is_shown_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("https_proxy", f"http://me:{OTHER}@proxy.example:3128")
    line = named(looked(tmp_path, {"name": "one"}), "proxy")
    assert line.status == "ok" and "http://…@proxy.example:3128" in line.found
    # Without a scheme, as curl takes it, and with an @ in the password.
    for value in (f"me:{OTHER}@proxy.example:3128", f"http://me:a@{OTHER}@proxy.example:3128"):
        monkeypatch.setenv("https_proxy", value)
        told = named(looked(tmp_path, {"name": "one"}), "proxy").found
        assert "…@proxy.example:3128" in told and OTHER not in told
    monkeypatch.setenv("https_proxy", "socks5://proxy.example:1080")
    assert named(looked(tmp_path, {"name": "one"}), "proxy").status == "warning"


@contextmanager
def served(script: list[Response]) -> Iterator[Scripted]:
    """A scripted endpoint in a thread of its own."""
    loop = asyncio.new_event_loop()
    ready: Future[Scripted] = Future()
    done = asyncio.Event()

    async def serve() -> None:
        async with scripted(script) as endpoint:
            ready.set_result(endpoint)
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        yield ready.result(10)
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()
        loop.close()


def test_a_probe_of_the_simulator_is_answered() -> None:
    with Simulator([], TEN_OPERATORS.markers, SimulatorSettings()).start() as simulator:
        (line,) = probe_tier(simulator.tier(), 0)
    assert line.status == "ok" and "answered in" in line.found
    assert "paid 0.0000" in line.found


def test_a_probe_asks_for_one_token_and_tells_what_it_cost() -> None:
    with served([completion("a", prompt_tokens=8, completion_tokens=1)]) as endpoint:
        (line,) = probe_tier(endpoint.tier(api_key=KEY), 0)
        (request,) = endpoint.requests
    assert request["max_tokens"] == 1
    assert line.status == "ok" and "paid 0.0000018 USD" in line.found
    assert KEY not in str(line)


@pytest.mark.parametrize(
    ("response", "status", "found", "remedy"),
    [
        (error(401, message=f"Incorrect API key provided: {KEY}"), "failure", "401", "valid key"),
        (error(404, message="no such model"), "failure", "404", "llm.tiers[0].model"),
        (error(429, code="insufficient_quota"), "failure", "429", "credit"),
        (error(429), "warning", "429", "max_concurrent"),
        (error(500), "failure", "500", "trouble of its own"),
        ((200, {}, "<html>"), "failure", "", ""),
        ((HANG, {}, ""), "failure", "", "base_url"),
    ],
)
def test_a_probe_that_fails_says_why(
    response: Response, status: str, found: str, remedy: str
) -> None:
    with served([response]) as endpoint:
        tier = endpoint.tier(api_key=KEY, timeout_s=0.2, max_attempts=1)
        (line,) = probe_tier(tier, 0)
    assert line.status == status
    assert found in line.found and remedy in line.remedy
    assert KEY not in str(line)


def test_a_refused_port_is_told() -> None:
    tier = Scripted(dead_url()).tier(max_attempts=1)
    (line,) = probe_tier(tier, 0)
    assert line.status == "failure" and line.remedy.startswith("Start the server")


def test_without_a_key_nobody_is_asked() -> None:
    with served([completion("a")]) as endpoint:
        (line,) = probe_tier(endpoint.tier(api_key=None), 0)
        assert endpoint.requests == []
    assert (line.status, line.found) == ("failure", "not asked")


def test_a_writers_endpoint_and_a_sampling_server_are_looked_at_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    settings = read_settings(["configs/policy/openai.yaml"])
    checks = list(endpoint_checks(settings, endpoints_of(settings)))
    assert named(checks, "key.writer").status == "ok"
    url = dead_url().replace("//", f"//me:{OTHER}@")
    served_by = tmp_path / "vllm.yaml"
    served_by.write_text(f"model: {{policy: {{init_args: {{backend: {{base_url: '{url}'}}}}}}}}")
    settings = read_settings([served_by])
    endpoints = endpoints_of(settings)
    checks = list(endpoint_checks(settings, endpoints))
    assert named(checks, "address.sampler").status == "failure"
    (probed,) = probe_backend(endpoints)
    assert probed.status == "failure" and OTHER not in probed.found


def test_a_tracking_server_is_asked_whether_it_is_well() -> None:
    with Simulator([], TEN_OPERATORS.markers, SimulatorSettings()).start() as simulator:
        address = simulator.tier().base_url.removesuffix("/v1")
        (line,) = probe_tracking(address)
        assert line.status == "ok"
        secret = address.replace("//", f"//me:{KEY}@")
        (line,) = probe_tracking(f"{secret}/nothing-here")
    assert line.status == "failure" and KEY not in str(line)
