"""`aflow-grpo score FILE`: judge recorded outputs anew, and compare with the labels they carry.

Not covered: rollouts of a run, which `rescore` judges together with their rewards.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aflow_grpo.commands.parsing import VerbParser
from aflow_grpo.commands.score_rows import JudgedRow, ProblemBook, read_recorded, write_judged
from aflow_grpo.data.sources import DataSource, load_sources
from aflow_grpo.errors import AFlowError, ConfigError
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.scoring.scorers import ScorerSet
from aflow_grpo.scoring.settings import ScoringSettings
from aflow_grpo.terminal import complain, progress

__all__ = ["make_parser", "run_score"]

_AT_ONCE = 8
_TOLERANCE = 1e-6
_SHOWN_CHARS = 100


def run_score(arguments: Sequence[str]) -> int:
    """Run the verb and return the exit code: 0 done, 1 too little agreement, 2 wrong settings."""
    parser = make_parser()
    options = parser.parse_args(list(arguments))
    try:
        options = parser.instantiate(options)
        settings = ScoringSettings(
            options.profile, options.scorers, options.code_timeout_s, options.math_timeout_s
        )
        if not 0 <= options.min_agreement <= 1:
            given = options.min_agreement
            raise ConfigError(f"--min_agreement is {given}, expected a share between 0 and 1")
        book = ProblemBook(load_sources(options.problems), options.questions)
        rows = read_recorded(options.file, book, own=frozenset(map(str.lower, settings.scorers)))
        judged = asyncio.run(_judge(rows, settings))
        if options.out is not None:
            write_judged(options.out, judged)
    except AFlowError as error:
        complain("aflow-grpo score", error)
        return 2
    results = [
        _Result.of(name, [row for row in judged if row.name == name], settings)
        for name in dict.fromkeys(row.name for row in judged)
    ]
    _show(results, settings.profile, options.examples)
    poor = [r for r in results if r.labelled and r.agreement < options.min_agreement]
    for result in poor:
        wanted = options.min_agreement
        print(f"{result.dataset}: agreement {result.agreement:.2%} is below {wanted:.2%}")
    return 1 if poor else 0


def make_parser() -> VerbParser:
    parser = VerbParser(
        prog="aflow-grpo score",
        description="Judge recorded outputs anew; docs/scoring.md lists the fields of a row.",
    )
    parser.add_argument("--config", action="config", help="A YAML file with any of these options.")
    parser.add_argument("file", type=Path, help="JSONL (.gz too): dataset, prediction, gold.")
    parser.add_class_arguments(ScoringSettings)
    parser.add_argument(
        "--problems",
        type=list[DataSource],
        default=[],
        help="Where the problems of code rows are, e.g. '[{dataset: mbpp, path: FILE}]'.",
    )
    parser.add_argument(
        "--questions",
        type=Path,
        default=None,
        help="JSONL of problem_id and question, for rows whose ids `problems` does not know.",
    )
    parser.add_argument("--out", type=Path, default=None, help="Where the judged rows go.")
    parser.add_argument("--examples", type=int, default=3, help="Disagreements shown per dataset.")
    parser.add_argument(
        "--min_agreement", type=float, default=0.0, help="Below it the exit code is 1."
    )
    return parser


async def _judge(rows: Sequence[JudgedRow], settings: ScoringSettings) -> list[JudgedRow]:
    """The rows with their scores, in order."""
    slots = asyncio.Semaphore(_AT_ONCE)
    async with Sandbox() as sandbox, ScorerSet(sandbox, settings) as scorers:

        async def judge(row: JudgedRow) -> JudgedRow:
            async with slots:
                scored = row.scored(await scorers.score(row.problem, row.answer))
            step.advance(1)
            return scored

        with progress("judging", len(rows)) as step:
            return list(await asyncio.gather(*map(judge, rows)))


@dataclass(frozen=True)
class _Result:
    """One dataset's figures."""

    dataset: str
    n: int
    mean: float
    """Mean score."""
    labelled: int
    agreement: float
    """Share of labelled rows whose new score is the label; 0 where there are none."""
    differing: tuple[JudgedRow, ...]

    @classmethod
    def of(cls, dataset: str, rows: Sequence[JudgedRow], settings: ScoringSettings) -> _Result:
        labelled = [row for row in rows if row.label is not None]
        whole = settings.profile == "strict" and dataset not in map(str.lower, settings.scorers)
        differing = tuple(row for row in labelled if not _agrees(row, whole=whole))
        return cls(
            dataset,
            len(rows),
            sum(row.score.value for row in rows) / len(rows),
            len(labelled),
            1 - len(differing) / len(labelled) if labelled else 0.0,
            differing,
        )


def _agrees(row: JudgedRow, *, whole: bool) -> bool:
    """Whether score and label are one; `whole`: right or not, whatever a label below 1 is."""
    label = row.label or 0.0
    if whole:
        return row.score.correct == (label >= 1 - _TOLERANCE)
    return abs(row.score.value - label) <= _TOLERANCE


def _show(results: Sequence[_Result], profile: str, examples: int) -> None:
    print(f"profile {profile}")
    print(f"{'dataset':<12} {'n':>6} {'mean':>7} {'labelled':>9} {'agreement':>10} {'differ':>7}")
    for r in results:
        agreement = f"{r.agreement:.2%}" if r.labelled else "-"
        print(
            f"{r.dataset:<12} {r.n:>6} {r.mean:>7.4f} {r.labelled:>9} {agreement:>10} "
            f"{len(r.differing):>7}"
        )
    for r in results:
        for row in r.differing[:examples]:
            print(
                f"\n{r.dataset}, {row.place}: label {row.label:g}, now {row.score.value:g}\n"
                f"  gold   {_shown(row.problem.answer)}\n"
                f"  answer {_shown(row.answer or '')}\n"
                f"  {_shown(row.score.detail)}"
            )


def _shown(text: str) -> str:
    whole = json.dumps(text, ensure_ascii=False)
    return whole if len(whole) <= _SHOWN_CHARS else whole[: _SHOWN_CHARS - 3] + '..."'
