"""The tiny policy's architecture: Qwen2 in small, so that the whole loop runs on a CPU.

Same layers, same code path and same file format as Qwen2.5, at about a millionth of the cost; only
the width, the depth and the vocabulary are smaller. Random initialisation only; what it can
write comes from `warmstart.py`.
"""

from __future__ import annotations

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from aflow_grpo.policy.recipe import TinyShape

__all__ = ["tiny_model"]


def tiny_model(
    shape: TinyShape, *, vocab_size: int, end_id: int, pad_id: int, seed: int
) -> Qwen2ForCausalLM:
    """A randomly initialised Qwen2 model in fp32, with tied embeddings.

    Args:
        shape: Its size.
        vocab_size: Number of tokens of its tokenizer.
        end_id: Id of the token that ends a completion.
        pad_id: Id of the token that fills up batches.
        seed: Same seed, same weights; the global generator is left as it was.
    """
    config = Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        max_position_embeddings=shape.max_positions,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        use_sliding_window=False,
        attention_dropout=0.0,
        bos_token_id=None,
        eos_token_id=end_id,
        pad_token_id=pad_id,
        dtype=torch.float32,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config)
    return model
