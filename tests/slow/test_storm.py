"""A fault storm: `fit` against two endpoints, of which nearly every third attempt fails.

The first endpoint is also gone for 20 s. Faults of transport must leave no trace in what is learned
from: every rollout equals that of a run without them. Faults of content change replies, so they are
only counted.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from trainer_runs import new_root, start_verb, write_settings

from aflow_grpo.llm.rollout_store import RolloutStore
from aflow_grpo.llm.simulator import SIMULATED_MODEL
from aflow_grpo.records import Rollout
from aflow_grpo.stored import unpack_rollout

pytestmark = pytest.mark.slow

WARM_STEPS, STEPS, PROBLEMS, GROUP = 20, 12, 8, 8
"""After 20 steps nearly all workflows run, so that the executor's faults can matter."""
LATENCY_MS = 1000
OUTAGE_START_S, OUTAGE_S = 5.0, 20.0
MOST_MASKED = 0.01
TRANSPORT = {
    "rate_429": 0.04,
    "rate_429_bare": 0.02,
    "rate_500": 0.04,
    "rate_502": 0.02,
    "rate_503": 0.04,
    "rate_slow": 0.02,
    "rate_hang": 0.01,
    "rate_dropped": 0.03,
    "rate_dropped_midway": 0.02,
    "rate_truncated": 0.02,
    "rate_not_json": 0.01,
    "rate_no_choices": 0.02,
    "rate_wrong_types": 0.01,
    "slow_s": 1.0,
}
"""Together 30 %."""
OUTAGE = {"outage": "refused", "outage_start_s": OUTAGE_START_S, "outage_s": OUTAGE_S}
CONTENT = {"rate_refusal": 0.04, "rate_malformed": 0.03, "rate_cut": 0.03}
BY_TIERS = "tier in ('first', 'second')"
"""Calls of the warm run were answered by its own simulator."""
Place = tuple[str, int, int, str, int]
"""Part, step, group, problem and member."""


SETTINGS: dict[str, Any] = {
    "trainer__val_check_interval": WARM_STEPS + STEPS,
    "model__policy__init_args__sampling__max_new_tokens": 384,
    "model__grpo__group_size": GROUP,
    "data__batch_size": PROBLEMS,
}


@dataclass(frozen=True)
class Run:
    """What a fit left behind."""

    root: Path
    rollouts: dict[Place, Rollout]

    @property
    def masked(self) -> list[Place]:
        return [place for place, rollout in self.rollouts.items() if rollout.masked]

    def calls(self, columns: str, where: str) -> list[Any]:
        query = f"select {columns} from calls where {where} order by started_s"
        with closing(sqlite3.connect(self.root / "journal.db")) as database:
            return database.execute(query).fetchall()


@contextmanager
def simulate(latency_ms: float, faults: Mapping[str, Any]) -> Iterator[str]:
    """The address of `aflow-grpo simulate` on the sample problems."""
    options = {"latency_ms": latency_ms, "latency_spread": "none"}
    options |= {f"faults.{name}": value for name, value in faults.items()}
    arguments = [f"--simulator.{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "aflow_grpo", "simulate", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            greeting = "".join(process.stdout.readline() for _ in range(2))
            found = re.search(r"^base_url: (\S+)$", greeting, re.MULTILINE)
            assert found is not None, greeting
            yield found[1]
        finally:
            process.kill()


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose policy writes workflows that run."""
    folder = tmp_path_factory.mktemp("storm")
    settings = write_settings(folder, **SETTINGS, trainer__max_steps=WARM_STEPS)
    _fit(settings, new_root(folder / "warm"))
    return folder / "warm"


@pytest.fixture(scope="module")
def calm(warm: Path) -> Run:
    """Its continuation without faults."""
    return resumed(warm, warm.parent / "calm", 0, {}, {})


def resumed(
    warm: Path,
    folder: Path,
    latency_ms: float,
    first: Mapping[str, Any],
    second: Mapping[str, Any],
) -> Run:
    """`warm`, continued on two tiers that fail as they are told to."""
    folder.mkdir(exist_ok=True)
    root = Path(shutil.copytree(warm, folder / "run"))
    earlier = _rollouts(root)
    with ExitStack() as stack:
        urls = [stack.enter_context(simulate(latency_ms, f)) for f in (first, second)]
        settings = write_settings(
            folder,
            **SETTINGS,
            trainer__max_steps=WARM_STEPS + STEPS,
            llm__check_endpoints=False,
            llm__simulator=None,
            llm__tiers=[
                {
                    "name": name,
                    "model": SIMULATED_MODEL,
                    "base_url": url,
                    "api_key": "simulated",
                    "api_key_env": "",
                    "timeout_s": 4.0,
                    "max_attempts": 8,
                    "backoff_s": 0.05,
                }
                for name, url in zip(("first", "second"), urls, strict=True)
            ],
        )
        _fit(settings, root, "--ckpt_path=last")
    return Run(root, {k: v for k, v in _rollouts(root).items() if k not in earlier})


def _fit(settings: Path, root: Path, *more: str) -> None:
    process = start_verb("fit", f"--config={settings}", f"--trainer.default_root_dir={root}", *more)
    process.join()
    assert process.exitcode == 0


def _rollouts(root: Path) -> dict[Place, Rollout]:
    found: dict[Place, Rollout] = {}
    with RolloutStore(root / "journal.db") as store:
        for run, part, applied, _ in store.parts():
            for row in store.rows(run, part, applied):
                place = (part, row.step, row.group, row.problem_id, row.member)
                found[place] = unpack_rollout(row.problem, row.content)
    return found


def learned_from(rollout: Rollout) -> tuple[object, ...]:
    """What of a rollout the policy learns from, and what its user sees."""
    execution = rollout.execution
    costs = (execution.usage.cost_usd, execution.fallback_usage.cost_usd)
    answers = (execution.answer, execution.fallback_answer)
    return rollout.completion, execution.status, answers, costs, rollout.reward


def test_faults_of_transport_and_an_outage_change_no_rollout(
    warm: Path, calm: Run, tmp_path: Path
) -> None:
    first = {**TRANSPORT, **OUTAGE, "seed": 1}
    storm = resumed(warm, tmp_path, LATENCY_MS, first, TRANSPORT)
    of_training = [place for place in storm.rollouts if place[0] == "train"]
    assert len(of_training) == STEPS * PROBLEMS * GROUP
    assert storm.rollouts.keys() == calm.rollouts.keys(), "every rollout is accounted for"
    assert len(storm.masked) <= MOST_MASKED * len(storm.rollouts)
    for place, rollout in storm.rollouts.items():
        if not rollout.masked:
            assert learned_from(rollout) == learned_from(calm.rollouts[place]), place

    begin, end = storm.calls("min(started_s), max(started_s)", BY_TIERS)[0]
    gone = (begin + OUTAGE_START_S, begin + OUTAGE_START_S + OUTAGE_S)
    answered = storm.calls("tier, started_s, attempts", f"answered and {BY_TIERS}")
    first = [started for tier, started, _ in answered if tier == "first"]
    second = [started for tier, started, _ in answered if tier == "second"]
    back = [started - gone[1] for started in first if started > gone[1]]
    retried = sum(attempts > 1 for *_, attempts in answered)
    print(
        f"\n{len(storm.rollouts)} rollouts, {len(storm.masked)} masked; {len(answered)} calls "
        f"answered, {len(first)} by the first tier, {retried} after retries; {end - begin:.0f} s; "
        f"back on the first tier {min(back, default=-1):.1f} s after the outage"
    )
    assert retried > len(answered) / 10
    assert sum(gone[0] < started < gone[1] for started in second) > 10
    assert len(back) > 10, "calls return to the first tier"


def test_faults_of_content_are_counted_apart(warm: Path, tmp_path: Path) -> None:
    faults = {**TRANSPORT, **CONTENT, "seed": 1}
    storm = resumed(warm, tmp_path, 0, faults, faults)
    of_training = [place for place in storm.rollouts if place[0] == "train"]
    assert len(of_training) == STEPS * PROBLEMS * GROUP
    assert len(storm.masked) <= MOST_MASKED * len(storm.rollouts)
    replies = storm.calls("reply, finish_reason", f"answered and {BY_TIERS}")
    refused = sum("can't help with that request" in reply for reply, _ in replies) / len(replies)
    cut = sum(reason == "length" for _, reason in replies) / len(replies)
    ended = [rollout.execution.status for rollout in storm.rollouts.values()]
    print(
        f"\n{len(replies)} replies: {refused:.1%} refusals, {cut:.1%} cut; statuses "
        f"{ {str(status): ended.count(status) for status in sorted(set(ended))} }"
    )
    assert refused == pytest.approx(CONTENT["rate_refusal"], abs=0.025)
    assert cut == pytest.approx(CONTENT["rate_cut"], abs=0.025)
