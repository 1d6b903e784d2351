"""What `recorded_choice` is run with: folds, features, and what the inner folds choose among.

The keys are those of `options` in `experiments/recorded_choice/experiment.yaml`; the defaults here
are the same values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from aflow_grpo.errors import ConfigError
from aflow_grpo.evaluation.recorded import RECORDED_DATASETS
from aflow_grpo.workbench.experiments.recorded_policy import PolicyRecipe, TrainingSize

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["RecordedChoiceSettings", "settings_from"]

_Built = TypeVar("_Built", bound="DataclassInstance")
_RECIPES = (
    PolicyRecipe(),
    PolicyRecipe(learning_rate=0.03),
    PolicyRecipe(entropy_coef=0.1),
    PolicyRecipe(efficiency_points=0.0),
    PolicyRecipe(efficiency_points=30.0),
)


@dataclass(frozen=True)
class RecordedChoiceSettings:
    """Settings of the experiment."""

    datasets: tuple[str, ...] = RECORDED_DATASETS
    fold_seeds: tuple[int, ...] = (0, 1, 2)
    """Each deals the problems to folds anew, and trains anew."""
    outer_folds: int = 5
    inner_folds: int = 3
    dimensions: tuple[int, ...] = (0, 8)
    """Of the words, per candidate; 0 reads no text at all, so it is a single workflow that GRPO
    finds."""
    recipes: tuple[PolicyRecipe, ...] = _RECIPES
    """Candidates are recipes x dimensions x checkpoints."""
    training: TrainingSize = field(default_factory=TrainingSize)
    alphas: tuple[float, ...] = (10.0, 100.0, 1000.0)
    """Ridge penalties of the outcome model, per candidate."""
    loop_calls: int = 3
    """How often an operator call inside a loop counts: the records do not say."""
    oracle_splits: int = 20

    def __post_init__(self) -> None:
        for name in self.datasets:
            if name not in RECORDED_DATASETS:
                known = ", ".join(RECORDED_DATASETS)
                raise ConfigError(f"datasets: {name!r} is not recorded; expected some of {known}.")
        if min(self.outer_folds, self.inner_folds) < 2:
            raise ConfigError("outer_folds, inner_folds: expected 2 or more of each.")
        if 0 not in self.dimensions or max(self.dimensions) < 1:
            raise ConfigError(
                f"dimensions={self.dimensions}: expected 0, which reads no text, and others."
            )
        for key in ("datasets", "fold_seeds", "recipes", "alphas"):
            if not getattr(self, key):
                raise ConfigError(f"{key}: expected at least one.")

    def shortened(self) -> RecordedChoiceSettings:
        """What a test runs: every part once, nothing of the size of evidence."""
        return replace(
            self,
            datasets=self.datasets[2:3] or self.datasets[:1],
            fold_seeds=self.fold_seeds[:1],
            inner_folds=2,
            dimensions=(0, min(d for d in self.dimensions if d)),
            recipes=self.recipes[:1],
            training=replace(self.training, checkpoints=self.training.checkpoints[:1]),
            alphas=self.alphas[:1],
        )


def settings_from(options: Mapping[str, Any]) -> RecordedChoiceSettings:
    """The settings that a mapping of plain values names; what it leaves out keeps its default.

    Raises:
        ConfigError: A key is unknown, or a value impossible.
    """
    given = dict(options)
    if "recipes" in given:
        given["recipes"] = tuple(_built(PolicyRecipe, r, "recipes") for r in given["recipes"])
    if "training" in given:
        given["training"] = _built(TrainingSize, given["training"], "training")
    return _built(RecordedChoiceSettings, given, "options")


def _built(kind: type[_Built], given: Mapping[str, Any], where: str) -> _Built:
    known = [each.name for each in fields(kind)]
    for key in given:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}, expected some of {', '.join(known)}.")
    return kind(**{key: tuple(v) if isinstance(v, list) else v for key, v in given.items()})
