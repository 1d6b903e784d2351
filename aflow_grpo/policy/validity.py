"""How much of what a policy writes is valid, without running anything: by domain, by fault.

A structural measurement by the same parser and validator that guard the execution; whether a valid
workflow also *runs* and is *right* is measured by executing it, elsewhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedTokenizerBase, Qwen2ForCausalLM

from aflow_grpo.records import Domain, FaultKind, Problem
from aflow_grpo.workflow.parse import parse_completion
from aflow_grpo.workflow.policy_prompt import compact_prompt
from aflow_grpo.workflow.validate import validate

__all__ = [
    "BROKEN",
    "Sample",
    "ValidityCount",
    "count_validity",
    "faults_of",
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


def faults_of(sample: Sample) -> frozenset[FaultKind]:
    """The kinds of everything that is wrong with a sample; empty when it is valid as written."""
    if not sample.finished:
        return frozenset({FaultKind.LENGTH_LIMIT})
    parsed = parse_completion(sample.text)
    if parsed.source is None:
        return frozenset(finding.kind for finding in parsed.findings)
    found = frozenset(f.kind for f in validate(parsed.source, sample.domain))
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


@torch.no_grad()
def sample_policy(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    *,
    seed: int | None,
    max_new_tokens: int = 320,
    batch_size: int = 64,
) -> list[Sample]:
    """One completion per problem, at temperature 1 or greedy.

    Args:
        model: The policy; put into evaluation mode by the caller.
        tokenizer: Pads on the left.
        problems: Repeat a problem to sample it more than once.
        seed: Of the samples; None decodes greedily.
        max_new_tokens: Length limit.
        batch_size: Sequences at a time; changes which samples are drawn, not their distribution.
    """
    samples: list[Sample] = []
    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        for start in range(0, len(problems), batch_size):
            batch = problems[start : start + batch_size]
            prompts = [compact_prompt(problem) for problem in batch]
            inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
            ids_BT = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                do_sample=seed is not None,
                top_k=0,
                max_new_tokens=max_new_tokens,
            )[:, inputs["input_ids"].shape[1] :]
            for problem, ids_T in zip(batch, ids_BT.tolist(), strict=True):
                finished = tokenizer.eos_token_id in ids_T
                text = tokenizer.decode(ids_T, skip_special_tokens=True)
                samples.append(Sample(problem.domain, text, finished))
    return samples
