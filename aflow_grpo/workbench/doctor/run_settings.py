"""The settings of the user's run, as far as the doctor needs them: YAML layers, merged.

The full parser imports everything that can be configured, torch included, which takes seconds. The
doctor only merges: `configs/base.yaml` first, mappings key by key, everything else replaced, a
changed `class_path` drops the old `init_args`. It does not judge keys that it does not use;
`aflow-grpo fit --config … --print_config` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aflow_grpo.assets import shipped_path
from aflow_grpo.errors import ConfigError

__all__ = ["RunSettings", "read_settings"]

_BASE = "configs/base.yaml"


@dataclass(frozen=True)
class RunSettings:
    """What the layers say together."""

    values: Mapping[str, Any]
    layers: tuple[str, ...]
    """The files that the user named; none: the defaults."""

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a dotted key; `default` where it is missing or null."""
        value: Any = self.values
        for part in key.split("."):
            if not isinstance(value, Mapping) or value.get(part) is None:
                return default
            value = value[part]
        return value

    @property
    def root(self) -> Path:
        """`trainer.default_root_dir`."""
        return Path(str(self.get("trainer.default_root_dir", ".")))


def read_settings(configs: Sequence[str | Path] = ()) -> RunSettings:
    """Merge `configs` over the shipped defaults.

    Raises:
        ConfigError: A file is missing, is no YAML, or holds something else than settings.
    """
    values: Mapping[str, Any] = {}
    for path in (shipped_path(_BASE), *map(_found, configs)):
        values = _merged(values, _read(path))
    return RunSettings(values, tuple(str(config) for config in configs))


def _found(config: str | Path) -> Path:
    """A shipped config can be named as in the checkout from anywhere: ``configs/minimal.yaml``."""
    path = Path(config)
    name = str(config)
    if not path.exists() and name.startswith("configs/") and name.endswith(".yaml"):
        try:
            return shipped_path(name)
        except FileNotFoundError:
            pass  # the message below names the file
    return path


def _read(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"--config={path}: cannot be read ({error.strerror or error}). Give the path of a "
            "YAML file of settings, e.g. configs/quickstart.yaml."
        ) from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(
            f"--config={path}{line}: no YAML ({getattr(error, 'problem', None) or 'not text'})."
        ) from None
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise ConfigError(f"--config={path}: expected settings by name, e.g. `trainer:`.")
    return values


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    changed = "class_path" in over and over["class_path"] != under.get("class_path")
    if changed:
        merged.pop("init_args", None)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            merged[key] = _merged(old, value)
        else:
            merged[key] = value
    return merged
