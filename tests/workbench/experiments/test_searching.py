"""A whole replicate of searches and a trained run, small, on the simulator; and its tables."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from aflow_grpo.errors import ConfigError
from aflow_grpo.evaluation.spending import Point
from aflow_grpo.policy.policy import Policy
from aflow_grpo.policy.settings import SamplingSettings
from aflow_grpo.training.module import GRPOModule
from aflow_grpo.workbench.experiments.plan import Arm, Experiment, Replicate, read_experiment
from aflow_grpo.workbench.experiments.search_table import search_figures, search_table
from aflow_grpo.workbench.experiments.searching import SearchOptions, run_trained_vs_search
from aflow_grpo.workflow.library import library

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
WORLD = Replicate(0, 0, 901, "development")
OPTIONS: dict[str, Any] = {
    "validation": [{"dataset": "generated", "split": "train", "limit": 3, "seed": "{world}"}],
    "held_out": [{"dataset": "generated", "split": "val", "limit": 3, "seed": "{world}"}],
    "searches": 1,
    "halving": {"eta": 3, "first_problems": 1},
    "aflow": {"rounds": 3},
}


def checkpoints(fit: Path, spent_usd: list[float]) -> None:
    """What `fit` leaves of a policy that has learned nothing yet, at several costs."""
    init = {"model": "tiny", "sampling": {"max_prompt_tokens": 640, "max_new_tokens": 40}}
    policy = Policy("tiny", sampling=SamplingSettings(max_prompt_tokens=640, max_new_tokens=40))
    policy.setup()
    (fit / "checkpoints").mkdir(parents=True)
    for number, usd in enumerate(spent_usd, 1):
        saved: dict[str, Any] = {}
        module = GRPOModule(policy)
        module.iteration, module.cost_usd = 10 * number, usd
        module.on_save_checkpoint(saved)
        torch.save(saved, fit / "checkpoints" / f"step_{10 * number:06d}.ckpt")
    (fit / "run.json").write_text(json.dumps({"mlflow_run_id": "a" * 32}))
    recorded = fit / "artifacts" / ("a" * 32) / "artifacts" / "config" / "fit.yaml"
    recorded.parent.mkdir(parents=True)
    recorded.write_text(yaml.safe_dump({"model": {"policy": {"init_args": init}}}))


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("cells")
    checkpoints(out / "trained-0" / "fit", [0.01, 0.03])
    experiment = Experiment(
        "searched",
        "?",
        settings={"llm.simulator": {"skill_seed": "{world}"}},
        arms=(Arm("trained"),),
        options={**OPTIONS, "warm_start_usd": 0.5},
    )
    found = run_trained_vs_search(experiment, out, WORLD)
    assert run_trained_vs_search(experiment, out, WORLD) == json.loads(json.dumps(found))
    with pytest.raises(ConfigError, match="other settings"):
        run_trained_vs_search(replace(experiment, options=OPTIONS), out, WORLD)
    return found


def curve(result: dict[str, Any], arm: str) -> dict[str, Any]:
    (found,) = [each for each in result["curves"] if each["arm"] == arm]
    return found


def test_every_way_is_there_and_counted(result: dict[str, Any]) -> None:
    n = result["validation"]
    every = curve(result, "exhaustive")
    assert every["candidates"] == sum(len(library(d)) for d in ("math", "code", "qa") if n[d])
    assert every["executions"] == sum(len(library(d)) * n[d] for d in ("math", "code", "qa"))
    halved = curve(result, "successive_halving")
    assert halved["executions"] <= every["executions"]
    assert curve(result, "aflow_search")["executions"] <= 3 * sum(n.values())
    for name in ("exhaustive", "successive_halving", "aflow_search"):
        points = curve(result, name)["points"]
        spent = [point["spent_usd"] for point in points]
        assert spent[0] == 0  # one call, known for nothing
        assert spent == sorted(spent)
        assert 0.0001 < spent[-1] < 0.1
        assert all(-10 <= point["reward"] <= 10 for point in points)
        assert all(point["problem_usd"] > 0 for point in points)


def test_checkpoints_are_judged_with_what_they_had_cost(result: dict[str, Any]) -> None:
    points = curve(result, "trained")["points"]
    assert [point["spent_usd"] for point in points] == pytest.approx([0.51, 0.53])
    assert points[0]["reward"] == points[1]["reward"] < 0  # cut at 40 tokens, it writes nothing


def test_the_tables_of_a_real_replicate(result: dict[str, Any]) -> None:
    text = search_table([result])
    assert "| exhaustive | " in text
    assert "trained / aflow_search | never |" in text  # it never has the reward
    assert "22.50 USD" in text
    assert "nan" not in text


def made(arm: str, points: list[tuple[float, float, float]], **more: Any) -> dict[str, Any]:
    told = [vars(Point(usd, reward, 0.5, each)) for usd, reward, each in points]
    counts = {"cpu_s": 1.0, "executions": 10, "candidates": 4, "improved": 1}
    return {"arm": arm, "seed": 0, "points": told, "chosen": {"math": "x"}, **counts, **more}


def world(scale: float) -> dict[str, Any]:
    """Training has exhaustive search's 6 after half of its USD, or a fourth at scale 2."""
    return {
        "replicate": 0, "world": 901, "validation": {"math": 5}, "held_out": {"math": 7},
        "curves": [
            made("exhaustive", [(0.0, 2, 0.002), (0.4 * scale, 6, 0.002), (1.0 * scale, 6, 0.002)]),
            made("successive_halving", [(0.0, 2, 0.002), (0.2, 4, 0.002)]),
            made("aflow_search", [(0.0, 2, 0.002), (0.3, 5, 0.002)], seed=0),
            made("aflow_search", [(0.0, 2, 0.002), (0.5, 5, 0.002)], seed=1),
            made("trained", [(0.1, -5, 0.001), (0.5, 6, 0.001), (0.7, 7, 0.001)]),
        ],
    }  # fmt: skip


def test_figures_by_hand() -> None:
    figures = search_figures([world(1.0), world(2.0)])
    value, (low, high) = figures["matched"]["trained / exhaustive"]["value"]
    assert value == pytest.approx((0.5 * 0.25) ** 0.5)
    assert low < value < high
    lowest = figures["targets"]["the lowest final reward"]
    assert lowest["reward"] == 4
    assert lowest["spent_usd"]["trained"] == [0.5, 0.5]
    assert lowest["spent_usd"]["exhaustive"] == [0.4, 0.8]
    assert lowest["spent_usd"]["aflow_search"] == [0.5, 0.5]  # one of two at 5 is a mean of 3.5
    best = figures["targets"]["95 % of the best final reward"]
    assert best["spent_usd"]["trained"] == [0.7, 0.7]
    assert best["spent_usd"]["exhaustive"] == [None, None]
    assert best["ratio"]["trained / exhaustive"]["value"] is None
    assert figures["arms"]["aflow_search"]["spent_usd"][0] == pytest.approx(0.4)
    assert figures["arms"]["aflow_search"]["improved_share"] == pytest.approx(2 / 6)
    # .5 against 1: ahead from the start; against .2 at 4 of reward: .3 / .001.
    assert figures["break_even"]["trained / exhaustive"][0]["equal reward"] == "from the start"
    assert figures["break_even"]["trained / successive_halving"][0] == {
        "equal reward": "from 300",
        "cost alone": "from 500",
    }


def test_what_is_selected_on_is_not_judged_on(tmp_path: Path) -> None:
    options = {**OPTIONS, "held_out": OPTIONS["validation"]}
    with pytest.raises(ConfigError, match="share 3 problems"):
        run_trained_vs_search(Experiment("x", "?", options=options), tmp_path, WORLD)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"searches": 0}, "options.searches=0"),
        ({"warm_start_usd": -1.0}, "options.warm_start_usd=-1"),
        ({"halving": {"beta": 2}}, "beta"),
        ({"rounds": 3}, "rounds"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        SearchOptions.read(WORLD.fill({**OPTIONS, **options}))


def test_the_experiments_own_file() -> None:
    whole = read_experiment(EXPERIMENTS / "trained_vs_search")
    for experiment in (whole, whole.shortened()):
        options = SearchOptions.read(WORLD.fill(experiment.options))
        assert options.aflow.uniform_share == 0.2
        assert options.held_out[0].skip > 0, "not what is trained and selected on"
