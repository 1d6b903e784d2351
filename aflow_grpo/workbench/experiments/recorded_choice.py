"""Choosing a workflow per problem on recorded real runs: a policy trained by GRPO, and its rivals.

    AFLOW_GRPO_DATA=FOLDER python -m aflow_grpo.workbench.experiments.recorded_choice [--short]

Real outcomes of gpt-4o-mini, no simulator: per dataset a policy chooses among the recorded
workflows, nested cross-validation by problem keeps what it is judged on out of what it learned from
(`recorded_choice_arms`), and the same is done once more with the questions' texts dealt to other
problems, where nothing can be won by reading. Costs are known per workflow, not per problem. Not
here: run-time choices. Whether two answers agree is not recorded run by run, so a workflow that
looks at its own answers cannot be judged on these files.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aflow_grpo.data.sources import DATA_VARIABLE
from aflow_grpo.errors import AFlowError
from aflow_grpo.evaluation.recorded import Recorded, read_recorded
from aflow_grpo.seeds import derive_seed
from aflow_grpo.whole_file import WholeFile
from aflow_grpo.workbench.experiments.plan import read_experiment
from aflow_grpo.workbench.experiments.recorded_choice_arms import (
    Candidate,
    cost_matched,
    greedy,
    nested_choice,
    oracle,
    ridge_candidates,
    single_arms,
    visible,
)
from aflow_grpo.workbench.experiments.recorded_choice_data import (
    ChoiceWorld,
    Fit,
    choice_world,
    folds,
    shuffled,
    text_columns,
)
from aflow_grpo.workbench.experiments.recorded_choice_settings import (
    RecordedChoiceSettings,
    settings_from,
)
from aflow_grpo.workbench.experiments.recorded_choice_table import (
    BASELINE,
    ChoiceRow,
    difference,
    macro,
    table,
    values_of,
)
from aflow_grpo.workbench.experiments.recorded_policy import train_policies

__all__ = ["choose", "main", "run_recorded_choice", "table"]

_LOG = logging.getLogger(__name__)
Floats = NDArray[np.float64]


def run_recorded_choice(
    folder: Path, settings: RecordedChoiceSettings, out_dir: Path, short: bool = False
) -> list[ChoiceRow]:
    """Run the experiment; rows, tables and an MLflow store are written to `out_dir`.

    Args:
        folder: The recorded runs: `scores.csv.gz` and its companions.
        settings: Folds, features, candidates.
        out_dir: Made if there is none.
        short: Every part once, nothing of the size of evidence.

    Raises:
        DataError: A file is missing or not in the recorded format.
    """
    settings = settings.shortened() if short else settings
    recorded = read_recorded(folder)
    rows = []
    for dataset in settings.datasets:
        for seed in settings.fold_seeds:
            rows += choose(recorded[dataset], settings, seed)
            _LOG.info("%s, fold seed %d", dataset, seed)
    _keep(rows, settings, out_dir)
    return rows


def choose(recorded: Recorded, settings: RecordedChoiceSettings, seed: int) -> list[ChoiceRow]:
    """All arms on one dataset under one dealing of its problems to folds."""
    world = choice_world(recorded, loop_calls=settings.loop_calls)
    rewards_PWR = world.rewards_PWR()
    rewards_PW = rewards_PWR.mean(2)
    count, outer, inner = len(world.problems), settings.outer_folds, settings.inner_folds
    fits = folds(count, outer=outer, inner=inner, seed=seed)
    made = _Making(world, rewards_PW, seed)
    for arm, probs_PW in single_arms(world, rewards_PW, fits).items():
        made.add(arm, probs_PW)
    features = _features(world, fits, settings)
    policies = _policy_candidates(world, features, fits, settings, seed)
    routers = ridge_candidates(features, rewards_PW, fits, settings.dimensions, settings.alphas)
    mixed = _features(shuffled(world, seed), fits, settings)
    blind = [each for each in policies if not each.dimensions]
    misled = _policy_candidates(world, mixed, fits, settings, seed, reading=True)
    for arm, candidates, worth_PW in (
        ("policy", policies, rewards_PW),
        ("policy by score", policies, world.scores_PW),
        ("policy without text", blind, rewards_PW),
        ("policy always reading", [c for c in policies if c.dimensions], rewards_PW),
        ("policy on shuffled texts", [*blind, *misled], rewards_PW),
        ("policy always reading shuffled texts", misled, rewards_PW),
        ("router", routers, rewards_PW),
        (
            "router on shuffled texts",
            ridge_candidates(mixed, rewards_PW, fits, settings.dimensions, settings.alphas),
            rewards_PW,
        ),
    ):
        chosen = nested_choice(candidates, worth_PW, fits)
        made.add(arm, greedy(chosen.utilities_PW), chosen.labels_P)
        if arm == "policy":
            made.add("policy sampled", np.exp(chosen.utilities_PW), chosen.labels_P)
            made.add("cost-matched mix", cost_matched(world, greedy(chosen.utilities_PW), fits))
    scores_P, usd_P, rewards_P = oracle(
        world, rewards_PWR, splits=settings.oracle_splits, seed=seed
    )
    made.add_values("oracle, half of the repeats", scores_P, usd_P, rewards_P)
    return made.rows


class _Making:
    """The rows of one dataset and fold seed, while they are made."""

    def __init__(self, world: ChoiceWorld, rewards_PW: Floats, seed: int) -> None:
        self.rows: list[ChoiceRow] = []
        self._world, self._rewards_PW, self._seed = world, rewards_PW, seed

    def add(self, arm: str, probs_PW: Floats, settings_P: Sequence[str] = ()) -> None:
        """An arm by its probability per (problem, workflow)."""
        self.add_values(
            arm,
            (probs_PW * self._world.scores_PW).sum(1),
            probs_PW @ self._world.usd_W,
            (probs_PW * self._rewards_PW).sum(1),
            settings_P,
        )

    def add_values(
        self,
        arm: str,
        scores_P: Floats,
        usd_P: Floats,
        rewards_P: Floats,
        settings_P: Sequence[str] = (),
    ) -> None:
        """An arm by its figures per problem."""
        for p, problem in enumerate(self._world.problems):
            self.rows.append(
                ChoiceRow(
                    arm,
                    self._seed,
                    self._world.dataset,
                    problem,
                    float(scores_P[p]),
                    float(rewards_P[p]),
                    float(usd_P[p]),
                    settings_P[p] if settings_P else "",
                )
            )


def _features(world: ChoiceWorld, fits: Sequence[Fit], settings: RecordedChoiceSettings) -> Floats:
    """Each fit's view of all questions, (K, P, F)."""
    size = max(settings.dimensions)
    return np.stack([text_columns(world.questions, fit.train_P, size) for fit in fits])


def _policy_candidates(
    world: ChoiceWorld,
    features_KPF: Floats,
    fits: Sequence[Fit],
    settings: RecordedChoiceSettings,
    seed: int,
    *,
    reading: bool = False,
) -> list[Candidate]:
    """Policies of every recipe, number of dimensions and checkpoint; `reading`: with text only."""
    train_KP = np.stack([fit.train_P for fit in fits])
    rewards = {
        r.efficiency_points: world.rewards_PWR(r.efficiency_points) for r in settings.recipes
    }
    found = []
    for size in settings.dimensions:
        for number, recipe in enumerate(settings.recipes):
            if reading and not size:
                continue
            checkpoints = train_policies(
                visible(features_KPF, size),
                rewards[recipe.efficiency_points],
                train_KP,
                recipe,
                settings.training,
                seed=derive_seed("recorded choice", world.dataset, seed, number),
            )
            for steps, logp_KPW in zip(settings.training.checkpoints, checkpoints, strict=True):
                label = (
                    f"GRPO {size} dimensions, {steps} steps, lr {recipe.learning_rate:g}, entropy "
                    f"{recipe.entropy_coef:g}, efficiency {recipe.efficiency_points:g}"
                )
                found.append(Candidate(label, size, logp_KPW))
    return found


def _keep(rows: Sequence[ChoiceRow], settings: RecordedChoiceSettings, out_dir: Path) -> None:
    """Rows and tables as files, and a summary in MLflow."""
    from mlflow import MlflowClient  # seconds to import, and only needed here

    text = table(rows)
    lines = "".join(json.dumps(asdict(row)) + "\n" for row in rows)
    for name, content in (("rows.jsonl", lines), ("table.md", text)):
        whole = WholeFile.at(out_dir / name)
        whole.part.write_text(content, encoding="utf-8")
        whole.keep()
    root = out_dir.resolve()
    client = MlflowClient(tracking_uri=f"sqlite:///{root}/mlflow.db")
    name = "recorded_choice"
    known = client.get_experiment_by_name(name)
    place = (
        known.experiment_id
        if known is not None
        else client.create_experiment(name, artifact_location=(root / "artifacts").as_uri())
    )
    run = client.create_run(place, run_name=name).info.run_id
    for key, value in asdict(settings).items():
        client.log_param(run, key, json.dumps(value))
    first = values_of(rows, BASELINE, "value")
    for arm in dict.fromkeys(row.arm for row in rows):
        key = arm.replace(",", "")
        scores = values_of(rows, arm, "value")
        client.log_metric(run, f"score/{key}", macro(scores))
        client.log_metric(run, f"score_difference/{key}", difference(first, scores).value)
        client.log_metric(run, f"cost_usd/{key}", macro(values_of(rows, arm, "cost_usd")))
        client.log_metric(run, f"reward/{key}", macro(values_of(rows, arm, "reward")))
    client.log_artifact(run, str(root / "table.md"))
    client.set_terminated(run)


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print the tables; 1 when something is missing or wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--short", action="store_true", help="a smoke run of seconds")
    parser.add_argument("--output", type=Path, default=Path("runs/recorded_choice"))
    parser.add_argument("--experiment", type=Path, help="an experiment.yaml with other options")
    given = parser.parse_args(argv)
    if not os.environ.get(DATA_VARIABLE):
        parser.error(f"{DATA_VARIABLE} is not set: it names the folder that holds recorded_runs/")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        options = read_experiment(given.experiment).options if given.experiment else {}
        folder = Path(os.environ[DATA_VARIABLE]) / "recorded_runs"
        rows = run_recorded_choice(folder, settings_from(options), given.output, given.short)
    except AFlowError as error:
        print(f"recorded_choice: {error}", file=sys.stderr)
        return 1
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
