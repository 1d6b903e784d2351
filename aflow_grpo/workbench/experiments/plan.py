"""What an experiment consists of, as its YAML file says it.

An arm is what is compared: settings on top of the experiment's, trained or not. A replicate is one
repetition: a seed, and the world that it takes place in. `{seed}`, `{world}` and `{replicate}` in
any text stand for the replicate's numbers, `{wordings}` for those of the problems that may be
judged on in that kind of world. Not here: running it (`running`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from aflow_grpo.errors import ConfigError

__all__ = ["Arm", "Experiment", "Replicate", "WorldKind", "read_experiment"]

WorldKind = Literal["sealed", "development"]
_KINDS: tuple[WorldKind, ...] = ("sealed", "development")
_WORDINGS: Mapping[WorldKind, str] = {"sealed": "sealed", "development": "held"}
_LISTS = ("configs", "policies", "kills", "metrics")
_TEXTS = ("name", "question", "analysis", "reference", "of")
_CHANGES = ("replicates", "arms", "settings", "options", "judge")
_DUE = {str: "text", dict: "mapping", list: "list", bool: "true or a false", int: "number"}
REPLICATES = 100
"""At most so many: repetitions are numbered by warm start, then by replicate."""


@dataclass(frozen=True)
class Arm:
    """One thing that is compared."""

    name: str
    train: bool = True
    """False judges the policy as it is before any training."""
    configs: tuple[str, ...] = ()
    """YAML layers over the experiment's."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Single settings above all files."""
    policies: tuple[str, ...] = ()
    """Folders of warm starts to begin from, in place of the settings' model; each is a further
    repetition of every replicate. A folder that is missing is made by `warmstart`."""
    warm_start: Mapping[str, Any] = field(default_factory=dict)
    """Options of `warmstart` for missing folders, `{seed}` being the folder's place."""
    kills: tuple[int, ...] = ()
    """`kill -9` once so many iterations are complete, then resume."""
    of: str = ""
    """Judge the policies that this arm trained, under this arm's settings, and train none."""
    replicates: int | None = None
    """Only the first so many of the experiment's."""

    @property
    def folder(self) -> str:
        """The name as that of a folder."""
        return "-".join(re.findall(r"[\w.]+", self.name))


@dataclass(frozen=True)
class Replicate:
    """One repetition of every arm."""

    number: int
    """From 0."""
    seed: int
    world: int
    kind: WorldKind

    def fill(self, value: Any) -> Any:
        """`value` with what `{seed}`, `{world}`, `{replicate}` and `{wordings}` stand for.

        A text that is nothing but one of these becomes a number.
        """
        if isinstance(value, Mapping):
            return {key: self.fill(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [self.fill(part) for part in value]
        if not isinstance(value, str):
            return value
        names: dict[str, int | str] = {"seed": self.seed, "world": self.world}
        names |= {"replicate": self.number, "wordings": _WORDINGS[self.kind]}
        for name, meant in names.items():
            if value == f"{{{name}}}":
                return meant
            value = value.replace(f"{{{name}}}", str(meant))
        return value


@dataclass(frozen=True)
class Experiment:
    """A question and how it is answered."""

    name: str
    question: str
    analysis: str = "arms"
    """Which table is made of the rows: `arms`, or a special one by name."""
    configs: tuple[str, ...] = ()
    """YAML layers of every arm."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Single settings of every arm, above all files of the experiment."""
    arms: tuple[Arm, ...] = ()
    judge: Mapping[str, Any] = field(default_factory=dict)
    """Name of a set -> settings under which `validate` judges every arm on it. Sets that are called
    `sealed` or `development` are for worlds of that kind alone."""
    worlds: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """`sealed`, `development`: the worlds' numbers; a replicate takes the one at its place."""
    replicates: int = 3
    reference: str = ""
    """The arm that the others are compared with."""
    metrics: tuple[str, ...] = ("direct", "fallback", "accuracy", "reward", "usd")
    """Columns of the table of arms."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What a special analysis wants to know."""
    short: Mapping[str, Any] = field(default_factory=dict)
    """What differs in the short version: `replicates`, `arms` (names), `settings`, `options`, and
    `judge`, settings of every set."""
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Name -> what differs when the experiment is made under other conditions; keys as of
    `short`."""

    def shortened(self) -> Experiment:
        """The version that a test runs: every part once, nothing of the size of evidence.

        Arms begin from their first warm start alone.
        """
        short = self._with({"replicates": 1, **self.short})
        arms = tuple(replace(arm, policies=arm.policies[:1]) for arm in short.arms)
        return replace(short, arms=arms)

    def varied(self, variant: str) -> Experiment:
        """The experiment under other conditions, with a name of its own.

        Raises:
            ConfigError: There is no variant of that name.
        """
        if variant not in self.variants:
            known = ", ".join(self.variants) or "none"
            raise ConfigError(
                f"{self.name}: there is no variant {variant!r}, expected one of {known}."
            )
        return replace(self._with(self.variants[variant]), name=f"{self.name}-{variant}")

    def _with(self, told: Mapping[str, Any]) -> Experiment:
        """With the settings and options of `told` above its own, those of arms included."""
        kept, settings, judge = told.get("arms"), told.get("settings", {}), told.get("judge", {})
        return replace(
            self,
            replicates=int(told.get("replicates", self.replicates)),
            settings={**self.settings, **settings},
            options={**self.options, **told.get("options", {})},
            judge={name: {**rest, **judge} for name, rest in self.judge.items()},
            arms=tuple(
                replace(arm, settings={k: settings.get(k, v) for k, v in arm.settings.items()})
                for arm in self.arms
                if kept is None or arm.name in kept
            ),
        )

    def replicates_in(self, kind: WorldKind) -> list[Replicate]:
        """The replicates, each in its world.

        Raises:
            ConfigError: There are fewer worlds of that kind than replicates.
        """
        worlds = self.worlds.get(kind, ())
        if len(worlds) < self.replicates:
            raise ConfigError(
                f"{self.name}: worlds.{kind} has {len(worlds)} numbers for {self.replicates} "
                "replicates, expected one for each."
            )
        return [Replicate(n, n, worlds[n], kind) for n in range(self.replicates)]

    def judged_in(self, kind: WorldKind) -> dict[str, Mapping[str, Any]]:
        """The sets that are judged on in worlds of that kind."""
        others = set(_KINDS) - {kind}
        return {name: told for name, told in self.judge.items() if name not in others}

    def arm(self, name: str) -> Arm:
        """The arm of that name.

        Raises:
            ConfigError: There is none.
        """
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise ConfigError(
            f"{self.name}: there is no arm {name!r}, expected one of "
            f"{', '.join(arm.name for arm in self.arms)}."
        )


def read_experiment(path: Path) -> Experiment:
    """An experiment from its file, or from the folder that holds `experiment.yaml`.

    Raises:
        ConfigError: It cannot be read, or says something unknown.
    """
    file = path / "experiment.yaml" if path.is_dir() else path
    try:
        told = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: no experiment to read ({error.strerror}); expected a folder such as "
            "experiments/direct_execution, or its experiment.yaml."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file}: not readable as YAML ({str(error).splitlines()[0]})."
        ) from error
    if not isinstance(told, dict):
        raise ConfigError(f"{file}: expected keys such as question and arms.")
    told.setdefault("name", file.resolve().parent.name)
    _check_kinds(told, Experiment, str(file))
    if "question" not in told:
        raise ConfigError(f"{file}: no question; expected what the experiment is to answer.")
    arms = []
    for name, given in (told.pop("arms", None) or {}).items():
        given = {} if given is None else given
        where = f"{file}: arms.{name}"
        if not isinstance(given, dict):
            raise ConfigError(f"{where}: expected settings of the arm, such as {{train: false}}.")
        _check_kinds(given, Arm, where)
        arms.append(Arm(name=str(name), **_tuples(given, _LISTS)))
    worlds = told.pop("worlds", None) or {}
    _refuse_unknown(worlds, _KINDS, f"{file}: worlds")
    for kind, numbers in worlds.items():
        if not isinstance(numbers, list) or not all(isinstance(n, int) for n in numbers):
            raise ConfigError(f"{file}: worlds.{kind}: expected a list of numbers.")
    worlds = {kind: tuple(numbers) for kind, numbers in worlds.items()}
    experiment = Experiment(**_tuples(told, _LISTS), arms=tuple(arms), worlds=worlds)
    _check(experiment, str(file))
    return experiment


def _check(experiment: Experiment, where: str) -> None:
    """What would otherwise be found out after hours of runs."""
    if experiment.reference and experiment.arms:
        experiment.arm(experiment.reference)
    folders: dict[str, str] = {}
    for arm in experiment.arms:
        if arm.of and (experiment.arm(arm.of).of or not experiment.arm(arm.of).train):
            raise ConfigError(
                f"{where}: arms.{arm.name}: of={arm.of!r} is an arm that trains none."
            )
        if arm.of and (arm.policies or arm.kills):
            raise ConfigError(f"{where}: arms.{arm.name}: of: leaves nothing to begin or to kill.")
        other = folders.setdefault(arm.folder, arm.name)
        if not arm.folder or other != arm.name:
            raise ConfigError(
                f"{where}: arms.{arm.name}: its folder would be that of {other!r}; arms have to "
                "differ in letters, digits, points or underscores."
            )
    changes = {"short": experiment.short}
    changes |= {f"variants.{name}": told for name, told in experiment.variants.items()}
    for key, changed in changes.items():
        if not isinstance(changed, dict):
            raise ConfigError(f"{where}: {key}: expected some of {', '.join(_CHANGES)}.")
        _refuse_unknown(changed, _CHANGES, f"{where}: {key}")
        _check_kinds(changed, Experiment, f"{where}: {key}", (*_LISTS, "arms"))
        kept = changed.get("arms") or ()
        for arm in map(experiment.arm, kept):
            if arm.of and arm.of not in kept:
                raise ConfigError(f"{where}: {key}.arms: {arm.name!r} needs {arm.of!r} there, too.")
    for name in experiment.variants:
        if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name):
            raise ConfigError(
                f"{where}: variants: {name!r}: expected a text of letters, digits, points, dashes "
                "or underscores, as it names a folder; quote what YAML takes for something else."
            )
    for name, told in experiment.judge.items():
        if not isinstance(told, dict):
            raise ConfigError(f"{where}: judge.{name}: expected settings; {{}} for no other ones.")


def _check_kinds(
    given: Mapping[str, Any],
    kind: type[Arm | Experiment],
    where: str,
    lists: Sequence[str] = _LISTS,
) -> None:
    """Keys that are unknown, and values that are no list, mapping or number where one is due."""
    _refuse_unknown(given, [f.name for f in fields(kind)], where)
    for key, value in given.items():
        due: type = str if key in _TEXTS else dict
        if key in lists:
            due = list
        elif key == "train":
            due = bool
        elif key == "replicates":
            due = int
            if isinstance(value, int) and not 1 <= value <= REPLICATES:
                raise ConfigError(f"{where}: replicates={value}: expected 1 to {REPLICATES}.")
        if not isinstance(value, due):
            raise ConfigError(
                f"{where}: {key}={value!r}: expected a {_DUE[due]}, as the other experiments have."
            )


def _tuples(given: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: tuple(value) if key in keys else value for key, value in given.items()}


def _refuse_unknown(given: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{where}: unknown key {key!r}, expected {', '.join(known)}.{hint}")
