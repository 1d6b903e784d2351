"""Makes the tiny policy: supervised training on synthetic workflows, from random weights.

The result writes whole workflows, most of them invalid in the ways of an untrained 7B model
(`flaws.py`), and chooses operators blindly: where GRPO starts from on the embedded default.
Reproducible to the bit on one machine: one thread, every draw from the settings' seed, and the
length buckets that save time are themselves a function of the seed.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import tokenizers
import torch
import transformers
from transformers import Qwen2ForCausalLM, Qwen2Tokenizer

from aflow_grpo.assets import shipped_path
from aflow_grpo.data.generate import generate_problems
from aflow_grpo.data.jsonl import read_problems
from aflow_grpo.errors import ConfigError
from aflow_grpo.policy.synthetic import SyntheticPair, synthetic_pairs
from aflow_grpo.policy.tiny import TinyShape, tiny_model
from aflow_grpo.policy.tokenizer import train_tokenizer
from aflow_grpo.policy.validity import ValidityRates, measure_rates
from aflow_grpo.records import Problem
from aflow_grpo.seeds import derive_seed

__all__ = ["WarmStartReport", "WarmStartSettings", "training_problems", "warm_start"]

_WINDOW = 8
"""Batches that are filled together, by length."""
_IGNORED = -100
"""Label of positions without loss."""


@dataclass(frozen=True)
class WarmStartSettings:
    """How the tiny policy is made; the defaults make the shipped one."""

    seed: int = 0
    steps: int = 400
    batch_size: int = 32
    learning_rate: float = 3e-3
    warmup_steps: int = 20
    final_learning_rate_share: float = 0.02
    """Learning rate at the end of the cosine decay, as a share of `learning_rate`."""
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    vocab_size: int = 640
    max_token_length: int = 12
    """Longest token, in bytes."""
    tokenizer_pairs: int = 4000
    """Synthetic pairs that the tokenizer is trained on."""
    fresh_problems: int = 1000
    """Generated problems that are trained on besides the shipped ones."""
    shape: TinyShape = field(default_factory=TinyShape)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "tokenizer_pairs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.vocab_size < 300:
            raise ConfigError(
                f"vocab_size is {self.vocab_size}; expected at least 300 (256 bytes, the special "
                "tokens, and some merges)"
            )


@dataclass(frozen=True)
class WarmStartReport:
    """What a warm start made."""

    weights_sha256: str
    """Of `model.safetensors`."""
    parameters: int
    final_loss: float
    """Mean over the last 20 steps, in nats per completion token."""
    cpu_seconds: float
    tokens_per_workflow: float
    """Mean completion length, end token included."""
    tokens_per_prompt: float
    rates: ValidityRates | None
    """How much of what it writes is valid; None when that was not measured."""


@dataclass(frozen=True)
class _Encoded:
    ids: list[int]
    prompt_length: int


def warm_start(
    settings: WarmStartSettings,
    output_dir: Path,
    *,
    problems: Sequence[Problem] | None = None,
    validation: Sequence[Problem] | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> WarmStartReport:
    """Trains the tiny policy and saves it as a folder that `from_pretrained` loads.

    Args:
        settings: Everything that decides the result, besides the problems.
        output_dir: Gets weights, tokenizer and `recipe.json`; made if missing.
        problems: Their prompts are trained on, with synthetic workflows; answers play no part.
            None for the shipped training problems and `fresh_problems` more.
        validation: The result's rates are measured on these; None for the shipped validation
            problems, an empty list for no measurement.
        on_step: Called after each step with its number (from 1) and its loss.
    """
    if problems is None:
        problems = training_problems(settings)
    if not problems:
        raise ConfigError("a warm start needs problems; got none")
    start = time.process_time()
    with _one_thread():
        tokenizer = _make_tokenizer(settings, problems)
        examples = _encode(settings, problems, tokenizer)
        model = tiny_model(
            settings.shape,
            vocab_size=len(tokenizer),
            end_id=tokenizer.eos_token_id,
            pad_id=tokenizer.pad_token_id,
            seed=derive_seed("warmstart", "model", settings.seed),
        )
        losses = _train(settings, model, examples, tokenizer.pad_token_id, on_step)
    model.save_pretrained(output_dir)
    tokenizer.save_pretrained(output_dir)
    if validation is None:
        validation = read_problems(shipped_path("data/sample/val.jsonl"))
    tail = losses[-20:]
    report = WarmStartReport(
        weights_sha256=file_sha256(output_dir / "model.safetensors"),
        parameters=model.num_parameters(),
        final_loss=sum(tail) / len(tail),
        cpu_seconds=time.process_time() - start,
        tokens_per_workflow=_mean(len(e.ids) - e.prompt_length for e in examples),
        tokens_per_prompt=_mean(e.prompt_length for e in examples),
        rates=measure_rates(output_dir, validation) if validation else None,
    )
    _write_recipe(settings, problems, report, output_dir)
    return report


def training_problems(settings: WarmStartSettings) -> list[Problem]:
    """The shipped training problems and fresh ones, all in wordings that training may see."""
    shipped = read_problems(shipped_path("data/sample/train.jsonl"))
    seed = derive_seed("warmstart", "problems", settings.seed)
    return [*shipped, *generate_problems(seed, settings.fresh_problems, held_out=False)]


def file_sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _mean(values: Iterator[int]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread, so that sums have one order; the previous number comes back at the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _pairs(
    settings: WarmStartSettings, problems: Sequence[Problem], count: int, purpose: str
) -> Iterator[SyntheticPair]:
    return synthetic_pairs(problems, count, derive_seed("warmstart", purpose, settings.seed))


def _make_tokenizer(settings: WarmStartSettings, problems: Sequence[Problem]) -> Qwen2Tokenizer:
    pairs = _pairs(settings, problems, settings.tokenizer_pairs, "tokenizer")
    return train_tokenizer(
        (text for pair in pairs for text in (pair.prompt, pair.completion)),
        vocab_size=settings.vocab_size,
        max_token_length=settings.max_token_length,
        max_positions=settings.shape.max_positions,
    )


def _encode(
    settings: WarmStartSettings, problems: Sequence[Problem], tokenizer: Qwen2Tokenizer
) -> list[_Encoded]:
    """Token ids of all training pairs, prompt and completion encoded apart as in sampling."""
    pairs = list(_pairs(settings, problems, settings.steps * settings.batch_size, "pairs"))
    prompts = tokenizer([pair.prompt for pair in pairs], add_special_tokens=False)["input_ids"]
    completions = tokenizer([pair.completion for pair in pairs], add_special_tokens=False)
    return [
        _Encoded([*prompt, *completion, tokenizer.eos_token_id], len(prompt))
        for prompt, completion in zip(prompts, completions["input_ids"], strict=True)
    ]


def _batches(settings: WarmStartSettings, examples: list[_Encoded]) -> Iterator[list[_Encoded]]:
    """Batches of sequences of like length, in random order within each window."""
    rng = random.Random(derive_seed("warmstart", "order", settings.seed))
    size, window = settings.batch_size, settings.batch_size * _WINDOW
    for start in range(0, len(examples), window):
        nearby = sorted(examples[start : start + window], key=lambda e: len(e.ids))
        batches = [nearby[i : i + size] for i in range(0, len(nearby), size)]
        rng.shuffle(batches)
        yield from batches


def _tensors(batch: list[_Encoded], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids and labels, both (B, T) int64; labels only on completions."""
    length = max(len(e.ids) for e in batch)
    ids_BT = torch.full((len(batch), length), pad_id)
    labels_BT = torch.full((len(batch), length), _IGNORED)
    for row, example in enumerate(batch):
        end = len(example.ids)
        ids_BT[row, :end] = torch.tensor(example.ids)
        labels_BT[row, example.prompt_length : end] = torch.tensor(
            example.ids[example.prompt_length :]
        )
    return ids_BT, labels_BT


def _learning_rate(settings: WarmStartSettings, step: int) -> float:
    """Linear warm-up, then cosine decay; `step` counts from 0."""
    warm = min(1.0, (step + 1) / max(settings.warmup_steps, 1))
    progress = step / max(settings.steps - 1, 1)
    low = settings.final_learning_rate_share
    return (
        settings.learning_rate * warm * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress)))
    )


def _train(
    settings: WarmStartSettings,
    model: Qwen2ForCausalLM,
    examples: list[_Encoded],
    pad_id: int,
    on_step: Callable[[int, float], None] | None,
) -> list[float]:
    """Trains in place; the loss of each step, in nats per completion token."""
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=settings.learning_rate,
        betas=(0.9, 0.95),
        weight_decay=settings.weight_decay,
    )
    model.train()
    losses: list[float] = []
    for step, batch in enumerate(_batches(settings, examples)):
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(settings, step)
        loss = _loss(model, *_tensors(batch, pad_id))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        optimizer.step()
        losses.append(loss.item())
        if on_step is not None:
            on_step(step + 1, losses[-1])
    model.train(False)
    return losses


def _loss(model: Qwen2ForCausalLM, ids_BT: torch.Tensor, labels_BT: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over completion tokens; the head sees no other position."""
    hidden_BTH = model.model(input_ids=ids_BT, use_cache=False).last_hidden_state
    targets_BT = labels_BT[:, 1:]
    chosen_BT = targets_BT != _IGNORED
    logits_NV = model.lm_head(hidden_BTH[:, :-1][chosen_BT])
    return torch.nn.functional.cross_entropy(logits_NV, targets_BT[chosen_BT])


def _write_recipe(
    settings: WarmStartSettings,
    problems: Sequence[Problem],
    report: WarmStartReport,
    output_dir: Path,
) -> None:
    prompts = hashlib.sha256("\n".join(problem.id for problem in problems).encode()).hexdigest()
    recipe = {
        "settings": asdict(settings),
        "problems": {"count": len(problems), "ids_sha256": prompts},
        "report": asdict(report),
        "tokenizer_sha256": file_sha256(output_dir / "tokenizer.json"),
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
    }
    text = json.dumps(recipe, indent=2, sort_keys=True) + "\n"
    (output_dir / "recipe.json").write_text(text, encoding="utf-8")
