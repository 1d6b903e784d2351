"""The tiny policy's own tokenizer: a byte-level BPE of a few hundred tokens.

Any text is encodable, since every byte is a token. Tokens never cross a line of the workflow's
code and never grow beyond a dozen characters: with whole statements as tokens the policy would
pick templates instead of writing, and with the usual word-wise splitting a workflow would be twice
as long. Saved as a standard tokenizer folder that `AutoTokenizer` loads.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

__all__ = ["END_TOKEN", "PAD_TOKEN", "train_tokenizer"]

END_TOKEN = "<|endoftext|>"
"""Ends a completion; id 0."""
PAD_TOKEN = "<|pad|>"
"""Fills up batches; id 1."""

_LINE_BREAK = r"\\n *|\n+"
"""A line break and the indentation after it, in JSON-escaped code or in plain text."""
_DIGIT = r"\d"
"""Digits stand alone, so that unseen numbers cost what seen ones do."""


def train_tokenizer(
    texts: Iterable[str], *, vocab_size: int, max_token_length: int, max_positions: int
) -> PreTrainedTokenizerFast:
    """Trains a byte-level BPE on `texts`.

    Args:
        texts: Prompts and completions in the proportion in which they will occur.
        vocab_size: Number of tokens, the 256 bytes and the two special tokens included.
        max_token_length: Longest token, in bytes.
        max_positions: Longest sequence that the model takes, in tokens.

    Returns:
        A tokenizer that adds no special tokens when it encodes.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_LINE_BREAK), behavior="isolated"),
            pre_tokenizers.Split(Regex(_DIGIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        max_token_length=max_token_length,
        special_tokens=[END_TOKEN, PAD_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_TOKEN,
        pad_token=PAD_TOKEN,
        model_max_length=max_positions,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
