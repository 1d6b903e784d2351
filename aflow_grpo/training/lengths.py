"""Prompts and completions against their limits: checked before a run, drawn while it goes on.

Problems that cannot be asked at all end a run before anything is executed, or are left out where
the settings say so. Histograms go to a run on MLflow as a picture and as JSON; their quantiles are
metrics (`metrics.py`). How a prompt is shortened is decided in `policy/prompting.py`.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil

import lightning as L
from lightning.pytorch.loggers import Logger

from aflow_grpo.errors import ConfigError
from aflow_grpo.policy.base import BasePolicy
from aflow_grpo.policy.policy import Policy
from aflow_grpo.records import Rollout
from aflow_grpo.training.datamodule import WorkflowDataModule
from aflow_grpo.training.run_logger import RunLogger, never_fatal

__all__ = [
    "DRAW_EVERY_N_ITERATIONS",
    "Histogram",
    "TokenLimits",
    "check_lengths",
    "histograms",
    "left_out_metrics",
    "log_lengths",
    "token_limits",
]

_LOG = logging.getLogger(__name__)
DRAW_EVERY_N_ITERATIONS = 10
"""How often training draws its histograms, besides its last iteration."""
_BINS = 32


@dataclass(frozen=True)
class TokenLimits:
    """How long a policy's prompts and completions may be, in tokens; None where nobody says."""

    prompt: int | None = None
    completion: int | None = None


@dataclass(frozen=True)
class Histogram:
    """How many values lie between two edges; an upper edge belongs to the next bin but the last."""

    edges: tuple[int, ...]
    """One more than `counts`, from 0."""
    counts: tuple[int, ...]
    limit: int | None = None
    """What no value may exceed, if anything."""


def token_limits(policy: BasePolicy) -> TokenLimits:
    """The limits of a policy in this process; none are known of another."""
    if not isinstance(policy, Policy):
        return TokenLimits()
    return TokenLimits(policy.sampling.max_prompt_tokens, policy.sampling.max_new_tokens)


def check_lengths(policy: BasePolicy, trainer: L.Trainer) -> None:
    """Refuse the loaded problems that the policy cannot be asked, or leave them out and say so.

    Does nothing for data that are not a `WorkflowDataModule`.

    Raises:
        ConfigError: There are such problems, and `data.skip_too_long` is false.
        DataError: Nothing is left of a split.
    """
    data = _data_of(trainer)
    if data is None:
        return
    found = {
        split: policy.too_long([problem.visible for problem in data.problems(split)])
        for split in ("train", "val", "test", "predict")
    }
    found = {split: lengths for split, lengths in found.items() if lengths}
    limit = token_limits(policy).prompt
    if found and not data.skip_too_long:
        raise ConfigError(_refusal(found, data, limit))
    for split, lengths in found.items():
        _LOG.warning(
            "Left out by data.skip_too_long: %s of %s %s problems, longer than "
            "model.policy.sampling.max_prompt_tokens=%s even without any context.",
            f"{len(lengths):,}", f"{len(data.problems(split)):,}", split, limit,
        )  # fmt: skip
        data.leave_out(split, lengths)


def left_out_metrics(trainer: L.Trainer, split: str) -> dict[str, float]:
    """How many problems and rows of `split` were left out, where the settings allow it."""
    data = _data_of(trainer)
    metrics: dict[str, float] = {}
    if data is None:
        return metrics
    if data.skip_too_long:
        metrics[f"{split}/length/skipped_problems"] = float(data.left_out_count(split))
    if bad_rows := data.bad_row_count(split):
        metrics[f"{split}/data/bad_rows"] = float(bad_rows)
    return metrics


def log_lengths(
    logger: Logger | None, rollouts: Sequence[Rollout], limits: TokenLimits, split: str, step: int
) -> None:
    """Histograms of executed rollouts as ``lengths/<split>_<step>.png`` and ``.json``."""
    counted = [rollout for rollout in rollouts if not rollout.masked]
    if not isinstance(logger, RunLogger) or not counted:
        return
    with never_fatal(f"the histograms of lengths of step {step}"):
        drawn = histograms(counted, limits)
        name = f"lengths/{split}_{step:06d}"
        content = {"rollouts": len(counted)} | {title: asdict(drawn[title]) for title in drawn}
        logger.log_text(json.dumps(content), f"{name}.json")
        logger.log_bytes(_picture(drawn, f"{split}, iteration {step}"), f"{name}.png")


def histograms(rollouts: Sequence[Rollout], limits: TokenLimits) -> dict[str, Histogram]:
    """By what is counted: the policy's prompt and completion, and all the executor's tokens."""
    usages = [rollout.execution.usage for rollout in rollouts]
    return {
        "prompt_tokens": _histogram([r.completion.prompt_length for r in rollouts], limits.prompt),
        "completion_tokens": _histogram([r.completion.length for r in rollouts], limits.completion),
        "executor_tokens": _histogram([u.prompt_tokens + u.completion_tokens for u in usages]),
    }


def _data_of(trainer: L.Trainer) -> WorkflowDataModule | None:
    data = trainer.datamodule  # type: ignore[attr-defined]
    return data if isinstance(data, WorkflowDataModule) else None


def _histogram(values: Sequence[int], limit: int | None = None) -> Histogram:
    top = max(limit or 1, *values)
    width = ceil(top / _BINS)
    bins = ceil(top / width)
    counts = [0] * bins
    for value in values:
        counts[min(value // width, bins - 1)] += 1
    return Histogram(tuple(range(0, (bins + 1) * width, width)), tuple(counts), limit)


def _picture(drawn: Mapping[str, Histogram], title: str) -> bytes:
    """A PNG of the histograms side by side."""
    # Drawing takes a while to import and is not needed by every logger.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2), dpi=100)
    # Fixed margins: finding them takes longer than drawing.
    figure.subplots_adjust(left=0.06, right=0.98, bottom=0.16, top=0.82)
    figure.suptitle(title)
    axes = figure.subplots(1, len(drawn), squeeze=False)[0]
    for axis, (name, histogram) in zip(axes, drawn.items(), strict=True):
        axis.stairs(histogram.counts, histogram.edges, fill=True)
        axis.set_xlabel(name.replace("_", " "))
        axis.set_xlim(left=0)
        axis.yaxis.get_major_locator().set_params(integer=True)
        if histogram.limit is not None:
            axis.axvline(histogram.limit, color="tab:red", linestyle="--")
            axis.set_title(f"limit {histogram.limit:,}", color="tab:red", fontsize="small")
    axes[0].set_ylabel("rollouts")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _refusal(
    found: Mapping[str, Mapping[str, int]], data: WorkflowDataModule, limit: int | None
) -> str:
    counts = ", ".join(
        f"{len(lengths):,} of {len(data.problems(split)):,} {split} problems"
        for split, lengths in found.items()
    )
    needs = [(need, name) for lengths in found.values() for name, need in lengths.items()]
    need, name = max(needs)
    return (
        f"model.policy.sampling.max_prompt_tokens={limit} is too short for {counts}: question and "
        f"rules alone need more, and only contexts are shortened. The longest, {name}, needs "
        f"{need:,}. Raise the limit to that, or leave such problems out: data.skip_too_long: true."
    )
