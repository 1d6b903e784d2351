"""The settings under which problems are answered without a Trainer: the groups `llm` and `rollout`.

Layers lie over one another as for `fit`: `configs/base.yaml`, what a run recorded, YAML files,
single settings. The groups that only training reads (`trainer`, `data`, …) are passed over, so
that every config of `fit` serves here too. Not here: which policy writes (`policies`).
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentParser

from aflow_grpo.assets import shipped_path
from aflow_grpo.errors import AFlowError, ConfigError
from aflow_grpo.execution import ExecutionSettings
from aflow_grpo.llm.settings import LLMSettings
from aflow_grpo.mistakes import explain
from aflow_grpo.records import to_dict
from aflow_grpo.rewards import RewardSettings
from aflow_grpo.rollout import RolloutSettings
from aflow_grpo.sandbox.settings import SandboxSettings
from aflow_grpo.scoring.settings import ScoringSettings
from aflow_grpo.workflow.limits import InterpreterLimits

__all__ = [
    "ExecutorSettings",
    "RolloutKeys",
    "add_executor_options",
    "config_path",
    "nested",
    "read_executor_settings",
]

_BASE = "configs/base.yaml"
_GROUPS = ("llm", "rollout")
_OTHER_KEYS = ("mlflow", "ckpt_path", "weights_only", "preflight", "output")
"""What a file may say besides the groups of `base.yaml`."""
_HIDDEN = "(hidden)"


@dataclass(frozen=True)
class RolloutKeys:
    """The keys of `rollout` in the YAML files, as `RolloutCallback` has them."""

    execution: ExecutionSettings = ExecutionSettings()
    """Clocks of one workflow."""
    interpreter: InterpreterLimits = field(default_factory=InterpreterLimits)
    """Limits of the interpreter that runs workflow code."""
    sandbox: SandboxSettings = field(default_factory=SandboxSettings)
    """Limits of the processes that run operator-written code."""
    reward: RewardSettings = RewardSettings()
    """Weights, penalties, one-call costs."""
    rollout: RolloutSettings = RolloutSettings()
    """Concurrency, deadline, fallback."""
    operators: list[str] = field(default_factory=list)
    """Import paths of operators of your own, besides the ten."""
    scoring: ScoringSettings = ScoringSettings()
    """What counts as right."""
    overlap: Literal["none", "group", "step"] = "group"
    """Of training; nothing here depends on it."""


@dataclass(frozen=True)
class ExecutorSettings:
    """Who executes workflows, and how they are judged."""

    llm: LLMSettings
    rollout: RolloutKeys


def add_executor_options(parser: ArgumentParser) -> None:
    """The options `--llm.…` and `--rollout.…`."""
    parser.add_class_arguments(LLMSettings, "llm")
    parser.add_class_arguments(RolloutKeys, "rollout")


def config_path(name: str | Path) -> Path:
    """A config file; a shipped one can be named as in the checkout: ``configs/llm/openai.yaml``."""
    given = Path(name).expanduser()
    if not given.exists() and given.parts[:1] == ("configs",):
        try:
            return shipped_path(str(given))
        except FileNotFoundError:
            return given  # whoever reads it says that it is not there
    return given


def read_executor_settings(
    configs: Sequence[str | Path] = (),
    *,
    recorded: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> ExecutorSettings:
    """The settings that the layers come to.

    Args:
        configs: YAML files, the later ones over the earlier.
        recorded: All settings of a run, below the files.
        overrides: Above the files: groups, or dotted keys such as ``llm.budget_usd``; a value may
            be a settings record.

    Raises:
        ConfigError: A file cannot be read, or a setting is unknown or wrong.
    """
    base = _read(shipped_path(_BASE))
    known = (*base, *_OTHER_KEYS)
    layers = [base, _usable(recorded or {})]
    for path in configs:
        layer = _read(config_path(path))
        _refuse_unknown(layer, known, f"--config {path}")
        layers.append(layer)
    over = nested(overrides or {})
    _refuse_unknown(over, _GROUPS, "settings")
    return _parsed([*layers, over])


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as groups: ``{"llm.budget_usd": 1}`` becomes ``{"llm": {"budget_usd": 1}}``."""
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        *groups, name = key.split(".")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[name] = to_dict(value) if _is_record(value) else value
    return tree


def _parsed(layers: Iterable[Mapping[str, Any]]) -> ExecutorSettings:
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config")
    add_executor_options(parser)
    names = [option.lstrip("-") for option in parser._option_string_actions]
    with tempfile.TemporaryDirectory() as folder:
        arguments = []
        for index, layer in enumerate(layers):
            file = Path(folder) / f"{index}.json"
            wanted = {group: layer[group] for group in _GROUPS if layer.get(group) is not None}
            file.write_text(json.dumps(wanted, default=str), encoding="utf-8")
            arguments.append(f"--config={file}")
        try:
            made = parser.instantiate(parser.parse_args(arguments))
        except AFlowError:
            raise
        except Exception as error:  # jsonargparse's own, of several kinds
            cause = error.__cause__
            if isinstance(cause, ConfigError):
                raise cause from None
            raise ConfigError(" ".join(explain(str(error), names).split())) from error
    return ExecutorSettings(made.llm, made.rollout)


def _usable(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """A run's settings without what cannot or must not be used again: its keys, its journal."""

    def clean(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: clean(v) for k, v in value.items() if v != _HIDDEN}
        return [clean(part) for part in value] if isinstance(value, list) else value

    kept: dict[str, Any] = clean({group: recorded.get(group) for group in _GROUPS})
    if isinstance(kept["llm"], dict):
        kept["llm"].pop("journal_dir", None)
    return kept


def _read(path: Path) -> dict[str, Any]:
    try:
        layer = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {path}: cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--config {path}: not readable as YAML ({str(error).splitlines()[0]})."
        ) from error
    if layer is None:
        return {}
    if not isinstance(layer, dict):
        raise ConfigError(f"--config {path}: expected settings, such as `llm:` with `tiers:`.")
    return layer


def _refuse_unknown(layer: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in layer:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{where}: unknown key {key!r}, expected {', '.join(known)}.{hint}")


def _is_record(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)
