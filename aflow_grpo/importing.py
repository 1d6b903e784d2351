"""Finds what a setting names by its import path: a user's own operators and scorers."""

from __future__ import annotations

import importlib
from typing import Any

from aflow_grpo.errors import ConfigError

__all__ = ["import_named"]


def import_named(key: str, path: str, expected: str) -> Any:
    """What `path` leads to; None where its module has nothing of that name.

    Args:
        key: The setting with its value, for messages, e.g. ``rollout.operators: 'my.Operator'``.
        path: ``module.name``, the module's own name dotted or not.
        expected: The path's form, for messages, e.g. ``module.Class``.

    Raises:
        ConfigError: It is no import path, or importing the module fails.
    """
    module_name, _, name = path.rpartition(".")
    if not module_name:
        raise ConfigError(f"{key} is no import path; expected {expected}")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{key}: {error}. The module's folder must be on the Python path:"
            " run from there with PYTHONPATH=. or install the package."
        ) from error
    except Exception as error:
        raise ConfigError(
            f"{key}: importing {module_name} raised {type(error).__name__}: {error}; mend the "
            "module"
        ) from error
    return getattr(module, name, None)
