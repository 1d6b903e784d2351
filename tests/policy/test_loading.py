"""Loading: what cannot be loaded is said in the words of the config key."""

from __future__ import annotations

import pytest
import torch
from jsonargparse import ArgumentParser
from random_models import byte_tokenizer, random_qwen2
from transformers import GraniteConfig, GraniteForCausalLM

from aflow_grpo.errors import ConfigError
from aflow_grpo.policy import LoraSettings, Policy, SamplingSettings
from aflow_grpo.policy.loading import causal_parts, load
from aflow_grpo.records import Problem

SMALL = SamplingSettings(max_new_tokens=16, max_prompt_tokens=64)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/no/such/folder", "no such folder. Give `tiny`"),
        ("./nowhere", "no such folder"),
        ("Qwen/Qwen2.5-made-up", "hf download Qwen/Qwen2.5-made-up --local-dir FOLDER"),
        ("no spaces allowed", "neither a folder here nor in the local Hugging Face cache"),
    ],
)
def test_a_model_that_is_not_there(source, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load(source)
    assert f"model.policy.model={source}" in str(caught.value)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(ConfigError, match=r"no config\.json"):
        load(str(tmp_path))


def test_a_folder_with_a_broken_model(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="the folder cannot be loaded"):
        load(str(tmp_path))


def test_a_model_that_scales_its_logits_is_refused(tmp_path):
    config = GraniteConfig(
        vocab_size=258,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        logits_scaling=4.0,
    )
    GraniteForCausalLM(config).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="changes its logits after the output head"):
        load(str(tmp_path))


def test_prompt_and_completion_must_fit_the_model(model_folder):
    policy = Policy(model_folder, sampling=SamplingSettings(max_new_tokens=500))
    with pytest.raises(ConfigError, match=r"make 1140 tokens, but .* takes at most 512"):
        policy.setup()


def test_adapters_on_layers_that_do_not_exist(model_folder):
    policy = Policy(model_folder, lora=LoraSettings(target_modules=["c_attn"]), sampling=SMALL)
    with pytest.raises(ConfigError, match=r"lora.target_modules=\['c_attn'\]"):
        policy.setup()


def test_end_tokens_come_from_the_generation_config_first():
    model, tokenizer = random_qwen2(), byte_tokenizer()
    assert causal_parts(model, tokenizer).end_ids == {0}
    model.generation_config.eos_token_id = [1, 0]
    assert causal_parts(model, tokenizer).end_ids == {0, 1}
    model.generation_config.eos_token_id = None
    assert causal_parts(model, tokenizer).end_ids == {tokenizer.eos_token_id}


def test_a_model_without_any_end_token_is_refused():
    model, tokenizer = random_qwen2(), byte_tokenizer()
    model.generation_config.eos_token_id = None
    tokenizer.eos_token = None
    with pytest.raises(ConfigError, match="names an end token"):
        causal_parts(model, tokenizer)


@pytest.mark.parametrize(
    ("dtype", "expected"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_dtype_is_that_of_the_settings_not_of_the_file(model_folder, dtype, expected):
    model, _ = load(model_folder, dtype=dtype)
    assert {p.dtype for p in model.parameters()} == {expected}
    assert not model.training


def test_the_shipped_policy_writes_something_like_a_workflow():
    before = torch.get_num_threads()
    try:
        policy = Policy()
        policy.setup()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    problem = Problem(
        id="p/1", dataset="sample", domain="math", question="What is 2+3?", answer="5"
    )
    (completion,) = policy.eval().sample([policy.encode(problem.visible)], [0], greedy=True)
    assert completion.finished
    assert "graph_code" in completion.text


def test_the_command_line_builds_a_policy_from_its_class_path():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--policy", type=Policy)
    given = {
        "class_path": "aflow_grpo.policy.Policy",
        "init_args": {
            "lora": {"rank": 8, "target_modules": ["q_proj", "v_proj"]},
            "sampling": {"max_new_tokens": 99},
        },
    }
    policy = parser.instantiate(parser.parse_object({"policy": given})).policy
    assert isinstance(policy, Policy)
    assert policy.lora == LoraSettings(rank=8, target_modules=["q_proj", "v_proj"])
    assert policy.sampling == SamplingSettings(max_new_tokens=99)
