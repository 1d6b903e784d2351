"""Makes the tiny policy: supervised training on synthetic workflows, from random weights.

The result writes whole workflows, most of them invalid in the ways of an untrained 7B model
(`flaws.py`), and chooses operators blindly: where GRPO starts from on the embedded default.
Reproducible to the bit on one machine: one thread, every draw from the settings' seed, and the
length buckets that save time are themselves a function of the seed.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import tokenizers
import torch
import transformers
from transformers import Qwen2ForCausalLM, Qwen2Tokenizer
from transformers.utils import logging as transformers_logging

from aflow_grpo.assets import shipped_path
from aflow_grpo.data.generate import generate_problems
from aflow_grpo.data.jsonl import read_problems
from aflow_grpo.errors import ConfigError
from aflow_grpo.policy.recipe import WarmStartSettings
from aflow_grpo.policy.supervised import Example, train_supervised
from aflow_grpo.policy.synthetic import synthetic_pairs
from aflow_grpo.policy.tiny import tiny_model
from aflow_grpo.policy.tokenizer import train_tokenizer
from aflow_grpo.policy.validity import ValidityRates, measure_rates
from aflow_grpo.records import Problem, VisibleProblem
from aflow_grpo.seeds import derive_seed

__all__ = ["WarmStartReport", "training_problems", "warm_start"]

WEIGHTS = "model.safetensors"
"""The file of weights in a policy's folder."""


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

    Raises:
        ConfigError: There are no problems, or `output_dir` cannot be made.
    """
    if problems is None:
        problems = training_problems(settings)
    if not problems:
        raise ConfigError("a warm start needs problems; got none")
    if validation is None:
        validation = read_problems(shipped_path("data/sample/val.jsonl"))
    _make_folder(output_dir)
    start = time.process_time()
    with _one_thread(), _no_progress_bars():
        visible = [problem.visible for problem in problems]
        tokenizer = _make_tokenizer(settings, visible)
        examples = _encode(settings, visible, tokenizer)
        model = tiny_model(
            settings.shape,
            vocab_size=len(tokenizer),
            end_id=tokenizer.eos_token_id,
            pad_id=tokenizer.pad_token_id,
            seed=derive_seed("warmstart", "model", settings.seed),
        )
        losses = train_supervised(settings, model, examples, tokenizer.pad_token_id, on_step)
        _save(model, tokenizer, output_dir)
        rates = measure_rates(output_dir, [p.visible for p in validation]) if validation else None
    tail = losses[-20:]
    report = WarmStartReport(
        weights_sha256=file_sha256(output_dir / WEIGHTS),
        parameters=model.num_parameters(),
        final_loss=sum(tail) / len(tail),
        cpu_seconds=time.process_time() - start,
        tokens_per_workflow=_mean(len(e.ids) - e.prompt_length for e in examples),
        tokens_per_prompt=_mean(e.prompt_length for e in examples),
        rates=rates,
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


def _make_folder(path: Path) -> None:
    """Makes the output folder before the minutes of training, not after them."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"output_dir={path} cannot be made: {error.strerror}") from error


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


def _make_tokenizer(
    settings: WarmStartSettings, problems: Sequence[VisibleProblem]
) -> Qwen2Tokenizer:
    seed = derive_seed("warmstart", "tokenizer", settings.seed)
    pairs = synthetic_pairs(problems, settings.tokenizer_pairs, seed, flaws=settings.flaws)
    return train_tokenizer(
        (text for pair in pairs for text in (pair.prompt, pair.completion)),
        vocab_size=settings.vocab_size,
        max_token_length=settings.max_token_length,
        max_positions=settings.shape.max_positions,
    )


def _encode(
    settings: WarmStartSettings, problems: Sequence[VisibleProblem], tokenizer: Qwen2Tokenizer
) -> list[Example]:
    """Token ids of all training pairs, prompt and completion encoded apart as in sampling."""
    seed = derive_seed("warmstart", "pairs", settings.seed)
    count = settings.steps * settings.batch_size
    drawn = synthetic_pairs(
        problems, count, seed, foreign_share=settings.foreign_share, flaws=settings.flaws
    )
    pairs = list(drawn)
    prompts = tokenizer([pair.prompt for pair in pairs], add_special_tokens=False)["input_ids"]
    completions = tokenizer([pair.completion for pair in pairs], add_special_tokens=False)
    return [
        Example([*prompt, *completion, tokenizer.eos_token_id], len(prompt))
        for prompt, completion in zip(prompts, completions["input_ids"], strict=True)
    ]


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Without transformers' bars for files, which are for models a thousand times the size."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _save(model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, output_dir: Path) -> None:
    model.save_pretrained(output_dir)
    tokenizer.save_pretrained(output_dir)
    # Written for its owner alone, but meant to be shared.
    (output_dir / WEIGHTS).chmod(0o644)


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
