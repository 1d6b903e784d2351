"""Every metric name of a run, and the pure functions from records to numbers.

Names are ``split/group/name``, with the domain last where there is one, after a dot where a name
comes before it (``train/reward/correctness.math``): MLflow draws a section for each group. Sampled
figures carry the plain name, greedy ones the suffix ``_greedy``. Masked rollouts (status
`unavailable`) are counted in ``status/unavailable`` and in nothing else.

| name | meaning |
|---|---|
| ``reward`` (``/math|code|qa``) | mean total reward, points in [-10, 10] |
| ``reward/<part>`` (``.domain``) | mean of each part of the reward, in points |
| ``reward_spread`` (``/domain``) | mean standard deviation of the totals within a group |
| ``zero_variance_groups`` (``/domain``) | share of groups with equal rewards, without a signal |
| ``penalty/<kind>`` (``.domain``) | share with this penalty: wrong, execution, constraint, … |
| ``structure/<measure>`` (``.domain``) | mean of the four measures of `structure` |
| ``pass_at/<k>`` (``.domain``) | unbiased pass@k, over problems with at least k samples |
| ``score/<measure>`` (``.domain``) | mean of what scorers report beside the score, such as f1 |
| ``by_dataset/<figure>/<dataset>`` | reward, accuracy, rates, cost, where there are several |
| ``direct_execution_rate`` (``/domain``) | share that ran as written, no repair, no fallback |
| ``repaired_execution_rate`` (``/domain``) | share that ran after a repair that lost no text |
| ``accuracy`` (``/domain``) | share answered right by the policy's own workflow |
| ``fallback_rate`` (``/domain``) | share for which the fixed workflow has to answer |
| ``validation_failure_rate`` (``/domain``) | share rejected before running (`invalid` or `cut`) |
| ``cost_usd_per_problem`` (``/domain``) | mean list cost of the policy's own workflow |
| ``policy_cost_usd_per_problem`` (``/domain``) | mean list cost of writing, by an endpoint only |
| ``llm_calls_per_problem``, ``tokens/prompt``, ``tokens/completion`` | executor use, means |
| ``status/<status>``, ``fault/<kind>`` | shares |
| ``operators/<name>`` | mean calls per workflow that ran |
| ``length/prompt_tokens``, ``length/completion_tokens`` | policy tokens, means |
| ``length/prompt_tokens.<quantile>``, ``length/completion_tokens.<quantile>`` | p50, p90, max |
| ``length/context_cut`` | share of prompts that hold only part of their problem's context |
| ``valid_rate_greedy`` (``/domain``) | structural check: share valid as written, not executed |
| ``problems`` (``/domain``) | full evaluation: problems that its figures are of |
| ``ci95_low/<figure>`` (``.domain``) | lower end of the 95 % interval, of `WITH_INTERVAL` |
| ``ci95_high/<figure>`` (``.domain``) | upper end |

The update (`update.py`) adds these, under ``train/`` only; tokens are the policy's own, not those
of demonstrations.

| name | meaning |
|---|---|
| ``clip_fraction``, ``ratio_mean``, ``ratio_max`` | of the probability ratio, over tokens |
| ``log_ratio_limited`` | share of tokens whose log-ratio is beyond `log_ratio_limit` |
| ``kl``, ``entropy`` | token means in nats; ``kl`` where `kl_coef` > 0 |
| ``grad_norm`` | before clipping |
| ``learning_rate`` | after the update |
| ``zero_variance_groups`` | as above, singletons included |
| ``skipped_update`` | 1 when no group had a signal, else 0 |
| ``workflows`` | rollouts of the iteration, masked ones included, replaced ones not |
| ``policy_lag`` | updates between the policy that wrote them and the one that learns |

Where the sampler's log-probs are corrected for, ``train/correction_mean`` is the mean importance
weight and ``train/correction_capped`` the share of tokens at `correction_cap`, of all tokens.
With `zero_variance: resample`, ``train/resampled_groups`` is how many were replaced for want of a
signal.
With `grpo.demonstrations`, ``train/demonstrations`` is how many groups got one.
With `grpo.outcome_model`, ``train/outcome/rows`` is how many executed workflows it knows. Once it
is used: ``train/outcome/noise_share`` (``.domain``), the share of the variance of right or wrong
that it takes for chance; ``train/outcome/by_text_share`` (``.domain``), the share of what depends
on text and workflow together, 0 where no text says which workflow suits it; and
``train/outcome/agreement``, the correlation of denoised and actual rewards of what ran as written.
``time/outcome_s`` are the seconds of its fit.
``train/cost_usd_total`` is the list cost since the run began, evaluations and fallbacks included.
``train/reward_stage`` is 0 in stage `structure`, whose rollouts have no answer (accuracy 0), and 1
in stage `full`.
With `data.skip_too_long`, ``length/skipped_problems`` is how many problems the split lost to it.
Where rows were skipped by `on_bad_row: skip`, ``data/bad_rows`` is how many.
``time/sample_s``, ``time/execute_s``, ``time/update_s`` are the seconds of the iteration's phases.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from math import fsum
from statistics import fmean, pstdev

from aflow_grpo.intervals import mean_interval, rate_interval
from aflow_grpo.records import DOMAINS, Rollout, Status
from aflow_grpo.rewards import Outcome, outcome_of
from aflow_grpo.scoring.pass_at_k import pass_at_k
from aflow_grpo.structure import MEASURES, structure_measures
from aflow_grpo.workflow.contract import TEN_OPERATORS, OperatorSet

__all__ = [
    "BY_DATASET",
    "HEADLINE",
    "REWARD_PARTS",
    "WITH_INTERVAL",
    "WRITTEN_BY_ENDPOINT",
    "interval_metrics",
    "rollout_metrics",
    "valid_rate",
]

REWARD_PARTS = ("correctness", "efficiency", "simplicity", "format", "repetition", "penalty")
BY_DATASET = ("reward", "accuracy", "direct_execution_rate", "cost_usd_per_problem")
"""What is reported for each dataset, of `HEADLINE`."""
WITH_INTERVAL = ("direct_execution_rate", "accuracy", "reward")
"""What a full evaluation reports an interval of, of `HEADLINE`; all but the reward are rates."""
PASS_AT = (2, 4, 8)
"""The k of pass@k; pass@1 is the accuracy."""
_UNNAMEABLE = re.compile(r"[^A-Za-z0-9_.\-]")
"""What the lab book does not take in a metric's name, and what would open a group of its own."""

HEADLINE: dict[str, Callable[[Rollout], float]] = {
    "reward": lambda r: r.reward.total,
    "direct_execution_rate": lambda r: float(r.execution.direct),
    "repaired_execution_rate": lambda r: float(r.execution.repaired),
    "accuracy": lambda r: float(r.score.correct),
    "fallback_rate": lambda r: float(r.execution.status is not Status.OK),
    "validation_failure_rate": lambda r: float(r.execution.status in (Status.INVALID, Status.CUT)),
    "cost_usd_per_problem": lambda r: r.execution.usage.cost_usd,
}
"""What is reported in total and for each domain."""

WRITTEN_BY_ENDPOINT: dict[str, Callable[[Rollout], float]] = {
    "policy_cost_usd_per_problem": lambda r: r.completion.usage.cost_usd,
}
"""What is added where the policy is an endpoint."""


def rollout_metrics(
    rollouts: Sequence[Rollout],
    split: str,
    *,
    greedy: bool = False,
    operators: OperatorSet = TEN_OPERATORS,
) -> dict[str, float]:
    """All figures of executed rollouts, ready to log.

    Args:
        rollouts: Executed rollouts, masked ones included.
        split: ``train``, ``val`` or ``test``.
        greedy: Whether they were decoded greedily.
        operators: The operators that exist.
    """
    suffix = "_greedy" if greedy else ""
    counted = [r for r in rollouts if not r.masked]
    metrics: dict[str, float] = {}
    if rollouts:
        metrics[f"{split}/status{suffix}/unavailable"] = 1 - len(counted) / len(rollouts)
    if not counted:
        return metrics
    headline = dict(HEADLINE)
    if any(r.completion.usage.calls for r in counted):
        headline |= WRITTEN_BY_ENDPOINT
    for end, members in _by_domain(counted):
        for name, value in headline.items():
            metrics[f"{split}/{name}{suffix}{end}"] = fmean(map(value, members))
        details = _reward_details(members) | _structure(members, operators)
        details |= _measures(members) | _pass_at_k(members)
        for name, figure in details.items():
            group, _, rest = name.partition("/")
            rest = f"/{rest}" if rest else ""
            # MLflow draws a section for what stands before the last slash: one for each group.
            place = end.replace("/", ".") if rest else end
            metrics[f"{split}/{group}{suffix}{rest}{place}"] = figure
    metrics |= {f"{split}/{name}": value for name, value in _details(counted, suffix).items()}
    for name, figure in _by_dataset(counted).items():
        metrics[f"{split}/by_dataset{suffix}/{name}"] = figure
    return metrics


def interval_metrics(
    rollouts: Sequence[Rollout], split: str, *, greedy: bool = False
) -> dict[str, float]:
    """On how many problems a full evaluation's figures rest, and their 95 % intervals.

    The arguments are those of `rollout_metrics`. The same rollouts give the same numbers.
    """
    suffix = "_greedy" if greedy else ""
    metrics: dict[str, float] = {}
    for end, members in _by_domain([r for r in rollouts if not r.masked]):
        problems: dict[str, list[Rollout]] = {}
        for rollout in members:
            problems.setdefault(rollout.problem.id, []).append(rollout)
        if not problems:
            continue
        metrics[f"{split}/problems{suffix}{end}"] = float(len(problems))
        counts_P = [len(samples) for samples in problems.values()]
        for figure in WITH_INTERVAL:
            sums_P = [fsum(map(HEADLINE[figure], samples)) for samples in problems.values()]
            interval_of = mean_interval if figure == "reward" else rate_interval
            low, high = interval_of(sums_P, counts_P)
            place = end.replace("/", ".")
            metrics[f"{split}/ci95_low/{figure}{suffix}{place}"] = low
            metrics[f"{split}/ci95_high/{figure}{suffix}{place}"] = high
    return metrics


def _by_domain(rollouts: Sequence[Rollout]) -> Iterator[tuple[str, Sequence[Rollout]]]:
    """All rollouts, and those of each domain that has any; with the end of their names."""
    yield "", rollouts
    for domain in DOMAINS:
        members = [r for r in rollouts if r.problem.domain == domain]
        if members:
            yield f"/{domain}", members


def _reward_details(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Parts, penalties by outcome, and what the groups could learn from."""
    details = {
        f"reward/{part}": fmean(getattr(r.reward, part) for r in rollouts) for part in REWARD_PARTS
    }
    outcomes = Counter(outcome_of(r.execution, r.score) for r in rollouts)
    details |= {
        f"penalty/{outcome.value}": outcomes[outcome] / len(rollouts)
        for outcome in Outcome
        if outcome is not Outcome.RIGHT
    }
    groups: dict[tuple[int, str], list[float]] = {}
    for rollout in rollouts:
        # An evaluation numbers the groups of each batch from 0, so the problem tells them apart.
        groups.setdefault((rollout.group, rollout.problem.id), []).append(rollout.reward.total)
    several = [totals for totals in groups.values() if len(totals) > 1]
    if several:
        details["reward_spread"] = fmean(map(pstdev, several))
        silent = [min(totals) == max(totals) for totals in groups.values()]
        details["zero_variance_groups"] = fmean(silent)
    return details


def _structure(rollouts: Sequence[Rollout], operators: OperatorSet) -> dict[str, float]:
    found = [
        structure_measures(r.completion, r.execution, r.problem.domain, operators) for r in rollouts
    ]
    return {f"structure/{name}": fmean(getattr(m, name) for m in found) for name in MEASURES}


def _measures(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Means over the rollouts that have the measure."""
    values: dict[str, list[float]] = {}
    for rollout in rollouts:
        for name, value in rollout.score.measures.items():
            values.setdefault(_UNNAMEABLE.sub("_", name), []).append(value)
    return {f"score/{name}": fmean(found) for name, found in values.items()}


def _pass_at_k(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Means over the problems that have at least k samples."""
    right: dict[str, list[bool]] = {}
    for rollout in rollouts:
        right.setdefault(rollout.problem.id, []).append(rollout.score.correct)
    figures = {}
    for k in PASS_AT:
        enough = [found for found in right.values() if len(found) >= k]
        if enough:
            figures[f"pass_at/{k}"] = fmean(pass_at_k(len(f), sum(f), k) for f in enough)
    return figures


def _by_dataset(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """``figure/dataset``; nothing where all problems are of one dataset."""
    datasets: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        datasets.setdefault(_UNNAMEABLE.sub("_", rollout.problem.dataset), []).append(rollout)
    if len(datasets) < 2:
        return {}
    return {
        f"{figure}/{dataset}": fmean(map(HEADLINE[figure], members))
        for figure in BY_DATASET
        for dataset, members in sorted(datasets.items())
    }


def valid_rate(rollouts: Sequence[Rollout], split: str) -> dict[str, float]:
    """The structural check's figures: greedy workflows that are valid as written, not executed."""
    rates = {f"{split}/valid_rate_greedy": fmean(float(r.execution.direct) for r in rollouts)}
    for domain in DOMAINS:
        members = [r for r in rollouts if r.problem.domain == domain]
        if members:
            rates[f"{split}/valid_rate_greedy/{domain}"] = fmean(
                float(r.execution.direct) for r in members
            )
    return rates


def _quantiles(lengths: Sequence[int]) -> dict[str, float]:
    """``p50``, ``p90`` and ``max``: the smallest value that so large a share does not exceed."""
    ordered = sorted(lengths)
    percents = {"p50": 50, "p90": 90, "max": 100}
    return {name: float(ordered[-(-len(ordered) * p // 100) - 1]) for name, p in percents.items()}


def _details(counted: Sequence[Rollout], suffix: str) -> dict[str, float]:
    n = len(counted)
    prompts = [r.completion.prompt_length for r in counted]
    completions = [r.completion.length for r in counted]
    details: dict[str, float] = {
        f"llm_calls_per_problem{suffix}": fmean(r.execution.usage.calls for r in counted),
        f"tokens{suffix}/prompt": fmean(r.execution.usage.prompt_tokens for r in counted),
        f"tokens{suffix}/completion": fmean(r.execution.usage.completion_tokens for r in counted),
        f"length{suffix}/prompt_tokens": fmean(prompts),
        f"length{suffix}/completion_tokens": fmean(completions),
        f"length{suffix}/context_cut": fmean(r.completion.context_cut for r in counted),
    }
    for name, lengths in (("prompt_tokens", prompts), ("completion_tokens", completions)):
        details |= {f"length{suffix}/{name}.{q}": v for q, v in _quantiles(lengths).items()}
    statuses = Counter(r.execution.status for r in counted)
    details |= {
        f"status{suffix}/{status}": statuses[status] / n
        for status in Status
        if status is not Status.UNAVAILABLE
    }
    faults = Counter(r.execution.fault_kind for r in counted if r.execution.fault_kind)
    details |= {f"fault{suffix}/{kind}": count / n for kind, count in faults.items()}
    ran = [r for r in counted if r.execution.status is Status.OK]
    if ran:
        operators = Counter(call.operator for r in ran for call in r.execution.calls)
        details |= {
            f"operators{suffix}/{name}": operators[name] / len(ran)
            for name in {**TEN_OPERATORS.by_attribute, **operators}
        }
    return details
