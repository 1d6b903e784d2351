"""The tiny policy's tokenizer and architecture: standard folders that transformers loads as is."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Tokenizer

from aflow_grpo.policy.recipe import TinyShape
from aflow_grpo.policy.synthetic import synthetic_workflow
from aflow_grpo.policy.tiny import tiny_model
from aflow_grpo.policy.tokenizer import END_TOKEN, PAD_TOKEN, PHRASES, train_tokenizer
from aflow_grpo.records import DOMAINS

SMALL = TinyShape(hidden_size=16, intermediate_size=32, layers=2, heads=2, key_value_heads=1)


def workflows(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [synthetic_workflow(DOMAINS[i % 3], rng).text for i in range(count)]


@pytest.fixture(scope="module")
def tokenizer() -> Qwen2Tokenizer:
    return train_tokenizer(workflows(600), vocab_size=512, max_token_length=12, max_positions=1024)


def test_special_tokens_come_first_and_nothing_is_added(tokenizer: Qwen2Tokenizer) -> None:
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 1)
    assert tokenizer.convert_ids_to_tokens([0, 1]) == [END_TOKEN, PAD_TOKEN]
    assert len(tokenizer) <= 512
    assert len(tokenizer("x")["input_ids"]) == 1


@given(text=st.text(max_size=200))
def test_any_text_is_encodable(tokenizer: Qwen2Tokenizer, text: str) -> None:
    assert all(0 <= i < len(tokenizer) for i in tokenizer(text)["input_ids"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Wie groß? 日本 🦆",
        "a\tb\r\nc  d",
        "\\n        \\n",
        "['total_cost'] return entry_point",
    ],
)
def test_text_survives_encoding_and_decoding(tokenizer: Qwen2Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_workflows_survive_and_are_neither_long_nor_templates(tokenizer: Qwen2Tokenizer) -> None:
    texts = workflows(200, seed=1)
    lengths = []
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
        lengths.append(len(ids))
    assert 45 < sum(lengths) / len(lengths) < 85


def test_no_token_holds_an_operator_call_with_its_arguments(tokenizer: Qwen2Tokenizer) -> None:
    learned = [token for token in tokenizer.get_vocab() if token not in PHRASES]
    assert max(len(token) for token in learned) <= len(END_TOKEN)
    assert not [token for token in learned if "generate(" in token and "=" in token]


def test_auto_tokenizer_of_a_saved_folder_gives_the_same_ids(
    tokenizer: Qwen2Tokenizer, tmp_path: Path
) -> None:
    """`AutoTokenizer` gives model type qwen2 its own splitting rule: ours must be that one."""
    model = tiny_model(SMALL, vocab_size=len(tokenizer), end_id=0, pad_id=1, seed=0)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in [*workflows(50, seed=2), "<math>\nWhat is 2+3?\n<workflow>\n"]:
        assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert (loaded.eos_token_id, loaded.pad_token_id, loaded.padding_side) == (0, 1, "left")


def test_a_saved_model_loads_with_the_same_logits(tmp_path: Path) -> None:
    model = tiny_model(SMALL, vocab_size=300, end_id=0, pad_id=1, seed=3).eval()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids_BT = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        assert torch.equal(loaded(ids_BT).logits, model(ids_BT).logits)
    assert loaded.config.model_type == "qwen2"
    assert loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight


def test_the_default_shape_fits_four_megabytes() -> None:
    model = tiny_model(TinyShape(), vocab_size=640, end_id=0, pad_id=1, seed=0)
    assert 800_000 <= model.num_parameters() <= 950_000
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_the_seed_alone_decides_the_weights_and_the_global_generator_stays() -> None:
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    first, again, other = (
        tiny_model(SMALL, vocab_size=300, end_id=0, pad_id=1, seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.rand(1), expected)
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(first.state_dict()[name], again.state_dict()[name])
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])
