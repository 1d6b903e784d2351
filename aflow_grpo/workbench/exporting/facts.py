"""What a model card says of the run: read from its settings, its state and its stored rollouts.

What is not known is left out, never guessed: a checkpoint without its run's directory still has its
settings. Paths of this machine, addresses and keys are not facts of a model and are not in here;
of a file only the name is. Not here: the card's words (`card`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from aflow_grpo.data.sources import DataSource, load_source
from aflow_grpo.errors import AFlowError
from aflow_grpo.records import DOMAINS, Problem, Rollout, to_dict
from aflow_grpo.workbench.figures import Figure, figure_of
from aflow_grpo.workbench.policies import LoadedPolicy
from aflow_grpo.workbench.runs import Evaluation, read_run

__all__ = ["Data", "Row", "RunFacts", "run_facts"]

_METRICS = ("direct_execution_rate", "accuracy", "reward", "cost_usd_per_problem")
_PACKAGES = ("aflow-grpo", "torch", "transformers", "peft", "lightning")


@dataclass(frozen=True)
class Data:
    """One source of problems."""

    role: str
    """``train``, ``val`` or ``test``."""
    name: str
    """E.g. ``gsm8k (gsm8k_train.jsonl)``."""
    dataset: str
    problems: int
    sha256: str
    """Of the problems' content; empty, and `problems` 0, where the source is not on this machine
    any more."""


@dataclass(frozen=True)
class Row:
    """One line of the evaluation table."""

    split: str
    decoding: str
    """``greedy`` or ``sampled``."""
    domain: str
    """Or ``all``."""
    figures: Mapping[str, Figure]
    """Metric -> value, 95 % interval, problems."""


@dataclass(frozen=True)
class RunFacts:
    """What is known of how a policy was trained."""

    iterations: int
    cost_usd: float
    """List cost of the executor's calls, evaluations included."""
    loss: str
    """The preset's name; empty where it is not known."""
    settings: Mapping[str, Any]
    """A few of the run's, by the names that a reader knows; only what was recorded."""
    executors: tuple[str, ...]
    """The models that executed the workflows; empty where it is not known."""
    simulated: bool
    data: tuple[Data, ...]
    rows: tuple[Row, ...]
    """Of full evaluations of this very checkpoint."""
    run_id: str | None
    versions: Mapping[str, str]


def run_facts(loaded: LoadedPolicy) -> RunFacts:
    """Everything that the card needs, from what there is."""
    settings = loaded.settings
    executors, simulated = _executors(_group(settings, "llm"))
    return RunFacts(
        iterations=int(loaded.state["iteration"]),
        cost_usd=float(loaded.state["cost_usd"]),
        loss=str(_group(settings, "model", "grpo", "loss").get("preset", "")),
        settings=dict(_told(settings)),
        executors=executors,
        simulated=simulated,
        data=tuple(_data(_group(settings, "data"))),
        rows=tuple(_rows(loaded)),
        run_id=loaded.run_id,
        versions=dict(_versions()),
    )


def _group(settings: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    found: Any = settings
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _told(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    groups = {
        "seed": ("seed_everything",),
        "problems per iteration": ("data", "batch_size"),
        "workflows per problem": ("model", "grpo", "group_size"),
        "learning rate": ("model", "optimizer", "learning_rate"),
        "reward preset": ("rollout", "reward", "preset"),
    }
    for name, (*path, key) in groups.items():
        group = _group(settings, *path) if path else settings
        if group.get(key) is not None:
            yield name, group[key]


def _executors(llm: Mapping[str, Any]) -> tuple[tuple[str, ...], bool]:
    simulator = llm.get("simulator")
    if simulator is not None:
        return ("gpt-4o-mini",), True
    tiers = llm.get("tiers") or ([{}] if llm else [])
    models = (str(tier.get("model", "gpt-4o-mini")) for tier in tiers)
    return tuple(Path(m).name if m.startswith(("/", "~", ".")) else m for m in models), False


# Data


def _data(settings: Mapping[str, Any]) -> Iterator[Data]:
    for role in ("train", "val", "test"):
        for given in settings.get(role) or ():
            yield _source(role, DataSource(**given))


def _source(role: str, source: DataSource) -> Data:
    detail = Path(source.path).name if source.path else source.split
    name = f"{source.reader} ({detail})"
    try:
        problems = load_source(source)
    except (AFlowError, OSError):
        return Data(role, name, str(source.reader), 0, "")
    return Data(role, name, str(source.reader), len(problems), _digest(problems))


def _digest(problems: Sequence[Problem]) -> str:
    """Of what the problems say, whatever their order and their file's format."""
    lines = sorted(json.dumps(to_dict(problem), sort_keys=True) for problem in problems)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "backslashreplace")).hexdigest()


# Evaluation


def _rows(loaded: LoadedPolicy) -> Iterator[Row]:
    if loaded.root is None or loaded.run_id is None:
        return
    try:
        run = read_run(f"{loaded.root}:{loaded.run_id}")
        found = [e for split in ("val", "test") for e in run.evaluations_of(split)]
    except AFlowError:  # no journal, or one that is not readable any more
        return
    of_this = {e.split: e for e in found if e.step == loaded.state["iteration"]}
    for evaluation in of_this.values():
        yield from _rows_of(evaluation)


def _rows_of(evaluation: Evaluation) -> Iterator[Row]:
    for decoding in ("greedy", "sampled"):
        rollouts: Sequence[Rollout] = getattr(evaluation, decoding)
        for domain in ("all", *DOMAINS):
            members = [r for r in rollouts if domain in ("all", r.problem.domain)]
            figures = {metric: figure_of(members, metric) for metric in _METRICS}
            known = {name: figure for name, figure in figures.items() if figure is not None}
            if known:
                yield Row(evaluation.split, decoding, domain, known)


def _versions() -> Iterator[tuple[str, str]]:
    for name in _PACKAGES:
        try:
            yield name, version(name).partition("+")[0]
        except PackageNotFoundError:
            continue
