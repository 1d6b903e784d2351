"""Resolved settings as they may be shown and kept: without secrets, and flat as parameters are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aflow_grpo.training.tracking_address import without_password

__all__ = ["flattened", "without_keys"]

_HIDDEN = "(hidden)"


def without_keys(settings: Any) -> Any:
    """The settings with every API key hidden, and every password in an address.

    What names an environment variable stays.
    """
    if isinstance(settings, Mapping):
        return {
            key: _HIDDEN if key == "api_key" and _is_secret(value) else without_keys(value)
            for key, value in settings.items()
        }
    if isinstance(settings, list):
        return [without_keys(value) for value in settings]
    return without_password(settings) if isinstance(settings, str) else settings


def _is_secret(value: Any) -> bool:
    return bool(value) and not str(value).startswith("$")


def flattened(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value; lists and empty mappings are values."""
    if isinstance(settings, Mapping) and settings:
        flat: dict[str, Any] = {}
        for key, value in settings.items():
            flat |= flattened(value, f"{prefix}.{key}" if prefix else str(key))
        return flat
    return {prefix: settings}
