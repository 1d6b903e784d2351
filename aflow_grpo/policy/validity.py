"""How much of what a policy writes is valid, without running anything: by domain, by fault.

A structural measurement by the same parser and validator that guard the execution; whether a valid
workflow also *runs* and is *right* is measured by executing it, elsewhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aflow_grpo.policy.policy import Policy
from aflow_grpo.records import DOMAINS, Domain, FaultKind, VisibleProblem
from aflow_grpo.seeds import derive_seed
from aflow_grpo.workflow.parse import parse_completion
from aflow_grpo.workflow.validate import rejections, validate

__all__ = [
    "BROKEN",
    "Sample",
    "ValidityCount",
    "ValidityRates",
    "count_validity",
    "faults_of",
    "measure_rates",
    "operator_sequence",
    "sample_policy",
]

BROKEN = frozenset({FaultKind.NO_WORKFLOW, FaultKind.SYNTAX_ERROR, FaultKind.LENGTH_LIMIT})
"""Faults of writing rather than of content."""

_OPERATOR = re.compile(r"await self\.(\w+)\(")


@dataclass(frozen=True)
class Sample:
    """One sampled completion."""

    domain: Domain
    text: str
    finished: bool
    """False when it hit the length limit."""


@dataclass
class ValidityCount:
    """Counts over the samples of one domain."""

    samples: int = 0
    valid: int = 0
    """Valid as written: no repair by the parser, no finding by the validator."""
    broken: int = 0
    """Cut, no workflow in the text, or a syntax error."""
    faults: Counter[str] = field(default_factory=Counter)
    """Fault kind -> samples that have it; a sample can have several."""
    sequences: Counter[str] = field(default_factory=Counter)
    """Operator sequence -> valid samples that have it."""


@dataclass(frozen=True)
class ValidityRates:
    """Shares of valid workflows, per domain and in `all`."""

    problems: int
    samples_per_problem: int
    """At temperature 1; greedy there is one."""
    sampled: dict[str, float]
    greedy: dict[str, float]
    broken: float
    """Share of the samples at temperature 1 that are cut, hold no workflow, or do not parse."""


def faults_of(sample: Sample) -> frozenset[FaultKind]:
    """The kinds of everything that is wrong with a sample; empty when it is valid as written."""
    if not sample.finished:
        return frozenset({FaultKind.LENGTH_LIMIT})
    parsed = parse_completion(sample.text)
    if parsed.source is None:
        return frozenset(finding.kind for finding in parsed.findings)
    found = frozenset(f.kind for f in rejections(validate(parsed.source, sample.domain)))
    return found | {FaultKind.NO_WORKFLOW} if parsed.source.repaired else found


def operator_sequence(text: str) -> str:
    """The operators that a workflow's text awaits, in the order in which they are written."""
    return " > ".join(_OPERATOR.findall(text))


def count_validity(samples: Iterable[Sample]) -> dict[Domain, ValidityCount]:
    """Counts per domain; domains without samples are left out."""
    counts: dict[Domain, ValidityCount] = {}
    for sample in samples:
        count = counts.setdefault(sample.domain, ValidityCount())
        faults = faults_of(sample)
        count.samples += 1
        count.faults.update(str(fault) for fault in faults)
        count.broken += bool(faults & BROKEN)
        if not faults:
            count.valid += 1
            count.sequences[operator_sequence(sample.text)] += 1
    return counts


def sample_policy(
    policy: Policy, problems: Sequence[VisibleProblem], *, seed: int | None, batch_size: int = 128
) -> list[Sample]:
    """One completion per problem, at the policy's temperature or greedy.

    Args:
        policy: Set up, in evaluation mode.
        problems: Repeat a problem to sample it more than once.
        seed: Of the samples; None decodes greedily.
        batch_size: Sequences at a time.
    """
    samples: list[Sample] = []
    for start in range(0, len(problems), batch_size):
        batch = problems[start : start + batch_size]
        seeds = [derive_seed("validity", seed or 0, start + row) for row in range(len(batch))]
        prompts = [policy.encode(problem) for problem in batch]
        completions = policy.sample(prompts, seeds, greedy=seed is None)
        samples.extend(
            Sample(problem.domain, completion.text, completion.finished)
            for problem, completion in zip(batch, completions, strict=True)
        )
    return samples


def measure_rates(
    folder: Path, problems: Sequence[VisibleProblem], *, samples_per_problem: int = 5, seed: int = 0
) -> ValidityRates:
    """How much of what the policy in `folder` writes for `problems` is valid."""
    policy = Policy(str(folder))
    policy.setup()
    policy.eval()
    repeated = [problem for problem in problems for _ in range(samples_per_problem)]
    sampled = count_validity(sample_policy(policy, repeated, seed=seed))
    greedy = count_validity(sample_policy(policy, problems, seed=None))
    return ValidityRates(
        problems=len(problems),
        samples_per_problem=samples_per_problem,
        sampled=_valid_shares(sampled),
        greedy=_valid_shares(greedy),
        broken=sum(count.broken for count in sampled.values()) / len(repeated),
    )


def _valid_shares(counts: dict[Domain, ValidityCount]) -> dict[str, float]:
    total = sum(count.samples for count in counts.values())
    shares = {"all": sum(count.valid for count in counts.values()) / total}
    return shares | {d: counts[d].valid / counts[d].samples for d in DOMAINS if d in counts}
