"""Tiers: settings are checked in the words of the config, keys are found and never shown."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from aflow_grpo.errors import ConfigError, ExecutorError
from aflow_grpo.llm.tiers import (
    OPENAI_BASE_URL,
    Tier,
    WriterTier,
    check_tiers,
    default_tiers,
    is_loopback,
    resolve_key,
)

SECRET = "sk-very-secret-0123456789"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("model", ""),
        ("base_url", "api.openai.com/v1"),
        ("base_url", "file:///etc/passwd"),
        ("base_url", "http:///v1"),
        ("base_url", "http://x.org:port/v1"),
        ("base_url", "http://[::1/v1"),
        ("base_url", "http://x.org/\x00/v1"),
        ("base_url", "http://x.org /v1"),
        ("timeout_s", 0),
        ("max_attempts", 0),
        ("max_concurrent", -1),
        ("max_tokens", 0),
        ("temperature", 2.1),
        ("top_p", -0.1),
        ("backoff_s", 61),
        ("price", (-1.0, 2.0)),
        ("price", (1.0,)),
        ("price", (1.0, 2.0, 1.5)),
        ("price", (1.0, 2.0, 0.5, 1.0)),
        ("requests_per_min", 0),
        ("tokens_per_min", -1),
        ("structured_outputs", "json"),
    ],
)
def test_a_wrong_setting_is_named(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"llm\.tiers\[.*\]\.{field}=.*expected"):
        Tier(**{field: value})


def test_a_key_is_in_no_repr_and_no_message() -> None:
    tier = Tier(api_key=SECRET)
    assert SECRET not in repr(tier)
    with pytest.raises(ConfigError) as caught:
        Tier(api_key=SECRET, timeout_s=-1)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("api_key", "environ", "keys", "expected"),
    [
        ("yaml", {"OPENAI_API_KEY": "env"}, {"main": "object"}, "env"),
        ("yaml", {}, {"main": "object"}, "yaml"),
        ("${MINE}", {"MINE": "mine"}, {"main": "object"}, "mine"),
        ("$MINE", {"MINE": "mine"}, {}, "mine"),
        ("${MINE}", {}, {"main": "object"}, "object"),
        (None, {}, {"main": "object"}, "object"),
        ("${MINE}", {"MINE": "mine", "OPENAI_API_KEY": "env"}, {}, "env"),
        ("sk-$with-dollar", {"with": "no"}, {}, "sk-$with-dollar"),
    ],
)
def test_a_key_comes_from_the_environment_then_yaml_then_the_object(
    api_key: str | None, environ: dict[str, str], keys: dict[str, str], expected: str
) -> None:
    assert resolve_key(Tier(api_key=api_key), 0, keys=keys, environ=environ) == expected


def test_a_missing_key_names_all_three_places() -> None:
    with pytest.raises(ExecutorError) as caught:
        resolve_key(Tier(name="backup", api_key="${MINE}", api_key_env="THEIRS"), 1, environ={})
    message = str(caught.value)
    for part in ("'backup'", "THEIRS", "llm.tiers[1].api_key", "MINE is not set", "api_keys["):
        assert part in message


def test_an_empty_api_key_env_never_takes_the_key_of_another_provider() -> None:
    tier = Tier(api_key="own", api_key_env="")
    assert resolve_key(tier, 0, environ={"OPENAI_API_KEY": SECRET}) == "own"


def test_two_different_keys_are_warned_of_without_being_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    resolve_key(Tier(api_key="sk-yaml-key"), 0, environ={"OPENAI_API_KEY": SECRET})
    assert "llm.tiers[0].api_key_env" in caplog.text
    assert SECRET not in caplog.text
    assert "sk-yaml-key" not in caplog.text


@pytest.mark.parametrize("url", ["https://me:hunter2@x.org/v1", "https://x.org/v1?key=hunter2"])
def test_an_address_with_a_secret_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match=r"llm\.tiers\[main\]\.base_url") as caught:
        Tier(base_url=url)
    assert "hunter2" not in str(caught.value)


def test_a_key_may_have_blanks_around_it_but_none_within() -> None:
    assert resolve_key(Tier(), 0, environ={"OPENAI_API_KEY": f" {SECRET}\n"}) == SECRET
    assert resolve_key(Tier(api_key=f"{SECRET}\n"), 0, environ={}) == SECRET
    for wrong in (f"{SECRET} x", f"{SECRET}\nx", f"{SECRET}ü"):
        with pytest.raises(ExecutorError, match=r"llm\.tiers\[0\]\.api_key") as caught:
            resolve_key(Tier(), 0, environ={"OPENAI_API_KEY": wrong})
        assert SECRET not in str(caught.value)


def test_the_writers_tier_is_named_by_its_own_key() -> None:
    with pytest.raises(ConfigError, match=r"^model\.policy\.tier\.timeout_s=0: expected more"):
        WriterTier(timeout_s=0)
    with pytest.raises(ExecutorError) as caught:
        resolve_key(WriterTier(), 0, environ={})
    message = str(caught.value)
    for part in ("'writer'", "OPENAI_API_KEY", "model.policy.tier.api_key", "in this process"):
        assert part in message
    assert "llm.tiers" not in message and "simulator" not in message


def test_an_empty_chain_and_doubled_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least one tier"):
        check_tiers([])
    with pytest.raises(ConfigError, match="each name once"):
        check_tiers([Tier(), Tier(base_url="http://elsewhere/v1")])


@pytest.mark.parametrize(
    ("one", "other", "warned"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1/", True),
        ("https://api.openai.com/v1", "https://API.openai.com:443/v2", True),
        ("https://api.openai.com./v1", "https://api.openai.com/v1", True),
        ("https://api.openai.com/v1", "https://eu.api.openai.com/v1", False),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/other/v1", True),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8001/v1", False),
    ],
)
def test_two_tiers_of_one_provider_are_warned_of(
    one: str, other: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        check_tiers([Tier(name="a", base_url=one), Tier(name="b", base_url=other)])
    assert ("'a' and 'b' both ask" in caplog.text) is warned


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:1/v1", True),
        ("http://[::1]:1/v1", True),
        ("http://localhost/v1", True),
        ("https://api.openai.com/v1", False),
        ("http://127.0.0.1.evil.org/v1", False),
    ],
)
def test_loopback_is_recognised(url: str, expected: bool) -> None:
    assert is_loopback(url) is expected


def test_without_settings_gpt_4o_mini_answers_as_the_source_documents_set_it() -> None:
    (tier,) = default_tiers()
    assert (tier.name, tier.model, tier.base_url) == ("primary", "gpt-4o-mini", OPENAI_BASE_URL)
    assert (tier.temperature, tier.top_p, tier.max_tokens) == (0.0, 1.0, 2048)
    assert (tier.requests_per_min, tier.tokens_per_min, tier.api_key_env) == (
        None,
        None,
        "OPENAI_API_KEY",
    )


def test_a_key_in_the_address_is_refused_and_not_repeated() -> None:
    tier = Tier(base_url=f"https://x.org/{SECRET}/v1")
    with pytest.raises(ConfigError, match=r"llm\.tiers\[0\]\.base_url holds") as caught:
        resolve_key(tier, 0, environ={"OPENAI_API_KEY": SECRET})
    assert SECRET not in str(caught.value)
