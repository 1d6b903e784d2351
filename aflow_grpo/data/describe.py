"""What a set of problems is like: counts, lengths, tests, copies, clusters, an example per domain.

Nothing is judged here; whether a file is right is `data check`'s to say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aflow_grpo.data.similar import clusters_of
from aflow_grpo.data.splits import without_copies
from aflow_grpo.records import DOMAINS, Domain, Problem
from aflow_grpo.terminal import printable

__all__ = ["Description", "Lengths", "describe", "excerpt", "faults_of", "render"]

_CUT = 400
"""Characters of a text that an example shows."""


@dataclass(frozen=True)
class Lengths:
    """Quantiles of a whole number over problems: 0, 50, 90, 99 and 100 %, by nearest rank."""

    least: int
    median: int
    p90: int
    p99: int
    most: int

    @classmethod
    def of(cls, values: Sequence[int]) -> Lengths:
        """Those of `values`, one or more."""
        ordered = sorted(values)
        last = len(ordered)

        def at(percent: int) -> int:
            return ordered[max(-(-percent * last // 100), 1) - 1]

        return cls(ordered[0], at(50), at(90), at(99), ordered[-1])


@dataclass(frozen=True)
class Description:
    """What `describe` finds."""

    problems: int
    by_dataset: Mapping[tuple[str, Domain], int]
    """(dataset, domain) -> problems."""
    by_difficulty: Mapping[int, int]
    """1 easy, 2 middle, 3 hard, 0 unknown -> problems."""
    lengths: Mapping[tuple[Domain, str], Lengths]
    """(domain, measure) -> quantiles; measures such as `question, words` or `hidden tests`."""
    copies: int
    """Problems that repeat an earlier one."""
    clusters: int
    """Groups of problems that are alike or share a passage."""
    examples: Mapping[Domain, tuple[Problem, ...]]
    """The first problems of each domain."""


def describe(
    problems: Sequence[Problem], *, examples: int = 1, threshold: float = 0.7
) -> Description:
    """Counts, lengths and examples of `problems`; `threshold` as in `clusters_of`."""
    by_domain = {d: [p for p in problems if p.domain == d] for d in DOMAINS}
    return Description(
        problems=len(problems),
        by_dataset=dict(sorted(Counter((p.dataset, p.domain) for p in problems).items())),
        by_difficulty=dict(sorted(Counter(p.difficulty for p in problems).items())),
        lengths={
            (domain, measure): Lengths.of(values)
            for domain, members in by_domain.items()
            if members
            for measure, values in _measures(members)
            if any(values)
        },
        copies=len(without_copies(problems)[1]),
        clusters=len(clusters_of(problems, threshold)),
        examples={d: tuple(m[:examples]) for d, m in by_domain.items() if m[:examples]},
    )


def _measures(members: Sequence[Problem]) -> Iterable[tuple[str, list[int]]]:
    for field in ("question", "context", "answer"):
        texts = [getattr(problem, field) for problem in members]
        yield f"{field}, words", [len(text.split()) for text in texts]
        yield f"{field}, characters", [len(text) for text in texts]
    yield "public tests", [len(problem.public_tests) for problem in members]
    yield "hidden tests", [len(problem.hidden_tests) for problem in members]


def faults_of(problems: Iterable[Problem]) -> list[str]:
    """What would make a problem unfit to score by, one line each: its gold answer in particular."""
    found = []
    for problem in problems:
        if problem.domain == "code":
            if not problem.hidden_tests:
                found.append(f"{problem.id}: no hidden test, so nothing can decide")
            both = set(problem.public_tests) & set(problem.hidden_tests)
            if both:
                found.append(
                    f"{problem.id}: {len(both)} of its {len(problem.hidden_tests)} hidden tests "
                    "are public too, so a workflow can see them"
                )
        elif not problem.answer.strip():
            found.append(f"{problem.id}: the gold answer is empty")
        elif problem.domain == "qa" and not any(map(str.isalnum, problem.answer)):
            found.append(f"{problem.id}: the gold answer is {problem.answer!r}, without a word")
    return found


def excerpt(text: str, most: int = _CUT) -> str:
    """`text` for a terminal (`terminal.printable`), at most `most` characters of it."""
    clean = printable(text.replace("\r\n", "\n")).strip()
    return (
        clean if len(clean) <= most else f"{clean[: most - 1].rstrip()}… ({len(text):,} characters)"
    )


def render(found: Description) -> str:
    """The page for a terminal."""
    lines = [f"{found.problems:,} problems, {found.copies:,} copies, {found.clusters:,} clusters"]
    lines += [f"  {name:<16}{d:<8}{n:>8,}" for (name, d), n in found.by_dataset.items()]
    names = {0: "unknown", 1: "easy", 2: "middle", 3: "hard"}
    levels = ", ".join(f"{names.get(k, k)} {n:,}" for k, n in found.by_difficulty.items())
    lines += [f"difficulty: {levels}", ""]
    lines.append(f"{'':<34}{'least':>8}{'median':>8}{'90 %':>8}{'99 %':>8}{'most':>8}")
    for (domain, measure), q in found.lengths.items():
        cells = "".join(f"{v:>8,}" for v in (q.least, q.median, q.p90, q.p99, q.most))
        lines.append(f"{domain:<6}{measure:<28}{cells}")
    for domain, examples in found.examples.items():
        for problem in examples:
            lines += ["", f"example, {domain}: {excerpt(problem.id)}"]
            for field in ("context", "question", "answer"):
                if getattr(problem, field):
                    text = excerpt(getattr(problem, field)).replace("\n", "\n    ")
                    lines.append(f"  {field}:\n    {text}")
            if problem.public_tests:
                lines.append(f"  a public test:\n    {excerpt(problem.public_tests[0])}")
    return "\n".join(lines)
