"""What tells one run from another: its name, and tags of code, data, settings and machine.

The name holds what a person looks for (verb, policy, data, executor, seed) and four digits of the
settings, so that equal commands have equal names and other settings never do. Nothing here fails a
run: where git is missing or the package lies in no checkout, there is no commit.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import lightning as L
import torch

import aflow_grpo
from aflow_grpo.policy.base import BasePolicy
from aflow_grpo.problem import Problem
from aflow_grpo.training.datamodule import WorkflowDataModule
from aflow_grpo.training.rollout_callback import RolloutCallback

__all__ = ["RunFacts", "config_digest", "git_tags", "problems_digest", "run_facts"]

PREFIX = "aflow_grpo."
_DIGITS = 12
_NOT_COUNTED = ("ckpt_path", "config", "mlflow", "progress", "subcommand")
"""What may differ between two runs of the same settings, besides the directory."""
_GIT_S = 5.0


@dataclass(frozen=True)
class RunFacts:
    """How a run is called, and its tags."""

    name: str
    tags: Mapping[str, str]


def run_facts(
    verb: str, settings: Mapping[str, Any], trainer: L.Trainer, module: L.LightningModule
) -> RunFacts:
    """The facts of a run whose data and policy are loaded and whose executor is open.

    Args:
        verb: ``fit``, ``validate``, ``test``, ...
        settings: All of them, resolved, without keys.
        trainer: With its callbacks and data.
        module: With its policy.
    """
    digest = config_digest(settings)
    tags = {
        "verb": verb,
        "config": digest,
        "seed": str(settings.get("seed_everything")),
        "version": _version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    policy = getattr(module, "policy", None)
    if isinstance(policy, BasePolicy):
        tags["policy"] = policy.describe()
    tags |= _executor_tags(trainer) | _data_tags(trainer)
    named = {f"{PREFIX}{name}": value for name, value in tags.items()}
    return RunFacts(_name(verb, settings, tags), named | git_tags(Path(aflow_grpo.__file__).parent))


def config_digest(settings: Mapping[str, Any]) -> str:
    """12 hexadecimal digits of everything that may change what a run does."""
    kept = {key: value for key, value in settings.items() if key not in _NOT_COUNTED}
    if isinstance(kept.get("trainer"), Mapping):
        trainer = dict(kept["trainer"])
        for place in ("default_root_dir", "logger"):
            trainer.pop(place, None)
        kept["trainer"] = trainer
    return _digest(json.dumps(kept, sort_keys=True, default=str))


def problems_digest(problems: Sequence[Problem]) -> str:
    """12 hexadecimal digits of the problems, in their order."""
    return _digest("\n".join(json.dumps(asdict(p), sort_keys=True, default=str) for p in problems))


def git_tags(folder: Path) -> dict[str, str]:
    """The commit of the checkout that `folder` lies in, and whether files differ from it."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return {}
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    # The first is MLflow's own name, which its pages show.
    return {
        "mlflow.source.git.commit": commit,
        f"{PREFIX}git_dirty": "unknown" if changes is None else str(bool(changes)).lower(),
    }


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip()


def _executor_tags(trainer: L.Trainer) -> dict[str, str]:
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, RolloutCallback):
            tags = {"executor": callback.executor_name, "sandbox": callback.sandbox_mode}
            if callback.simulator_digest:
                tags["simulator"] = callback.simulator_digest[:_DIGITS]
            return tags
    return {}


def _data_tags(trainer: L.Trainer) -> dict[str, str]:
    """A digest of each set that has been loaded."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, WorkflowDataModule):
        return {}
    sets = {split: data.problems(split) for split in ("train", "val", "test", "predict")}
    return {
        f"data.{split}": f"{problems_digest(problems)} ({len(problems):,})"
        for split, problems in sets.items()
        if problems
    }


def _name(verb: str, settings: Mapping[str, Any], tags: Mapping[str, str]) -> str:
    parts = [verb, _policy_name(settings), _data_name(verb, settings)]
    if tags.get("executor", "simulator") != "simulator":
        parts.append(tags["executor"])
    parts += [f"seed{settings.get('seed_everything')}", tags["config"][:4]]
    return "-".join(_short(part) for part in parts if part)


def _policy_name(settings: Mapping[str, Any]) -> str:
    """The model's last name, and the adapters' rank."""
    policy = _at(settings, "model", "policy", "init_args")
    model = _at(policy, "model") or _at(policy, "tier", "model") or ""
    rank = _at(policy, "lora", "rank")
    return str(model).rstrip("/").rpartition("/")[2] + (f"-lora{rank}" if rank else "")


def _data_name(verb: str, settings: Mapping[str, Any]) -> str:
    split = {"fit": "train", "validate": "val"}.get(verb, verb)
    sources = _at(settings, "data", split) or []
    names = list(dict.fromkeys(str(_at(source, "dataset") or "data") for source in sources))
    return "+".join(names) if len(names) <= 3 else f"{len(names)}sets"


def _at(tree: Any, *keys: str) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def _short(part: str) -> str:
    return re.sub(r"[^\w.+\-]+", "_", part)[:40]


def _version() -> str:
    try:
        return version("aflow-grpo")
    except PackageNotFoundError:  # run from a folder that was never installed
        return "unknown"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
