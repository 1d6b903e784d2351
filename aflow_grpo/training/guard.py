"""Ends a run that has gone wrong, and names the checkpoint from before it did.

Three things are watched: numbers that are not finite, a KL divergence above a limit, and a collapse
of validity, in which a policy that wrote workflows that can run no longer does. What is not finite
is noticed before an optimiser step takes it over; the weights are looked at once more after each
iteration, before a checkpoint can hold them.

Not here: runs in which nothing can be learned (`GRPOSettings.check_idle`) or in which no endpoint
answers (`outage`).
"""

from __future__ import annotations

import math
import os
import shutil
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils import get_total_norm

from aflow_grpo.errors import ConfigError, DivergedError
from aflow_grpo.records import Status
from aflow_grpo.training.checkpoint import BoundaryCheckpoint, checkpoint_directory
from aflow_grpo.training.ranks import TOLD

if TYPE_CHECKING:
    from aflow_grpo.training.module import GRPOModule

__all__ = ["KEPT", "GuardSettings", "TrainingGuard", "Validity", "check_finite"]

KEPT = "before_collapse.ckpt"
"""The checkpoint that is kept from before validity began to fall."""
_SETTLED = 0.5
"""A collapse is looked for once so large a share has been valid: lower ones may be chance."""
_REMEDY = "a lower model.optimizer.learning_rate or a higher model.grpo.loss.kl_coef"


@dataclass(frozen=True)
class GuardSettings:
    """When a run has gone wrong and is ended, with the last good checkpoint named.

    Numbers that are not finite always end it.
    """

    max_kl: float | None = None
    """Highest mean KL divergence from the reference policy in an iteration, in nats per token.
    Needs `model.grpo.loss.kl_coef` above 0, which may be tiny. 10 is a good value: training every
    weight of the tiny policy, from 9% to 98% direct execution, reaches 1.1 in single iterations,
    and where the KL runs away it passes thousands."""
    min_valid_share_of_best: float | None = 0.5
    """Lowest share of workflows that are valid (neither cut nor rejected), as a fraction of its
    highest so far, both as means over `over_iterations`; null: any. Judged once half of the
    workflows have been valid. Recorded healthy runs never fell below 0.98 of their best."""
    over_iterations: int = 20
    """How many iterations these means are over."""

    def __post_init__(self) -> None:
        key, share = "model.grpo.guard", self.min_valid_share_of_best
        if self.max_kl is not None and not 0 < self.max_kl < math.inf:
            raise ConfigError(f"{key}.max_kl={self.max_kl:g}: expected more than 0, or null.")
        if share is not None and not 0 < share < 1:
            raise ConfigError(
                f"{key}.min_valid_share_of_best={share:g}: expected more than 0 and less than 1, "
                "or null."
            )
        if self.over_iterations < 1:
            raise ConfigError(f"{key}.over_iterations={self.over_iterations}: expected at least 1.")


def check_finite(value: float | torch.Tensor, what: str, module: GRPOModule) -> None:
    """Call before an optimiser step takes `value` over.

    On several ranks only with what all of them know, such as the norm of averaged gradients:
    otherwise the others would wait for ever.

    Args:
        value: One number.
        what: What it is, for a person, e.g. ``gradient norm``.
        module: What is being trained.

    Raises:
        DivergedError: It is not finite.
    """
    if not math.isfinite(value):
        raise _diverged(
            module,
            f"the {what} is {float(value):g} in iteration {module.iteration + 1}",
        )


class Validity:
    """The recent share of valid workflows, and how it compares with its best.

    Args:
        settings: The limit, and over how many iterations means are taken.
    """

    def __init__(self, settings: GuardSettings) -> None:
        self._least = settings.min_valid_share_of_best
        self._shares: deque[float] = deque(maxlen=settings.over_iterations)
        self.best = 0.0
        """The highest mean so far."""

    def add(self, share: float) -> None:
        """Take note of an iteration's share of valid workflows, 0 to 1."""
        self._shares.append(share)
        if len(self._shares) == self._shares.maxlen:
            self.best = max(self.best, self.mean)

    @property
    def mean(self) -> float:
        """Of the recent iterations; 1 before the first."""
        return fmean(self._shares or (1.0,))

    @property
    def collapsed(self) -> bool:
        """Whether the mean is below the limit."""
        return self._least is not None and self._below(self._least)

    @property
    def falling(self) -> bool:
        """Whether the mean is half the way from its best to the limit, or further."""
        return self._least is not None and self._below((1 + self._least) / 2)

    def _below(self, fraction: float) -> bool:
        return self.best >= _SETTLED and self.mean < fraction * self.best

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"shares": list(self._shares), "best": self.best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; one from before there was a guard has an empty state."""
        self._shares.clear()  # a module may be given one checkpoint after another
        self._shares.extend(float(share) for share in state.get("shares", ()))
        self.best = float(state.get("best", 0.0))


class TrainingGuard:
    """Looks at every iteration once its update is done.

    Args:
        settings: The limits.
        kl_is_known: Whether updates compute the KL divergence.

    Raises:
        ConfigError: The KL divergence is limited and not known.
    """

    def __init__(self, settings: GuardSettings, *, kl_is_known: bool) -> None:
        if settings.max_kl is not None and not kl_is_known:
            raise ConfigError(
                f"model.grpo.guard.max_kl={settings.max_kl:g} needs a reference policy, and "
                "model.grpo.loss.kl_coef=0 keeps none. Set kl_coef, 1e-6 say, or max_kl: null."
            )
        self._settings = settings
        self.validity = Validity(settings)
        """What has been seen so far; it belongs into checkpoints."""

    def observe(self, module: GRPOModule, metrics: Mapping[str, float]) -> None:
        """Judge the iteration that has just been completed.

        Args:
            module: What is being trained, with the updated weights and the iteration's rollouts.
            metrics: Of the update. They, rollouts and weights are the same on every rank, so that
                the run ends on all of them or on none.

        Raises:
            DivergedError: It has gone wrong. The last checkpoint is not to be overwritten.
        """
        _check_weights(module)
        kl, limit = metrics.get("train/kl"), self._settings.max_kl
        if limit is not None and kl is not None and not kl <= limit:
            raise _diverged(
                module,
                f"the policy's KL divergence from its reference is {kl:.3g} nats per token in "
                f"iteration {module.iteration}, above model.grpo.guard.max_kl={limit:g}",
            )
        judged = [r.execution.status for r in module.rollouts if not r.masked]
        if judged:
            rejected = sum(status in (Status.CUT, Status.INVALID) for status in judged)
            self._check_validity(module, 1 - rejected / len(judged))

    def _check_validity(self, module: GRPOModule, share: float) -> None:
        validity, settings = self.validity, self._settings
        fell_before = validity.falling
        validity.add(share)
        if validity.falling and not fell_before and module.trainer.is_global_zero:
            _keep_last(module)
        if validity.collapsed:
            raise _diverged(
                module,
                f"only {validity.mean:.0%} of the workflows of the last {settings.over_iterations} "
                f"iterations are valid (now {module.iteration}), after {validity.best:.0%} at best;"
                f" model.grpo.guard.min_valid_share_of_best={settings.min_valid_share_of_best:g} "
                "allows less of a fall",
                kept=KEPT,
            )


def _check_weights(module: GRPOModule) -> None:
    trained = {n: p.detach() for n, p in module.policy.named_parameters() if p.requires_grad}
    norm = float(get_total_norm(list(trained.values())))
    if not math.isfinite(norm):
        worst = max(trained, key=lambda name: float(trained[name].abs().max().nan_to_num(math.inf)))
        raise _diverged(
            module,
            f"the weights' norm is {norm:g} after the update of iteration {module.iteration} "
            f"(the largest are in {worst})",
            "a lower model.optimizer.learning_rate",
        )


def _diverged(
    module: GRPOModule, what: str, remedy: str = _REMEDY, *, kept: str = ""
) -> DivergedError:
    found = _last_good(module, kept)
    then = f"No checkpoint has been written yet; begin again with {remedy}."
    if found is not None:
        path, iteration = found
        then = (
            f"The last good checkpoint is {path} (iteration {iteration}); continue from it, "
            f"--ckpt_path {path}, with {remedy}."
        )
    error = DivergedError(f"Training has gone wrong: {what}. {then}")
    error.add_note(TOLD)
    return error


def _last_good(module: GRPOModule, kept: str) -> tuple[Path, int] | None:
    """The checkpoint that holds the policy as it was before, and its iteration."""
    folder = checkpoint_directory(module.trainer.default_root_dir)
    callbacks = module.trainer.checkpoint_callbacks
    if module.at_boundary and any(isinstance(c, BoundaryCheckpoint) for c in callbacks):
        return folder / "last.ckpt", module.iteration  # it is written as the run ends
    for name in (kept, "last.ckpt"):
        path = folder / name
        if name and path.is_file():
            return path, _iteration_of(path)
    return None


def _iteration_of(path: Path) -> int:
    loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return int(loaded["aflow_grpo"]["iteration"])


def _keep_last(module: GRPOModule) -> None:
    """Keep `last.ckpt` under another name: later ones may hold a worse policy."""
    folder = checkpoint_directory(module.trainer.default_root_dir)
    last, kept = folder / "last.ckpt", folder / KEPT
    kept.unlink(missing_ok=True)
    if last.is_file():
        try:
            os.link(last, kept)  # checkpoints are replaced, never written to
        except OSError:  # not every file system has links
            shutil.copy2(last, kept)
