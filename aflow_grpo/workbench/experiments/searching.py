"""Searches over workflows on the real executor, and checkpoints, judged on the same problems.

A search pays for executions on validation problems; what it had chosen by then is judged on
held-out problems, which is not paid for. A training run pays for everything that its own counter
holds: rollouts, failed ones included, and its evaluations. Checkpoints that it kept are judged
greedily on the same held-out problems. Executor, scorer and reward are those of the experiment's
settings for all. A policy whose workflow did not run is judged as it is: no fallback. Not here: the
strategies (`evaluation.search`), the table (`search_table`).
"""

from __future__ import annotations

import json
import random
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import fmean
from typing import Any

from aflow_grpo.data.sources import DataSource, load_sources
from aflow_grpo.errors import ConfigError
from aflow_grpo.evaluation.search import (
    AflowSettings,
    Evaluate,
    HalvingSettings,
    Outcome,
    Progress,
    aflow_search,
    exhaustive,
    successive_halving,
    take_turns,
)
from aflow_grpo.evaluation.search_space import Candidate, EditSpace, library_candidates
from aflow_grpo.evaluation.spending import Point
from aflow_grpo.records import DOMAINS, Domain, Problem
from aflow_grpo.seeds import derive_seed
from aflow_grpo.whole_file import WholeFile
from aflow_grpo.workbench.experiments.arena import Arena, Bout
from aflow_grpo.workbench.experiments.plan import Experiment, Replicate
from aflow_grpo.workbench.experiments.running import Cell

__all__ = [
    "STRATEGIES",
    "SearchOptions",
    "judge_checkpoints",
    "run_searches",
    "run_trained_vs_search",
]

STRATEGIES = ("exhaustive", "successive_halving", "aflow_search")
_HELD_OUT_REPEAT = 1_000_000
"""Replies on held-out problems are other draws than those of any search."""
_REPEATS = 1000
"""Of one search, at most: keeps the draws of searches apart."""
_WRITTEN_AT_ONCE = 32


@dataclass(frozen=True)
class SearchOptions:
    """`options` of the experiment."""

    validation: tuple[DataSource, ...]
    """What searches are selected on."""
    held_out: tuple[DataSource, ...]
    """What everything is judged on."""
    searches: int = 3
    """Repetitions of each strategy per replicate. The exhaustive one has no choice in it, but other
    replies."""
    halving: HalvingSettings = field(default_factory=HalvingSettings)
    aflow: AflowSettings = field(default_factory=AflowSettings)
    most_executions: int | None = None
    """Of one search in one domain."""
    warm_start_usd: float = 0.0
    """What the trained policy's warm start was paid; the shipped one's needed no executor."""

    def __post_init__(self) -> None:
        if self.searches < 1:
            raise ConfigError(f"options.searches={self.searches}: expected 1 or more.")
        if self.warm_start_usd < 0:
            raise ConfigError(
                f"options.warm_start_usd={self.warm_start_usd:g}: expected 0 or more."
            )

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> SearchOptions:
        """The options as an experiment's file says them.

        Raises:
            ConfigError: Something is unknown, missing or wrong.
        """
        read: dict[str, Callable[[Any], Any]] = {
            "validation": _sources,
            "held_out": _sources,
            "halving": lambda told: HalvingSettings(**told),
            "aflow": lambda told: AflowSettings(**told),
        }
        try:
            return cls(
                **{key: read[key](told) if key in read else told for key, told in options.items()}
            )
        except TypeError as error:
            known = ", ".join(part.name for part in fields(cls))
            raise ConfigError(f"options: {error}; expected {known}.") from error


def _sources(told: Sequence[Mapping[str, Any]]) -> tuple[DataSource, ...]:
    return tuple(DataSource(**source) for source in told)


@dataclass(frozen=True)
class Curve:
    """What one search or training run had found when so much had been spent."""

    arm: str
    seed: int
    points: tuple[Point, ...]
    cpu_s: float
    """Of the search itself, the judging not among it; 0 where it is recorded elsewhere."""
    executions: int = 0
    """On validation problems; 0 for training, whose USD say it."""
    candidates: int = 0
    improved: int = 0
    """Edits that were better than their parent; AFlow's search only."""
    chosen: Mapping[str, str] = field(default_factory=dict)
    """Domain -> the workflow that it ended with."""


def run_searches(
    experiment: Experiment, replicate: Replicate, problems: Sequence[Problem]
) -> list[tuple[str, int, float, list[dict[Domain, Progress]]]]:
    """Every strategy, as often as `options.searches`: its name, seed, CPU seconds and standings.

    Args:
        experiment: Of which options, configs and settings count.
        replicate: The world.
        problems: For validation.
    """
    options = SearchOptions.read(replicate.fill(experiment.options))
    found = []
    for strategy in STRATEGIES:
        for seed in range(options.searches):
            before = _cpu_s()
            with _arena(experiment, replicate, problems) as arena:
                evaluate = _evaluator(arena, problems, seed)
                standings = list(_search(strategy, options, evaluate, problems, seed))
            found.append((strategy, seed, _cpu_s() - before, standings))
    return found


def judge_checkpoints(
    run_dir: Path, problems: Sequence[Problem], arena: Arena, *, warm_start_usd: float = 0.0
) -> list[Point]:
    """The kept checkpoints of a run, each with what the run had spent by then.

    Args:
        run_dir: Of `fit` with `checkpoint.keep_every_n_iterations`; without it there is one point,
            the last checkpoint.
        problems: To judge on; the arena has to know them.
        arena: Executes.
        warm_start_usd: Spent before the run.

    Raises:
        ConfigError: There is no checkpoint, or it cannot be read.
    """
    from aflow_grpo.workbench.policies import load_policy  # torch, which searches do without

    folder = run_dir / "checkpoints"
    kept = sorted(folder.glob("step_*.ckpt")) or [folder / "last.ckpt"]
    points = []
    for path in kept:
        loaded = load_policy(path)
        texts = []
        for first in range(0, len(problems), _WRITTEN_AT_ONCE):
            visible = [p.visible for p in problems[first : first + _WRITTEN_AT_ONCE]]
            written = loaded.policy.write(visible, [0] * len(visible), greedy=True)
            texts += [completion.text for completion in written]
        outcomes = _execute(arena, list(zip(problems, texts, strict=True)), _HELD_OUT_REPEAT)
        points.append(_point(warm_start_usd + float(loaded.state["cost_usd"]), outcomes))
    return points


def run_trained_vs_search(
    experiment: Experiment, out_dir: Path, replicate: Replicate
) -> dict[str, Any]:
    """One replicate: all searches, and every trained arm whose run lies in `out_dir`.

    What is done is kept in `out_dir` and not done again.

    Args:
        experiment: Shortened by the caller where a short version is wanted.
        out_dir: Of the experiment's cells; arms are trained by `running.Workshop`.
        replicate: The world.

    Returns:
        Plain data: replicate, world, n of both sets, and the curves.

    Raises:
        ConfigError: An option is wrong, a run has no checkpoint, or `out_dir` holds the result of
            other settings.
    """
    kept = out_dir / f"search-{replicate.number}.json"
    told = {**experiment.settings, "options": experiment.options, "configs": experiment.configs}
    made_with = json.dumps(replicate.fill(told), sort_keys=True)
    if (done := _done(kept, made_with)) is not None:
        return done
    options = SearchOptions.read(replicate.fill(experiment.options))
    validation, held_out = load_sources(options.validation), load_sources(options.held_out)
    _check_apart(validation, held_out)
    cells = [
        Cell(arm, replicate, policy, at)
        for arm in experiment.arms
        if arm.train and not arm.of
        for at, policy in enumerate(arm.policies or ("",))
    ]
    if experiment.settings.get("data.skip_too_long"):
        held_out = _askable(held_out, [out_dir / cell.name / "fit" for cell in cells])
    began = time.monotonic()
    searched = run_searches(experiment, replicate, validation)
    with _arena(experiment, replicate, held_out) as arena:
        judge = _Judge(arena, held_out)
        curves = [
            _search_curve(strategy, seed, cpu_s, standings, judge)
            for strategy, seed, cpu_s, standings in searched
        ]
        for cell in cells:
            fit = out_dir / cell.name / "fit"
            points = judge_checkpoints(fit, held_out, arena, warm_start_usd=options.warm_start_usd)
            curves.append(Curve(cell.arm.name, cell.policy_at, tuple(points), _recorded_cpu_s(fit)))
    result = {
        "replicate": replicate.number,
        "world": replicate.world,
        "made_with": made_with,
        "validation": _counts(validation),
        "held_out": _counts(held_out),
        "seconds": round(time.monotonic() - began, 1),
        "curves": [asdict(curve) for curve in curves],
    }
    whole = WholeFile.at(kept)
    whole.part.write_text(json.dumps(result), encoding="utf-8")
    whole.keep()
    return result


def _askable(problems: Sequence[Problem], runs: Sequence[Path]) -> list[Problem]:
    """Without those that one of the policies cannot be asked; searches are not judged on them."""
    from aflow_grpo.workbench.policies import load_policy  # torch, which searches do without

    asked = [problem.visible for problem in problems]
    long = {name for run in runs for name in load_policy(run).policy.too_long(asked)}
    return [problem for problem in problems if problem.id not in long]


def _done(kept: Path, made_with: str) -> dict[str, Any] | None:
    """A result that is there."""
    if not kept.is_file():
        return None
    done: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    if done["made_with"] != made_with:
        raise ConfigError(
            f"{kept}: made with other settings than the experiment has now. Give another "
            "--output, or remove that file."
        )
    return done


def _arena(experiment: Experiment, replicate: Replicate, problems: Sequence[Problem]) -> Arena:
    return Arena(
        problems,
        configs=experiment.configs,
        settings=replicate.fill(dict(experiment.settings)),
        seed=replicate.seed,
    )


def _search(
    strategy: str,
    options: SearchOptions,
    evaluate: Evaluate,
    problems: Sequence[Problem],
    seed: int,
) -> Iterator[dict[Domain, Progress]]:
    """The standings of one search in all domains that have problems."""
    ids = {d: [p.id for p in problems if p.domain == d] for d in DOMAINS}
    known = {domain: library_candidates(domain) for domain in DOMAINS if ids[domain]}
    most = options.most_executions

    def one(domain: Domain) -> Iterator[Progress]:
        rng = random.Random(derive_seed("search", strategy, domain, seed))
        if strategy == "exhaustive":
            return exhaustive(known[domain], ids[domain], evaluate, most_executions=most)
        if strategy == "successive_halving":
            return successive_halving(
                known[domain], ids[domain], evaluate, rng, options.halving, most_executions=most
            )
        space = EditSpace(domain)
        return aflow_search(space, ids[domain], evaluate, rng, options.aflow, most_executions=most)

    start: dict[Domain, Candidate] = {domain: each[0] for domain, each in known.items()}
    return take_turns({domain: one(domain) for domain in known}, start)


def _evaluator(arena: Arena, problems: Sequence[Problem], seed: int) -> Evaluate:
    by_id = {problem.id: problem for problem in problems}

    def evaluate(text: str, ids: Sequence[str], repeat: int) -> list[Outcome]:
        pairs = [(by_id[name], text) for name in ids]
        return _execute(arena, pairs, seed * _REPEATS + repeat)

    return evaluate


def _execute(arena: Arena, pairs: Sequence[tuple[Problem, str]], repeat: int) -> list[Outcome]:
    rollouts = arena.run([Bout(problem, text, repeat) for problem, text in pairs])
    return [Outcome(r.reward.total, r.score.correct, r.execution.usage.cost_usd) for r in rollouts]


class _Judge:
    """Held-out outcomes of workflows; each is executed once however often it is asked for."""

    def __init__(self, arena: Arena, problems: Sequence[Problem]) -> None:
        self._arena = arena
        self._by_domain = {d: [p for p in problems if p.domain == d] for d in DOMAINS}
        self._known: dict[tuple[Domain, str], list[Outcome]] = {}

    def outcomes(self, domain: Domain, text: str) -> list[Outcome]:
        key = (domain, text)
        if key not in self._known:
            pairs = [(problem, text) for problem in self._by_domain[domain]]
            self._known[key] = _execute(self._arena, pairs, _HELD_OUT_REPEAT)
        return self._known[key]


def _search_curve(
    strategy: str,
    seed: int,
    cpu_s: float,
    standings: Sequence[Mapping[Domain, Progress]],
    judge: _Judge,
) -> Curve:
    points = []
    for standing in standings:
        outcomes = [
            outcome
            for domain, progress in standing.items()
            for outcome in judge.outcomes(domain, progress.incumbent.text)
        ]
        points.append(_point(_sum(standing, lambda p: p.cost_usd), outcomes))
    last = standings[-1]
    return Curve(
        strategy,
        seed,
        tuple(points),
        round(cpu_s, 1),
        executions=round(_sum(last, lambda p: p.executions)),
        candidates=round(_sum(last, lambda p: p.candidates)),
        improved=round(_sum(last, lambda p: p.improved)),
        chosen={domain: progress.incumbent.name for domain, progress in last.items()},
    )


def _sum(standing: Mapping[Domain, Progress], part: Callable[[Progress], float]) -> float:
    return sum(part(progress) for progress in standing.values())


def _point(spent_usd: float, outcomes: Sequence[Outcome]) -> Point:
    return Point(
        spent_usd,
        fmean(outcome.reward for outcome in outcomes),
        fmean(outcome.correct for outcome in outcomes),
        fmean(outcome.cost_usd for outcome in outcomes),
    )


def _check_apart(validation: Sequence[Problem], held_out: Sequence[Problem]) -> None:
    shared = {p.text for p in validation} & {p.text for p in held_out}
    if shared:
        raise ConfigError(
            f"options.validation and options.held_out share {len(shared)} problems, expected "
            "none: give them other seeds or splits."
        )


def _counts(problems: Sequence[Problem]) -> dict[str, int]:
    return {domain: sum(p.domain == domain for p in problems) for domain in DOMAINS}


def _cpu_s() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _recorded_cpu_s(fit: Path) -> float:
    """What `running` measured of a training run; 0 where it did not make it."""
    done = fit / "done.json"
    return float(json.loads(done.read_text())["cpu_s"]) if done.is_file() else 0.0
