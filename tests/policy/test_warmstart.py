"""The warm start: reproducible to the bit, learns, and ships what its recipe says."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from aflow_grpo.assets import shipped_path
from aflow_grpo.data.generate import generate_problems
from aflow_grpo.data.jsonl import read_problems
from aflow_grpo.errors import ConfigError
from aflow_grpo.policy.policy import Policy
from aflow_grpo.policy.recipe import SupervisedSettings, TinyShape, WarmStartSettings
from aflow_grpo.policy.supervised import Example, train_supervised
from aflow_grpo.policy.tiny import tiny_model
from aflow_grpo.policy.validity import Sample, count_validity, faults_of, sample_policy
from aflow_grpo.policy.warmstart import (
    file_sha256,
    training_problems,
    warm_start,
)
from aflow_grpo.records import DOMAINS, FaultKind, VisibleProblem

SHORT = WarmStartSettings(
    steps=5,
    batch_size=4,
    warmup_steps=2,
    vocab_size=400,
    tokenizer_pairs=60,
    shape=TinyShape(hidden_size=32, intermediate_size=64, layers=2, heads=2, key_value_heads=1),
)
PROBLEMS = generate_problems(1, 30, held_out=False)
SHIPPED = shipped_path("data/tiny-policy")


def test_two_runs_give_the_same_weights_and_tokenizer_to_the_bit(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = warm_start(SHORT, tmp_path / "a", problems=PROBLEMS, validation=[])
    torch.manual_seed(2)
    again = warm_start(SHORT, tmp_path / "b", problems=PROBLEMS, validation=[])
    assert first.weights_sha256 == again.weights_sha256
    assert first.final_loss == again.final_loss
    names = ("model.safetensors", "tokenizer.json", "config.json", "tokenizer_config.json")
    for name in names:
        assert file_sha256(tmp_path / "a" / name) == file_sha256(tmp_path / "b" / name), name


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    other = dataclasses.replace(SHORT, seed=1)
    first = warm_start(SHORT, tmp_path / "a", problems=PROBLEMS, validation=[])
    second = warm_start(other, tmp_path / "b", problems=PROBLEMS, validation=[])
    assert first.weights_sha256 != second.weights_sha256


def test_another_family_of_flaws_is_learnt_and_named_in_the_recipe(tmp_path: Path) -> None:
    other = dataclasses.replace(SHORT, steps=2, flaws="undefined_names")
    first = warm_start(other, tmp_path / "a", problems=PROBLEMS, validation=[])
    habits = dataclasses.replace(other, flaws="habits")
    second = warm_start(habits, tmp_path / "b", problems=PROBLEMS, validation=[])
    assert first.weights_sha256 != second.weights_sha256
    told = [json.loads((tmp_path / run / "recipe.json").read_text("utf-8")) for run in "ab"]
    assert [recipe["settings"]["flaws"] for recipe in told] == ["undefined_names", "habits"]
    assert told[0]["tokenizer_sha256"] != told[1]["tokenizer_sha256"]


def test_the_loss_falls_and_every_step_is_reported(tmp_path: Path) -> None:
    seen: list[tuple[int, float]] = []
    settings = dataclasses.replace(SHORT, steps=40, learning_rate=1e-2)
    threads = torch.get_num_threads()
    report = warm_start(
        settings,
        tmp_path,
        problems=PROBLEMS,
        validation=[],
        on_step=lambda *seen_now: seen.append(seen_now),
    )
    assert [step for step, _ in seen] == list(range(1, 41))
    assert seen[0][1] == pytest.approx(6.0, abs=0.1), "random weights: log(400) nats"
    assert report.final_loss < 4.0
    assert torch.get_num_threads() == threads


def test_the_loss_is_the_mean_over_completion_tokens_of_uneven_sequences() -> None:
    model = tiny_model(SHORT.shape, vocab_size=40, end_id=0, pad_id=1, seed=5)
    examples = [Example([7, 8, 9, 10, 0], 3), Example([11, 12, 13, 14, 15, 16, 0], 2)]
    with torch.no_grad():
        surprises = [
            -model(torch.tensor([example.ids])).logits[0, at - 1].log_softmax(-1)[example.ids[at]]
            for example in examples
            for at in range(example.prompt_length, len(example.ids))
        ]
    assert len(surprises) == 2 + 5
    settings = SupervisedSettings(steps=1, batch_size=2)
    losses = train_supervised(settings, model, examples, 1, None)
    assert losses == pytest.approx([float(sum(surprises)) / 7], abs=1e-5)


def test_the_recipe_names_what_made_the_weights(tmp_path: Path) -> None:
    report = warm_start(SHORT, tmp_path, problems=PROBLEMS, validation=PROBLEMS[:2])
    recipe = json.loads((tmp_path / "recipe.json").read_text(encoding="utf-8"))
    assert recipe["settings"]["seed"] == 0
    assert recipe["settings"]["shape"]["hidden_size"] == 32
    assert recipe["problems"]["count"] == 30
    assert recipe["report"]["weights_sha256"] == report.weights_sha256
    assert recipe["report"]["weights_sha256"] == file_sha256(tmp_path / "model.safetensors")
    rates = recipe["report"]["rates"]
    assert (rates["problems"], rates["samples_per_problem"]) == (2, 5)
    assert rates["broken"] == 1.0, "five steps from random weights write nothing that parses"
    assert rates["sampled"]["all"] == rates["greedy"]["all"] == 0.0
    assert set(recipe["versions"]) == {"torch", "transformers", "tokenizers"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps is 0; expected at least 1"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"vocab_size": 256}, "vocab_size is 256; expected at least 300"),
    ],
)
def test_impossible_settings_are_refused_by_name(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(SHORT, **wrong)


def test_no_problems_is_an_error_not_an_empty_policy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs problems"):
        warm_start(SHORT, tmp_path, problems=[])


def test_an_unusable_output_folder_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file", encoding="utf-8")

    def never(step: int, loss: float) -> None:
        pytest.fail(f"trained step {step}")

    with pytest.raises(ConfigError, match="taken cannot be made: File exists"):
        warm_start(SHORT, tmp_path / "taken", problems=PROBLEMS, on_step=never)


def test_training_problems_never_hold_a_validation_problem() -> None:
    trained = {problem.text for problem in training_problems(SHORT)}
    held = {problem.text for problem in read_problems(shipped_path("data/sample/val.jsonl"))}
    assert not trained & held


def test_the_shipped_weights_are_those_of_the_recipe_and_small() -> None:
    recipe = json.loads((SHIPPED / "recipe.json").read_text(encoding="utf-8"))
    assert file_sha256(SHIPPED / "model.safetensors") == recipe["report"]["weights_sha256"]
    assert file_sha256(SHIPPED / "tokenizer.json") == recipe["tokenizer_sha256"]
    assert recipe["report"]["weights_sha256"] in (SHIPPED / "README.md").read_text(encoding="utf-8")
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 4_000_000
    settings = {**recipe["settings"], "shape": TinyShape(**recipe["settings"]["shape"])}
    assert WarmStartSettings(**settings) == WarmStartSettings()


def test_the_shipped_policy_is_mostly_invalid_but_can_learn_in_every_domain() -> None:
    policy = Policy("tiny")
    policy.setup()
    policy.eval()
    problems = [p.visible for p in read_problems(shipped_path("data/sample/val.jsonl"))]
    sampled = count_validity(sample_policy(policy, problems * 2, seed=7))
    greedy = count_validity(sample_policy(policy, problems[:20], seed=None))
    assert set(sampled) == set(DOMAINS)
    valid = sum(count.valid for count in sampled.values())
    assert 0.03 <= valid / 200 <= 0.15
    assert sum(count.broken for count in sampled.values()) / 200 <= 0.08
    assert all(count.valid >= 1 for count in sampled.values())
    assert sum(count.valid for count in greedy.values()) == 0


def test_the_shipped_policy_does_not_fall_apart_on_long_and_unfamiliar_problems() -> None:
    policy = Policy("tiny")
    policy.setup()
    policy.eval()
    text = (SHIPPED.parent.parent / "LICENSE").read_text(encoding="utf-8")
    problems = [
        VisibleProblem(
            f"{domain}{start}", "license", domain, text[start : start + 200 + start // 20]
        )
        for domain in DOMAINS
        for start in range(0, 10_000, 1_000)
    ]
    for seed in (None, 1):
        counts = count_validity(sample_policy(policy, problems, seed=seed))
        assert all(count.broken <= 0.2 * count.samples for count in counts.values()), counts


@pytest.mark.parametrize(
    ("text", "finished", "expected"),
    [
        ("", True, {FaultKind.NO_WORKFLOW}),
        ('{"prompts": {}, "graph_code": "class W', False, {FaultKind.LENGTH_LIMIT}),
        ('{"prompts": {}, "graph_code": "class Workflow(:"}', True, {FaultKind.SYNTAX_ERROR}),
    ],
)
def test_broken_texts_are_counted_as_broken(
    text: str, finished: bool, expected: set[FaultKind]
) -> None:
    sample = Sample("math", text, finished)
    assert faults_of(sample) == expected
    assert count_validity([sample])["math"].broken == 1
