"""The tiny policy's own tokenizer: a byte-level BPE of a few hundred tokens.

It is a `Qwen2Tokenizer` with its own vocabulary, since `AutoTokenizer` gives every folder of model
type qwen2 Qwen's rule for splitting text, whatever `tokenizer.json` says: with another rule the
policy would be asked in tokens that it has never seen, without a word of warning. Under Qwen's rule
a workflow would be twice as long as need be, so the phrases that every workflow shares are tokens
of their own. Operators, arguments and keys are written piece by piece: with whole statements as
tokens the policy would pick templates instead of writing.
Any text is encodable, since every byte is a token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer

__all__ = ["END_TOKEN", "PAD_TOKEN", "PHRASES", "train_tokenizer"]

END_TOKEN = "<|endoftext|>"
"""Ends a completion; id 0."""
PAD_TOKEN = "<|pad|>"
"""Fills up batches; id 1."""

PHRASES = (
    '{"prompts": {',
    '}, "graph_code": "',
    "class Workflow:",
    "async def __call__(self, ",
    "\\n    ",
    "\\n        ",
    "\\n            ",
    "for _ in range(3)",
    " = await self.",
    "await self.",
    "entry_point",
    "return ",
    "self.llm.",
    "get_usage_summary()",
    "['total_cost']",
    "<math>\n",
    "<code>\n",
    "<qa>\n",
    "\n<workflow>\n",
)
"""What workflows and prompts share, in the JSON form, where a line break is two characters."""


def train_tokenizer(
    texts: Iterable[str], *, vocab_size: int, max_token_length: int, max_positions: int
) -> Qwen2Tokenizer:
    """Trains a byte-level BPE on `texts`.

    Args:
        texts: Prompts and completions in the proportion in which they will occur.
        vocab_size: Number of tokens; the 256 bytes, the phrases and the special tokens count.
        max_token_length: Longest learned token, in bytes.
        max_positions: Longest sequence that the model takes, in tokens.

    Returns:
        A tokenizer that adds no special tokens when it encodes and pads on the left.
    """
    plain = Qwen2Tokenizer()
    learner = Tokenizer(models.BPE())
    learner.normalizer = plain.backend_tokenizer.normalizer
    learner.pre_tokenizer = plain.backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(PHRASES),
        min_frequency=2,
        max_token_length=max_token_length,
        special_tokens=[END_TOKEN, PAD_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(_between_phrases(texts), trainer)
    learned = json.loads(learner.to_str())["model"]
    merges: Any = [tuple(merge) for merge in learned["merges"]]
    tokenizer = Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=merges,
        eos_token=END_TOKEN,
        pad_token=PAD_TOKEN,
        model_max_length=max_positions,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
    tokenizer.add_tokens([AddedToken(phrase, normalized=False) for phrase in PHRASES])
    return tokenizer


def _between_phrases(texts: Iterable[str]) -> Iterator[str]:
    """The pieces of `texts` that the phrases leave; only they need learned tokens."""
    # Longest first: a phrase can be the beginning of another one.
    ordered = sorted(PHRASES, key=len, reverse=True)
    phrase = re.compile("|".join(re.escape(text) for text in ordered))
    for text in texts:
        yield from (piece for piece in phrase.split(text) if piece)
