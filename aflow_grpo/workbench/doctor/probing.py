"""What leaves the machine, on request: one token from every tier, one question to MLflow's server.

The token is really paid for (about 0.000002 USD for gpt-4o-mini). The request has the form of every
later one, so wrong keys, models and parameters show. Importing this module imports openai.
"""

from __future__ import annotations

import asyncio
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

from aflow_grpo.errors import AFlowError
from aflow_grpo.llm.budget import Budget
from aflow_grpo.llm.chat import request_body
from aflow_grpo.llm.check import ask_once, busy, remedy
from aflow_grpo.llm.endpoint import Outcome
from aflow_grpo.llm.prices import find_price
from aflow_grpo.llm.session import Request
from aflow_grpo.llm.tiers import Tier, resolve_key
from aflow_grpo.workbench.doctor.check import Check, Status
from aflow_grpo.workbench.doctor.endpoints import Endpoints, without_credentials
from aflow_grpo.workbench.doctor.isolation import warnings_of

__all__ = ["probe_backend", "probe_tier", "probe_tracking"]

LIMIT_S = 25.0
"""Two attempts of ten seconds and the wait between them."""
_ONE_TOKEN = Request("Hi", "", seed=0, max_tokens=1)
_TIMEOUT_S = 5.0


def probe_tier(tier: Tier, index: int) -> Iterator[Check]:
    """Ask one tier for one token."""
    name, where = f"probe.{tier.name}", tier.config_key(index)
    try:
        with warnings_of("aflow_grpo.llm.tiers"):
            key = resolve_key(tier, index)
        price = find_price(tier.model, tier.price, key=f"{where}.price")
    except AFlowError:  # its own line says so
        fix = "Mend the key or the price first."
        yield Check(name, "endpoints", "failure", "not asked", fix)
        return
    body = request_body(replace(tier, max_tokens=1), _ONE_TOKEN, structured=False)
    started = time.monotonic()
    outcome: Outcome = asyncio.run(ask_once(tier, key, price, body, Budget(None)))
    seconds = time.monotonic() - started
    if outcome.failure is None:
        paid = f"{outcome.usage.billed_usd:.7f} USD by its price"
        found = f"{tier.model} at {tier.base_url} answered in {seconds:.1f} s; paid {paid}"
        yield Check(name, "endpoints", "ok", found)
        return
    failure = outcome.failure
    found = f"{tier.model} at {tier.base_url}: {str(failure).rstrip('.')}"
    status: Status = "warning" if busy(failure) else "failure"
    yield Check(name, "endpoints", status, found, remedy(tier, where, failure))


def probe_backend(endpoints: Endpoints) -> Iterator[Check]:
    """Whether the sampling server can be reached; it is not asked to write anything."""
    parts = urlsplit(endpoints.backend_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    shown = without_credentials(endpoints.backend_url)
    fix = "Start the server (docs/vllm.md), or correct model.policy.backend.base_url."
    try:
        with socket.create_connection((parts.hostname or "", port), _TIMEOUT_S):
            pass
    except OSError as error:
        found = f"{shown}: {error.strerror or error}"
        yield Check("probe.sampler", "endpoints", "failure", found, fix)
        return
    found = f"{shown} takes connections"
    yield Check("probe.sampler", "endpoints", "ok", found)


def probe_tracking(uri: str) -> Iterator[Check]:
    """Whether the tracking server says that it is well."""
    name, address = "mlflow_server", f"{uri.rstrip('/')}/health"
    fix = "Start it (mlflow server), or correct the tracking address."
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as response:
            found = f"{without_credentials(uri)} answers ({response.status})"
            yield Check(name, "lab book", "ok", found)
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        found = f"{without_credentials(uri)}: {reason}"
        yield Check(name, "lab book", "failure", found, fix)
