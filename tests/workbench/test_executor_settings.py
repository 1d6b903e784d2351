"""Layers of settings for answering: every shipped config serves, and nothing of a run leaks in."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import pytest
import yaml

from aflow_grpo.assets import shipped_path
from aflow_grpo.errors import ConfigError
from aflow_grpo.llm.session import SpendLimits
from aflow_grpo.llm.simulator import SimulatorSettings
from aflow_grpo.rewards import RewardSettings
from aflow_grpo.training.rollout_callback import RolloutCallback
from aflow_grpo.workbench.executor_settings import RolloutKeys, config_path, read_executor_settings

CONFIGS = sorted(shipped_path("configs").rglob("*.yaml"))


def test_the_keys_of_rollout_are_those_of_the_callback() -> None:
    callback = inspect.signature(RolloutCallback.__init__).parameters
    keys = {f.name for f in dataclasses.fields(RolloutKeys)}
    assert keys == set(callback) - {"self", "llm"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_config_serves(path: Path) -> None:
    made = read_executor_settings([path])
    given = yaml.safe_load(path.read_text())
    assert (made.llm.simulator is None) == (given.get("llm", {}).get("simulator", {}) is None)


def test_later_layers_lie_over_earlier_ones_and_single_settings_over_all(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("rollout:\n  rollout:\n    concurrency: 7\nllm:\n  budget_usd: 2\n")
    recorded = {"llm": {"budget_usd": 9.0, "cache": "shared"}, "trainer": {"max_steps": 3}}
    made = read_executor_settings(
        ["configs/llm/openai.yaml", file],
        recorded=recorded,
        overrides={
            "llm.workflow": SpendLimits(max_usd=0.5),
            "rollout.reward": RewardSettings(preset="additive"),
        },
    )
    assert made.llm.simulator is None and made.llm.tiers[0].model == "gpt-4o-mini"
    assert made.llm.budget_usd == 2 and made.llm.cache == "shared"
    assert made.rollout.rollout.concurrency == 7
    assert made.llm.workflow.max_usd == 0.5 and made.rollout.reward.preset == "additive"


def test_a_runs_hidden_keys_and_its_journal_are_not_taken_over() -> None:
    tier = {"name": "main", "model": "gpt-4o-mini", "api_key": "(hidden)"}
    recorded = {"llm": {"simulator": None, "tiers": [tier], "journal_dir": "/run"}}
    made = read_executor_settings(recorded=recorded)
    assert made.llm.tiers[0].api_key is None and made.llm.journal_dir is None


def test_the_default_is_the_simulator_of_base() -> None:
    assert read_executor_settings().llm.simulator == SimulatorSettings()


def test_shipped_configs_are_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert config_path("configs/llm/openai.yaml") == shipped_path("configs/llm/openai.yaml")
    assert config_path("configs/llm/nope.yaml") == Path("configs/llm/nope.yaml")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("llm: [", "not readable as YAML"),
        ("- llm", "expected settings"),
        ("lllm:\n  budget_usd: 1", "unknown key 'lllm'.*Did you mean llm"),
        ("llm:\n  budgt_usd: 1", "budgt_usd"),
        ("llm:\n  budget_usd: -1", r"llm.budget_usd=-1"),
        ("rollout:\n  rollout:\n    concurrency: many", "concurrency"),
    ],
)
def test_a_wrong_layer_is_refused_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=told) as caught:
        read_executor_settings([file])
    assert "\n" not in str(caught.value)


def test_an_empty_layer_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "empty.yaml"
    file.write_text("# nothing yet\n")
    assert read_executor_settings([file]) == read_executor_settings()
