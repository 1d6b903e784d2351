"""What writes the workflow of a problem that is asked: a checkpoint's policy or a fixed workflow.

Not here: what is then done with it (`solving`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aflow_grpo.errors import ConfigError
from aflow_grpo.records import Domain
from aflow_grpo.workbench.executor_settings import config_path
from aflow_grpo.workflow.library import FIXED, fallback_workflow, library

if TYPE_CHECKING:
    from aflow_grpo.workbench.policies import LoadedPolicy

__all__ = ["check_fixed", "fixed_workflow", "load_writer"]


def load_writer(checkpoint: str | Path, config: Sequence[str | Path], device: str) -> LoadedPolicy:
    """The policy of a checkpoint, on its device.

    Raises:
        ConfigError: As `load_policy`; or there is no such device.
    """
    import torch  # seconds, which a fixed workflow does not need

    from aflow_grpo.workbench.policies import load_policy

    loaded = load_policy(checkpoint, config=[config_path(path) for path in config])
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        loaded.policy.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"--device={device}: {str(error).splitlines()[0]} Expected auto, cpu or cuda."
        ) from error
    return loaded


def check_fixed(given: str | None) -> None:
    """Refuse at once what is neither a file nor the name of a fixed workflow.

    Raises:
        ConfigError: It is neither.
    """
    if given is not None and given not in FIXED and not Path(given).is_file():
        raise ConfigError(
            f"--workflow={given}: neither a file nor a fixed workflow: {', '.join(FIXED)}."
        )


def fixed_workflow(given: str | None, domain: Domain) -> tuple[str, str]:
    """A fixed workflow as a policy would write it, and what a person calls it.

    Args:
        given: Its name, or a file; None: the fallback of the domain.
        domain: Of the problem.

    Raises:
        ConfigError: The domain has none of that name.
    """
    known = library(domain)
    if given is None:
        source = fallback_workflow(domain)
        given = next(name for name, each in known.items() if each == source)
    elif given not in known:
        if given in FIXED:
            raise ConfigError(
                f"--workflow={given}: none of the fixed workflows for {domain}: {', '.join(known)}."
            )
        return Path(given).read_text(encoding="utf-8", errors="replace"), given
    source = known[given]
    text = json.dumps({"prompts": dict(source.prompts), "graph_code": source.graph_code})
    return text, f"the fixed workflow `{given}`"
