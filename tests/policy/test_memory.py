"""The memory arithmetic: against published counts, a real model's layers, and docs/scaling.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM

from aflow_grpo.policy.memory import (
    ATTENTION,
    EVERY_LINEAR,
    QWEN2_5,
    ModelShape,
    activation_bytes_per_token,
)

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.*:FutureWarning")

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
PUBLISHED = {"0.5B": 494_032_768, "1.5B": 1_543_714_304, "7B": 7_615_616_512}
"""Parameters, as `num_parameters()` of the published models says."""
RANK, SEQUENCES, MICRO, TOKENS, COMPLETION = 64, 32, 2, 5120, 1024


def config(shape: ModelShape, layers: int, vocabulary: int) -> Qwen2Config:
    return Qwen2Config(
        hidden_size=shape.hidden, intermediate_size=shape.intermediate, num_hidden_layers=layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        vocab_size=vocabulary, tie_word_embeddings=shape.tied,
    )  # fmt: skip


@pytest.mark.parametrize("size", QWEN2_5)
def test_parameters_are_those_of_the_published_models(size: str) -> None:
    shape = QWEN2_5[size]
    assert shape.parameters == PUBLISHED[size]
    with torch.device("meta"):
        model = Qwen2ForCausalLM(config(shape, shape.layers, shape.vocabulary))
        assert model.num_parameters() == PUBLISHED[size]
        for targets in (ATTENTION, EVERY_LINEAR):
            lora = LoraConfig(r=RANK, target_modules=list(targets))
            adapted = get_peft_model(model, lora)
            trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
            assert trained == shape.adapter_parameters(RANK, targets)
            model = adapted.unload()


def saved_bytes(shape: ModelShape, targets: tuple[str, ...], layers: int, tokens: int) -> int:
    """What autograd keeps of a forward pass besides parameters."""
    model = Qwen2ForCausalLM(config(shape, layers, 64)).to(torch.bfloat16)
    adapted = get_peft_model(model, LoraConfig(r=RANK, target_modules=list(targets)))
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    own = {p.untyped_storage().data_ptr() for p in adapted.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        ids = torch.zeros((1, tokens), dtype=torch.int64)
        hidden = model.model(input_ids=ids).last_hidden_state  # kept alive, and with it the graph
    assert hidden.requires_grad
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("targets", [ATTENTION, EVERY_LINEAR], ids=["attention", "every linear"])
def test_activations_are_within_a_twentieth_of_what_a_layer_keeps(targets: tuple[str, ...]) -> None:
    shape, tokens = QWEN2_5["0.5B"], 64
    one, two = (saved_bytes(shape, targets, layers, tokens) for layers in (1, 2))
    expected = activation_bytes_per_token(shape, targets)
    assert (two - one) / tokens == pytest.approx(expected, rel=0.05)


def total_bytes(shape: ModelShape, *, nf4: bool) -> float:
    scoring = shape.scoring_bytes(MICRO, TOKENS, EVERY_LINEAR, checkpointing=True)
    larger = max(scoring, shape.sampling_bytes(SEQUENCES, TOKENS))
    adapters = shape.adapter_bytes(RANK, EVERY_LINEAR, ddp=True)
    return shape.weight_bytes(nf4=nf4) + adapters + larger + shape.tile_bytes(4096, 8192)


def table() -> list[str]:
    """The page's table, line by line."""

    def line(name: str, cell: Callable[[ModelShape], str]) -> str:
        return f"| {name} | " + " | ".join(cell(shape) for shape in QWEN2_5.values()) + " |"

    def gb(value: float) -> str:
        return f"{value / 1e9:.2f}"

    def adapters(targets: tuple[str, ...]) -> Callable[[ModelShape], str]:
        return lambda s: (
            f"{s.adapter_parameters(RANK, targets) / 1e6:.1f} M: "
            f"{gb(s.adapter_bytes(RANK, targets))} ({gb(s.adapter_bytes(RANK, targets, ddp=True))})"
        )

    def scoring(targets: tuple[str, ...]) -> Callable[[ModelShape], str]:
        return lambda s: " / ".join(
            f"{s.scoring_bytes(MICRO, TOKENS, targets, checkpointing=c) / 1e9:.1f}"
            for c in (False, True)
        )

    return [
        "| GB unless said otherwise | " + " | ".join(f"Qwen2.5-{n}" for n in QWEN2_5) + " |",
        line("parameters", lambda s: f"{s.parameters:,}"),
        line("weights, bf16", lambda s: gb(s.weight_bytes(nf4=False))),
        line("weights, NF4", lambda s: gb(s.weight_bytes(nf4=True))),
        line("adapters of rank 64 on q, k, v, o; under DDP in brackets", adapters(ATTENTION)),
        line("on every linear map", adapters(EVERY_LINEAR)),
        line("cache of one token, kB", lambda s: f"{s.cache_bytes_per_token() / 1e3:.1f}"),
        line(
            "cache of 32 sequences of 5,120 tokens",
            lambda s: f"{s.sampling_bytes(SEQUENCES, TOKENS) / 1e9:.1f}",
        ),
        line(
            "activations of 2 × 5,120 tokens, q, k, v, o: without / with checkpointing",
            scoring(ATTENTION),
        ),
        line("the same, every linear map", scoring(EVERY_LINEAR)),
        line(
            "full logits of 2 × 1,024 positions, once: never held",
            lambda s: gb(s.logits_bytes(MICRO * COMPLETION)),
        ),
        line(
            "**in all**, bf16, every linear map, checkpointing, DDP",
            lambda s: f"**{total_bytes(s, nf4=False) / 1e9:.1f}**",
        ),
        line(
            "**in all**, NF4 instead of bf16",
            lambda s: f"**{total_bytes(s, nf4=True) / 1e9:.1f}**",
        ),
    ]


def test_the_page_has_the_computed_figures() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for line in table():
        assert line in text.splitlines()


def test_small_numbers_worked_by_hand() -> None:
    """Two layers of hidden 8, 4 heads of 2, 2 of them for keys, intermediate 16, vocabulary 10."""
    shape = ModelShape(8, 2, 4, 2, 16, 10, tied=False)
    linear = 8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 16
    assert shape.quantised == 2 * linear == 1152
    assert shape.parameters == 1152 + 2 * (8 + 2 * 4 + 2 * 8) + 8 + 2 * 10 * 8 == 1384
    assert shape.weight_bytes(nf4=False) == 2768
    assert shape.adapter_parameters(1, ATTENTION) == 2 * (16 + 12 + 12 + 16) == 112
    assert shape.adapter_bytes(1, ATTENTION) == 16 * 112
    assert shape.cache_bytes_per_token() == 2 * 2 * 2 * 4 == 32
    assert shape.sampling_bytes(3, 5) == 480
    whole = shape.scoring_bytes(1, 1, ATTENTION, checkpointing=False)
    assert whole == 2 * (18 * 8 + 8 * 16) == 544
    assert shape.scoring_bytes(2, 3, ATTENTION, checkpointing=True) == 6 * (2 * 8 * 2 + 272)
    assert shape.tile_bytes(4, 100) == 2 * 4 * 4 * 10, "no wider than the vocabulary"
