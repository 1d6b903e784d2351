"""One configured endpoint of the executor, and where its key comes from.

The key is looked up in three places: the environment, the YAML value, the configuration object. It
never enters a `repr`, a message or a log line. Not here: talking to the endpoint (`endpoint`).
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal
from urllib.parse import urlsplit

from aflow_grpo.errors import ConfigError, ExecutorError

__all__ = [
    "OPENAI_BASE_URL",
    "REAL_KEY_CHARS",
    "Tier",
    "WriterTier",
    "check_tiers",
    "default_tiers",
    "is_loopback",
    "resolve_key",
]

OPENAI_BASE_URL = "https://api.openai.com/v1"

REAL_KEY_CHARS = 16
"""Shorter keys are made up for servers that want none, and may be ordinary words."""
_REFERENCE = re.compile(r"\$\{(\w+)\}|\$(\w+)")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tier:
    """One endpoint that speaks the OpenAI chat completions API; the first tier is asked first."""

    keyless: ClassVar[str] = "the simulator"
    """What can take its place without a key."""

    name: str = "main"
    """How logs, records and metrics call it."""
    model: str = "gpt-4o-mini"
    base_url: str = OPENAI_BASE_URL
    """Up to and with ``/v1``."""
    api_key: str | None = field(default=None, repr=False)
    """A key, or ``${NAME}`` or ``$NAME`` for a variable of the environment (better: a file that
    holds a key gets shared). Used when the variable `api_key_env` is not set."""
    api_key_env: str = "OPENAI_API_KEY"
    """Variable of the environment that is looked at first; empty for none. Give each provider its
    own, or a tier is sent the key of another."""
    timeout_s: float = 60.0
    """Longest wall-clock time of one HTTP attempt."""
    max_attempts: int = 4
    """HTTP attempts per call before the next tier is asked."""
    max_concurrent: int = 32
    """HTTP attempts, and so connections, at once; other calls wait without a connection, and their
    timeout begins when they are sent."""
    requests_per_min: int | None = None
    """Most HTTP attempts in any 60 s; null for no limit."""
    tokens_per_min: int | None = None
    """Most tokens of prompts and replies in any 60 s, by what calls really use; null for no limit.
    An endpoint that counts max_tokens in advance, as OpenAI does, may still answer 429, which is
    retried."""
    backoff_s: float = 0.5
    """Wait after the first failed attempt; it doubles, with jitter, up to 20 s. A Retry-After of
    the endpoint comes first."""
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 2048
    """Longest reply."""
    price: tuple[float, ...] | None = None
    """USD per million input tokens, output tokens and, as a third figure if there is a discount,
    input tokens that the endpoint had cached; null: the price table's."""
    structured_outputs: Literal["auto", "on", "off"] = "auto"
    """Whether short replies with several parts are asked for as JSON objects (`response_format`):
    `auto` while the endpoint takes it, `on` always, `off` as tagged text. Free text and code never
    are."""

    def __post_init__(self) -> None:
        for name in ("name", "model"):
            if not getattr(self, name):
                raise self._wrong(name, "some text")
        if not _is_address(self.base_url):
            raise self._wrong("base_url", "an address like https://api.openai.com/v1")
        if "@" in self.base_url or "?" in self.base_url:  # may be secret, so it is not repeated
            raise ConfigError(
                f"{self.config_key(self.name)}.base_url holds a user, a password or a query: "
                "expected an address alone, like https://api.openai.com/v1. A key goes to api_key."
            )
        for name in ("timeout_s", "max_attempts", "max_concurrent", "max_tokens"):
            if getattr(self, name) <= 0:
                raise self._wrong(name, "more than 0")
        for name in ("requests_per_min", "tokens_per_min"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise self._wrong(name, "more than 0, or null for no limit")
        for name, least, most in (("temperature", 0, 2), ("top_p", 0, 1), ("backoff_s", 0, 60)):
            if not least <= getattr(self, name) <= most:
                raise self._wrong(name, f"{least} to {most}")
        if self.price is not None and not _is_price(self.price):
            raise self._wrong(
                "price",
                "[USD per million input tokens, per million output tokens], and perhaps a third "
                "figure for cached input tokens, not above the first",
            )
        if self.structured_outputs not in ("auto", "on", "off"):
            raise self._wrong("structured_outputs", "auto, on or off")

    def config_key(self, place: int | str) -> str:
        """Where this tier stands in the YAML files, for messages.

        Args:
            place: Its index among the tiers, or its name where that is not known.
        """
        return f"llm.tiers[{place}]"

    def _wrong(self, key: str, expected: str) -> ConfigError:
        place, value = self.config_key(self.name), getattr(self, key)
        return ConfigError(f"{place}.{key}={value!r}: expected {expected}.")


@dataclass(frozen=True)
class WriterTier(Tier):
    """The endpoint that writes workflows, in place of a model in this process."""

    keyless: ClassVar[str] = "a policy in this process"
    name: str = "writer"
    temperature: float = 1.0
    """Of sampled workflows; greedy ones are drawn at 0."""
    max_tokens: int = 1024
    """Longest completion; a longer one is cut."""

    def config_key(self, place: int | str) -> str:
        """There is only one."""
        return "model.policy.tier"


def default_tiers() -> list[Tier]:
    """Who answers when no tier is configured: gpt-4o-mini of OpenAI."""
    return [Tier(name="primary")]


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        reachable = parts.port != 0 and bool(parts.hostname)
    except ValueError:  # a port that is no number, say
        return False
    return reachable and parts.scheme in ("http", "https") and url.isprintable() and " " not in url


def _is_price(price: Sequence[float]) -> bool:
    return len(price) in (2, 3) and min(price) >= 0 and (len(price) == 2 or price[2] <= price[0])


def check_tiers(tiers: Sequence[Tier]) -> None:
    """Refuse an empty chain or doubled names; warn of two tiers that fail together.

    Raises:
        ConfigError: There is no tier, or two have one name.
    """
    if not tiers:
        raise ConfigError("llm.tiers is empty: expected at least one tier.")
    names = [tier.name for tier in tiers]
    if len(set(names)) != len(names):
        raise ConfigError(f"llm.tiers have the names {names}: expected each name once.")
    seen: dict[str, str] = {}
    for tier in tiers:
        provider = _provider(tier)
        if provider in seen:
            _LOG.warning(
                "llm.tiers: %r and %r both ask %s, so they fail together; "
                "give the second another provider.",
                *(seen[provider], tier.name, provider),
            )
        seen.setdefault(provider, tier.name)


def _provider(tier: Tier) -> str:
    """The host; on this machine with the port, since each port is a server of its own."""
    parts = urlsplit(tier.base_url)
    host = (parts.hostname or "").removesuffix(".")
    return parts.netloc if is_loopback(tier.base_url) else host


def is_loopback(base_url: str) -> bool:
    """Whether `base_url` is on this machine, where proxies of the environment do not apply."""
    host = urlsplit(base_url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def resolve_key(
    tier: Tier,
    index: int,
    *,
    keys: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> str:
    """The key of `tier`: environment, then YAML value, then configuration object.

    Args:
        tier: Whose key.
        index: Its position in `llm.tiers`, for the message.
        keys: The configuration object: tier name -> key.
        environ: The environment; None: this process's.

    Raises:
        ExecutorError: None of the three places has a key (the message names all three), or what is
            there cannot be one.
    """
    environ = os.environ if environ is None else environ
    where = tier.config_key(index)
    # A key read from a file by a shell often ends with a line end.
    from_environ = environ.get(tier.api_key_env, "").strip() if tier.api_key_env else ""
    reference = _REFERENCE.fullmatch(tier.api_key or "")
    variable = (reference[1] or reference[2]) if reference else None
    from_yaml = (environ.get(variable, "") if variable else (tier.api_key or "")).strip()
    if from_environ:
        if from_yaml and from_yaml != from_environ:
            _LOG.warning(
                "%s.api_key differs from the variable %s, which comes first; "
                "set %s.api_key_env to the variable meant for tier %r.",
                *(where, tier.api_key_env, where, tier.name),
            )
        return _sendable(from_environ, tier, where)
    key = from_yaml or (keys or {}).get(tier.name, "")
    if key:
        return _sendable(key, tier, where)
    yaml_state = f"{variable} is not set" if variable else "empty"
    env_state = tier.api_key_env or f"({where}.api_key_env is empty)"
    raise ExecutorError(
        f"No API key for tier {tier.name!r}. Looked in (1) the environment variable "
        f"{env_state}: not set; "
        f"(2) {where}.api_key in the YAML file: {yaml_state}; "
        f"(3) the configuration object's api_keys[{tier.name!r}]: not given. Set one of them, "
        f"or use {tier.keyless}, which needs none."
    )


def _sendable(key: str, tier: Tier, where: str) -> str:
    if key in tier.base_url and len(key) >= REAL_KEY_CHARS:
        raise ConfigError(
            f"{where}.base_url holds the tier's API key, and addresses are shown in logs. Take it "
            "out of there; the key is sent in a header."
        )
    if key.isascii() and key.isprintable() and " " not in key:
        return key
    places = f"{tier.api_key_env}, {where}.api_key" if tier.api_key_env else f"{where}.api_key"
    raise ExecutorError(
        f"The API key of tier {tier.name!r} ({places}) holds a space, a line end or a letter that "
        "is not ASCII, which no key has. Copy it again."
    )
