"""Keys and endpoints of the user's run: what is asked for, what is there, does it look right.

Nothing leaves the machine and nothing is paid for here; `probing` does that, on request. Of a key
at most the last four characters are shown, of a short one none.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlsplit

from aflow_grpo.errors import AFlowError, ConfigError
from aflow_grpo.llm.prices import find_price
from aflow_grpo.llm.tiers import (
    REAL_KEY_CHARS,
    Tier,
    WriterTier,
    check_tiers,
    default_tiers,
    is_loopback,
    resolve_key,
)
from aflow_grpo.workbench.doctor.check import Check
from aflow_grpo.workbench.doctor.isolation import warnings_of
from aflow_grpo.workbench.doctor.run_settings import RunSettings

__all__ = [
    "Endpoints",
    "endpoint_checks",
    "endpoints_of",
    "masked",
    "softened",
    "without_credentials",
]

_LOCAL_TIMEOUT_S = 0.5
_KEY_VARIABLES = ("OPENAI_API_KEY", "PRIMARY_API_KEY", "VLLM_API_KEY", "HF_TOKEN", "WANDB_API_KEY")
"""Variables that the shipped configs and the libraries look at."""
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_CREDENTIALS = re.compile(r"(^|//)[^/\s]*@")
"""Up to the last @: a password may hold one. A proxy's address may have no scheme."""
_REFERENCE = re.compile(r"\$\{?(\w+)\}?")
_TIER_LOG = "aflow_grpo.llm.tiers"


@dataclass(frozen=True)
class Endpoints:
    """Who would be asked by a run with the given settings."""

    tiers: tuple[tuple[int, Tier], ...] = ()
    """Place in its list, and the tier: the executor's, then a writer's."""
    simulated: bool = False
    """The executor is simulated, so that its tiers are not asked."""
    troubles: tuple[Check, ...] = ()
    """Tiers that cannot be read."""
    backend_url: str = ""
    """The vLLM server that draws the policy's tokens; empty for none."""


def masked(key: str) -> str:
    """What may be shown of a key."""
    if len(key) < REAL_KEY_CHARS:
        return f"set ({len(key)} characters)"
    return f"…{key[-4:]} ({len(key)} characters)"


def endpoints_of(settings: RunSettings) -> Endpoints:
    """Every endpoint that the settings name."""
    simulated = settings.get("llm.simulator") is not None
    found: list[tuple[int, Tier]] = []
    troubles: list[Check] = []
    if not simulated:
        stated = settings.get("llm.tiers", [])
        for index, values in enumerate(stated if isinstance(stated, list) else [stated]):
            _add(Tier, values, f"llm.tiers[{index}]", index, found, troubles)
        if not stated:
            found += enumerate(default_tiers())
        if found and not troubles:
            with warnings_of(_TIER_LOG) as told:
                try:
                    check_tiers([tier for _, tier in found])
                except ConfigError as error:
                    fix = "Correct the names in llm.tiers."
                    troubles.append(Check("tiers", "endpoints", "failure", str(error), fix))
            fix = "Give the second tier another provider."
            troubles += [Check("tiers", "endpoints", "warning", line, fix) for line in told]
    if str(settings.get("model.policy.class_path", "")).endswith("EndpointPolicy"):
        values = settings.get("model.policy.init_args.tier", {})
        _add(WriterTier, values, "model.policy.tier", 0, found, troubles)
    backend = settings.get("model.policy.init_args.backend")
    url = ""
    if isinstance(backend, Mapping):
        url = str(backend.get("base_url") or "http://localhost:8000/v1")
    return Endpoints(tuple(found), simulated, tuple(troubles), url)


def _add(
    kind: type[Tier],
    values: Any,
    where: str,
    index: int,
    found: list[tuple[int, Tier]],
    troubles: list[Check],
) -> None:
    known = {field.name for field in fields(kind)}
    name = f"tier.{where}"
    if not isinstance(values, Mapping):
        fix = "Write its settings by name, e.g. `name: primary`."
        told = f"{where}: expected an endpoint's settings"
        troubles.append(Check(name, "endpoints", "failure", told, fix))
        return
    unknown = [str(key) for key in values if key not in known]
    if unknown:
        told = f"{where} has no setting {', '.join(unknown)}"
        fix = f"Its settings are {', '.join(sorted(known))}."
        troubles.append(Check(name, "endpoints", "failure", told, fix))
        return
    given = dict(values)
    if isinstance(given.get("price"), list):
        given["price"] = tuple(given["price"])
    try:
        found.append((index, kind(**given)))
    except (AFlowError, TypeError, AttributeError) as error:
        told = str(error)
        if not isinstance(error, AFlowError):
            told = f"{where}: a value is of the wrong kind ({told})"
        fix = f"Correct {where} in the config."
        troubles.append(Check(name, "endpoints", "failure", told, fix))


def endpoint_checks(settings: RunSettings, endpoints: Endpoints) -> Iterator[Check]:
    """Keys, addresses, proxies; no contact outside of this machine."""
    yield from endpoints.troubles
    if endpoints.simulated:
        found = "simulated (llm.simulator): no key, no network, nothing to pay"
        yield Check("executor", "endpoints", "ok", found)
        yield from _loopback()
    for index, tier in endpoints.tiers:
        yield _key(tier, index)
        yield _address(tier.name, tier.base_url, f"{tier.config_key(index)}.base_url", tier.model)
    if endpoints.backend_url:
        key = "model.policy.backend.base_url"
        yield _address("sampler", endpoints.backend_url, key, "")
    asked = {name for _, tier in endpoints.tiers for name in (tier.api_key_env, _variable(tier))}
    yield from _variables(asked, hint=not settings.layers)
    yield from _proxies(endpoints)


def _loopback() -> Iterator[Check]:
    """The simulator is a server on this machine: can this machine talk to itself?"""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = server.getsockname()
            with socket.create_connection(address, _LOCAL_TIMEOUT_S):
                pass
    except OSError as error:
        found = f"127.0.0.1 cannot be reached ({error.strerror or error}); the simulator is there"
        fix = "ip link set lo up, or start the container with a network of its own."
        yield Check("loopback", "endpoints", "failure", found, fix)


def _key(tier: Tier, index: int) -> Check:
    name, where = f"key.{tier.name}", tier.config_key(index)
    try:
        with warnings_of(_TIER_LOG) as told:
            key = resolve_key(tier, index)
            find_price(tier.model, tier.price, key=f"{where}.price")
    except AFlowError as error:
        variable = tier.api_key_env
        fix = f"export {variable}=…" if variable else f"Set {where}.api_key."
        if "price" in str(error):
            fix = f"Set {where}.price: [USD per million input tokens, … output tokens]."
        return Check(name, "endpoints", "failure", str(error), fix)
    environment = os.environ.get(tier.api_key_env, "").strip() if tier.api_key_env else ""
    origin = f"variable {tier.api_key_env}" if environment == key else f"{where}.api_key"
    if environment != key and _variable(tier):
        origin += f" (variable {_variable(tier)})"
    found = f"{masked(key)}, from {origin}, for {tier.model}"
    if told:
        fix = f"Set {where}.api_key_env to the variable that is meant for this tier."
        return Check(name, "endpoints", "warning", f"{found}; {told[0]}", fix)
    written = tier.api_key == key and len(key) >= REAL_KEY_CHARS
    if written and environment != key:
        fix = f"Write {where}.api_key: ${{NAME}} and export NAME; files get shared."
        return Check(name, "endpoints", "warning", f"{found}, written out in a file", fix)
    return Check(name, "endpoints", "ok", found)


def _variable(tier: Tier) -> str:
    """The variable that `api_key` refers to; empty where it does not."""
    reference = _REFERENCE.fullmatch(tier.api_key or "")
    return reference[1] if reference else ""


def _address(name: str, url: str, where: str, model: str) -> Check:
    """What an address shows without asking anybody outside; a port of this machine is tried."""
    key = f"address.{name}"
    parts = urlsplit(url)
    shown = without_credentials(url)
    if not parts.path.rstrip("/").endswith("/v1"):
        fix = f"Most endpoints want {where} up to and with /v1."
        return Check(key, "endpoints", "warning", f"{shown} does not end with /v1", fix)
    if is_loopback(url):
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            with socket.create_connection((parts.hostname or "", port), _LOCAL_TIMEOUT_S):
                pass
        except OSError:
            fix = f"Start the server, or correct {where}."
            found = f"{shown}: nothing listens there"
            return Check(key, "endpoints", "failure", found, fix)
        return Check(key, "endpoints", "ok", f"{shown}: something listens there")
    if parts.scheme == "http":
        fix = f"Use https in {where}, or a tunnel; the key crosses the network readable."
        return Check(key, "endpoints", "warning", f"{shown} is not encrypted", fix)
    asked = f"{shown}, {model}" if model else shown
    return Check(key, "endpoints", "ok", f"{asked} (not asked; --probe asks for one token)")


def without_credentials(address: str) -> str:
    """An address as it may be shown: without a user and a password."""
    return _CREDENTIALS.sub(r"\1…@", address)


def _variables(asked: set[str], *, hint: bool) -> Iterator[Check]:
    """Keys in the environment that no tier above stands for; `hint` tells of a missing one."""
    for variable in _KEY_VARIABLES:
        value = os.environ.get(variable, "").strip()
        if variable in asked or not (value or (hint and variable == "OPENAI_API_KEY")):
            continue
        found = masked(value) if value else "not set; configs/llm/openai.yaml wants it"
        yield Check(f"key.{variable}", "endpoints", "ok", found)


def _proxies(endpoints: Endpoints) -> Iterator[Check]:
    values = {name: os.environ.get(name) or os.environ.get(name.lower()) for name in _PROXIES}
    proxies = {name: value for name, value in values.items() if value and name != "NO_PROXY"}
    if not proxies:
        return
    told = ", ".join(f"{name}={without_credentials(value)}" for name, value in proxies.items())
    if values["NO_PROXY"]:
        told += f", NO_PROXY={values['NO_PROXY']}"
    socks = [name for name, value in proxies.items() if value.startswith("socks")]
    outside = any(not is_loopback(tier.base_url) for _, tier in endpoints.tiers)
    if socks and outside:
        fix = f"Set {socks[0]} to an http:// proxy; the client of the endpoints knows no SOCKS."
        yield Check("proxy", "endpoints", "warning", told, fix)
        return
    found = f"{told}; endpoints of this machine are asked directly"
    yield Check("proxy", "endpoints", "ok", found)


def softened(checks: Sequence[Check], endpoints: Endpoints) -> list[Check]:
    """An executor's tier that is down is a warning while another one of the chain is not."""
    names = [tier.name for _, tier in endpoints.tiers if not isinstance(tier, WriterTier)]
    mild: set[str] = set()
    for kind in ("address", "probe"):
        lines = [c for c in checks if c.name in {f"{kind}.{name}" for name in names}]
        if any(line.status != "failure" for line in lines):
            mild |= {line.name for line in lines}
    return [
        replace(check, status="warning")
        if check.name in mild and check.status == "failure"
        else check
        for check in checks
    ]
