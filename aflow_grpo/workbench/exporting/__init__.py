"""What leaves the house: a policy for plain `peft` or `transformers`, a workflow as one file.

Whoever receives one needs nothing of this package. Loaded on first use, since a model needs torch
and a workflow does not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aflow_grpo.workbench.exporting.models import export_adapter, export_merged
    from aflow_grpo.workbench.exporting.workflows import export_workflow

__all__ = ["export_adapter", "export_merged", "export_workflow"]

_MODULES = {
    "export_adapter": "models",
    "export_merged": "models",
    "export_workflow": "workflows",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
