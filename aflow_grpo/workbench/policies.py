"""A trained policy, from a run's directory or one of its checkpoints, ready to write workflows.

A checkpoint holds only what was trained. What it was trained on top of, how it is asked, and which
operators it knows is in the settings that its run recorded; `configs/base.yaml` lies under them,
YAML layers of the caller's above. Without a recording, as for a checkpoint file alone, those
layers say it all. The weights are taken only where model, tokenizer and adapters are those that
the checkpoint was made with. Not here: what is then done with the policy (`solving`, `exporting`).
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser

from aflow_grpo.assets import shipped_path
from aflow_grpo.errors import ConfigError
from aflow_grpo.mistakes import explain
from aflow_grpo.operators.registry import OperatorKit, load_operators
from aflow_grpo.policy.base import BasePolicy
from aflow_grpo.policy.policy import Policy
from aflow_grpo.training.module import STATE_KEY
from aflow_grpo.training.run_directory import read_run_id, recorded_store
from aflow_grpo.workbench.executor_settings import config_path

__all__ = ["LoadedPolicy", "find_checkpoint", "load_policy", "recorded_settings"]

_RECORDED = "config/fit.yaml"
_PREFIX = "policy."
_SET_ASIDE = re.compile(r"last-([0-9a-f]{8})(-\d+)?\.ckpt")
"""Of an earlier run in the same directory; see `RunDirectory.set_checkpoint_aside`."""
_EXPECTED = (
    "Expected a run's directory (the --trainer.default_root_dir of `aflow-grpo fit`) or a "
    "checkpoint of one, such as RUN/checkpoints/last.ckpt."
)


@dataclass(frozen=True)
class LoadedPolicy:
    """A policy as a checkpoint left it, and where it comes from."""

    policy: Policy
    """Set up, in eval mode, on the CPU; it samples in this process, whatever sampled for the run.
    Its prompts offer the run's operators."""
    operators: OperatorKit
    """The ten, and those of `rollout.operators`."""
    settings: Mapping[str, Any]
    """The settings of the run as recorded, the caller's layers over them; keys are hidden."""
    checkpoint: Path
    """The file."""
    root: Path | None
    """The run's directory; None for a checkpoint that lies in none."""
    run_id: str | None
    """The MLflow run that the checkpoint is of; None where nothing says it."""
    state: Mapping[str, Any]
    """What the training module kept beside the weights: `iteration`, `evaluations`, `cost_usd`."""


def find_checkpoint(run_or_checkpoint: str | Path) -> tuple[Path, Path | None]:
    """The checkpoint that is meant, and the run's directory that it lies in.

    Raises:
        ConfigError: There is none.
    """
    given = Path(run_or_checkpoint).expanduser()
    if given.is_dir():
        path = given / "checkpoints" / "last.ckpt"
        if not path.is_file():
            found = "a directory without checkpoints/last.ckpt"
            raise ConfigError(f"{given}: {found}. {_EXPECTED}")
        return path, given
    if not given.is_file():
        raise ConfigError(f"{given}: no such file or directory. {_EXPECTED}")
    root = given.resolve().parent.parent
    inside = given.resolve().parent.name == "checkpoints" and (root / "run.json").is_file()
    return given, root if inside else None


def load_policy(
    run_or_checkpoint: str | Path, *, config: Sequence[str | Path] = ()
) -> LoadedPolicy:
    """The policy with the checkpoint's weights.

    Args:
        run_or_checkpoint: A run's directory, meaning its last checkpoint, or a checkpoint file.
        config: YAML layers as for `--config`, over what the run recorded; of them counts what says
            which policy it is: `model.policy` and `rollout.operators`.

    Raises:
        ConfigError: There is no checkpoint, it cannot be read, its settings are not known, or they
            are not those that it was made with.
    """
    checkpoint, root = find_checkpoint(run_or_checkpoint)
    saved = _read_checkpoint(checkpoint)
    run_id = _run_of(checkpoint, root)
    recorded = None if root is None or run_id is None else _recorded_settings(root, run_id)
    if recorded is None and not config:
        raise ConfigError(
            f"{checkpoint}: nothing says which policy it is of: the settings of its run are not "
            "recorded beside it. Give the run's directory, or the settings that it was trained "
            "with: --config FILE, once for every layer."
        )
    layers = [] if recorded is None else [recorded]
    layers += [_read_layer(config_path(path)) for path in config]
    policy = _make(layers)
    operators = load_operators(_operators_of(layers))
    policy.operators = operators.contract
    policy.setup()
    _fill(policy, saved, checkpoint)
    settings: dict[str, Any] = {}
    for layer in layers:
        settings = _overlaid(settings, layer)
    return LoadedPolicy(
        policy.eval(), operators, settings, checkpoint, root, run_id, saved[STATE_KEY]
    )


# The checkpoint


def _read_checkpoint(path: Path) -> dict[str, Any]:
    """The file's content; tensors are read when they are looked at, the optimiser's never."""
    try:
        saved: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises whatever the wrong bytes lead to
        raise ConfigError(
            f"{path}: it cannot be read as a checkpoint ({type(error).__name__}). {_EXPECTED}"
        ) from error
    if not isinstance(saved, dict) or STATE_KEY not in saved or "state_dict" not in saved:
        raise ConfigError(f"{path}: a checkpoint of another program. {_EXPECTED}")
    return saved


def _fill(policy: Policy, saved: Mapping[str, Any], checkpoint: Path) -> None:
    mine, theirs = policy.fingerprint(), saved[STATE_KEY].get("policy")
    if mine != theirs:
        raise ConfigError(
            f"{checkpoint}: made with policy {theirs}, but the settings are of {mine}. Give the "
            "base model, tokenizer and adapters that it was trained with: --config FILE with "
            "model.policy."
        )
    policy.load_trainable_state_dict(
        {
            name.removeprefix(_PREFIX): tensor
            for name, tensor in saved["state_dict"].items()
            if name.startswith(_PREFIX)
        }
    )


# The settings


def recorded_settings(run_or_checkpoint: str | Path) -> dict[str, Any] | None:
    """All settings of the run that a checkpoint is of; None where they are not recorded.

    Raises:
        ConfigError: There is no checkpoint, or the run's tracking server does not answer.
    """
    checkpoint, root = find_checkpoint(run_or_checkpoint)
    run_id = _run_of(checkpoint, root)
    return None if root is None or run_id is None else _recorded_settings(root, run_id)


def _run_of(checkpoint: Path, root: Path | None) -> str | None:
    """The MLflow run that a checkpoint is of: an earlier one of the directory, where set aside."""
    if root is None:
        return None
    aside = _SET_ASIDE.fullmatch(checkpoint.name)
    if aside is None:
        return read_run_id(root)
    earlier = sorted((root / "artifacts").glob(f"{aside[1]}*/artifacts/{_RECORDED}"))
    return earlier[0].parents[2].name if earlier else None


def _recorded_settings(root: Path, run_id: str) -> dict[str, Any] | None:
    """What `fit` recorded: read from the directory where it lies there, else asked of MLflow."""
    local = root / "artifacts" / run_id / "artifacts" / _RECORDED
    if local.is_file():
        return _read_layer(local)
    store = recorded_store(root)
    if store is None or store.startswith("sqlite:"):
        return None
    import mlflow  # seconds, and only for a run that was tracked elsewhere
    from mlflow.exceptions import MlflowException

    try:
        with tempfile.TemporaryDirectory() as folder:
            path = mlflow.artifacts.download_artifacts(
                run_id=run_id, artifact_path=_RECORDED, dst_path=folder, tracking_uri=store
            )
            return _read_layer(Path(path))
    except (MlflowException, OSError) as error:
        raise ConfigError(
            f"{root}: its settings are at the tracking server {store}, which does not give them "
            f"({str(error).splitlines()[0]:.200}). Start it, or give the settings that the run "
            "was trained with: --config FILE, once for every layer."
        ) from error


def _read_layer(path: Path) -> dict[str, Any]:
    try:
        layer = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {path}: cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        first = str(error).splitlines()[0]
        raise ConfigError(f"--config {path}: not readable as YAML ({first}).") from error
    if not isinstance(layer, dict):
        raise ConfigError(f"--config {path}: expected settings, such as `model:` with `policy:`.")
    return layer


def _at(layer: Mapping[str, Any], *keys: str) -> Any:
    found: Any = layer
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _operators_of(layers: Sequence[Mapping[str, Any]]) -> list[str]:
    given = [_at(layer, "rollout", "operators") for layer in layers]
    return next((list(paths) for paths in reversed(given) if paths is not None), [])


def _make(layers: Sequence[Mapping[str, Any]]) -> Policy:
    """The policy that the layers describe, over the defaults of `base.yaml`.

    Raises:
        ConfigError: They do not fit, or describe an endpoint.
    """
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config")
    parser.add_argument("--model.policy", type=BasePolicy)
    with ExitStack() as stack:
        base = _read_layer(shipped_path("configs/base.yaml"))
        files = [stack.enter_context(_policy_file(layer)) for layer in (base, *layers)]
        try:
            options = parser.parse_args([f"--config={name}" for name in files])
        except Exception as error:  # jsonargparse's own, of several kinds
            said = " ".join(explain(str(error), ["model.policy"]).split())
            raise ConfigError(f"--config: {said}") from error
    given = options.model.policy
    if given.get("init_args") is not None and "backend" in given.init_args:
        given.init_args.backend = None
    try:
        policy = parser.instantiate(options).model.policy
    except ValueError as error:
        # Of an optional group inside the policy: wrapped by jsonargparse.
        cause = error if isinstance(error, ConfigError) else error.__cause__
        if isinstance(cause, ConfigError):
            raise cause from None
        raise
    if not isinstance(policy, Policy):
        policy.require_weights()
    return policy  # type: ignore[no-any-return]


@contextmanager
def _policy_file(layer: Mapping[str, Any]) -> Iterator[str]:
    """A file with what the layer says of the policy, for the parser to overlay."""
    given = _at(layer, "model", "policy")
    content = {} if given is None else {"model": {"policy": given}}
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        file.write(json.dumps(content))
        file.flush()
        yield file.name


def _overlaid(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings, the later ones over the earlier."""
    both = dict(under)
    for key, value in over.items():
        below = both.get(key)
        nested = isinstance(value, Mapping) and isinstance(below, Mapping)
        both[key] = _overlaid(below, value) if nested else value  # type: ignore[arg-type]
    return both
