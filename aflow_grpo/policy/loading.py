"""Finds and loads a causal language model and its tokenizer, and puts adapters on it.

A model is the shipped tiny one (``tiny``), a local folder, or a Hugging Face id. Every failure that
a person can mend (no such folder, no network, a model of another kind) is a `ConfigError`.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub.constants import HF_HUB_OFFLINE
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from aflow_grpo.assets import shipped_path
from aflow_grpo.errors import ConfigError
from aflow_grpo.policy.settings import LoraSettings

__all__ = [
    "TINY",
    "CausalParts",
    "add_lora",
    "causal_parts",
    "enable_checkpointing",
    "fingerprint",
    "load",
    "parameter_counts",
]

TINY = "tiny"
"""Names the shipped policy."""
_TINY_FOLDER = "data/tiny-policy"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_PROBE_TOLERANCE = 1e-2


@dataclass(frozen=True)
class CausalParts:
    """A causal language model taken apart, so that the head runs only where it is needed."""

    inner: nn.Module
    """Token ids to hidden states."""
    head: nn.Linear
    """Hidden states to logits."""
    config: Any
    """The model's `PretrainedConfig`."""
    end_ids: frozenset[int]
    """Tokens that end a completion."""


def load(
    source: str,
    *,
    dtype: Literal["float32", "bfloat16"] = "float32",
    quantization: Literal["none", "nf4"] = "none",
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The pretrained model, in eval mode, and its tokenizer.

    Args:
        source: ``tiny``, a folder with `config.json`, or a Hugging Face id.
        dtype: Of the weights; with nf4, of the computation.
        quantization: ``nf4`` loads the linear layers in 4 bits (arXiv 2305.14314).

    Raises:
        ConfigError: It cannot be found, fetched, or used.
    """
    place, local = _locate(source)
    options: dict[str, Any] = {"dtype": _DTYPES[dtype]}
    if quantization == "nf4":
        options["quantization_config"] = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=_DTYPES[dtype],
        )
    try:
        with _quiet(source == TINY):
            tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=local)
            model = AutoModelForCausalLM.from_pretrained(place, local_files_only=local, **options)
    except (OSError, ValueError) as error:
        raise ConfigError(_not_loaded(source, local, error)) from error
    model.eval()  # type: ignore[no-untyped-call]
    _keep_trainable(model)
    _probe(source, causal_parts(model, tokenizer), model)
    return model, tokenizer


def _keep_trainable(model: PreTrainedModel) -> None:
    """Keep bitsandbytes from packing 4-bit weights for inference, after which none has a gradient.

    It does so at the first forward pass in eval mode, on processors with AVX512-BF16.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def _locate(source: str) -> tuple[str, bool]:
    """What to give to `from_pretrained`, and whether it is on this machine."""
    if source == TINY:
        try:
            return str(shipped_path(_TINY_FOLDER)), True
        except FileNotFoundError as error:
            raise ConfigError(
                f"model.policy.model=tiny: {error} `aflow-grpo warmstart` makes such a folder."
            ) from error
    path = Path(source).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ConfigError(
                f"model.policy.model={source}: the folder has no config.json. Expected a model "
                "saved by `save_pretrained`: config.json, *.safetensors, tokenizer files."
            )
        return str(path), True
    if source.startswith(("/", ".", "~")) or source.count("/") > 1:
        raise ConfigError(
            f"model.policy.model={source}: no such folder. Give `tiny`, an existing folder, or a "
            "Hugging Face id such as Qwen/Qwen2.5-0.5B-Instruct."
        )
    return source, False


def _not_loaded(source: str, local: bool, error: Exception) -> str:
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    if local:
        return f"model.policy.model={source}: the folder cannot be loaded: {first_line}"
    fetch = f"`hf download {source} --local-dir FOLDER` fetches it; then give the folder"
    if HF_HUB_OFFLINE:
        return (
            f"model.policy.model={source}: neither a folder here nor in the local Hugging Face "
            f"cache, and the hub is not asked (HF_HUB_OFFLINE=1). {fetch}. Or allow the hub for "
            "this run by setting HF_HUB_OFFLINE=0."
        )
    return (
        f"model.policy.model={source}: neither a folder here nor a model that could be fetched "
        f"from the Hugging Face hub ({first_line}). Check the id's spelling. From another machine "
        f"{fetch}."
    )


@contextmanager
def _quiet(active: bool) -> Iterator[None]:
    """No progress bar for a load of some milliseconds."""
    shown = transformers_logging.is_progress_bar_enabled()
    if active:
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if active and shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def causal_parts(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> CausalParts:
    """The model's decoder, head and end tokens; adapters stay inside the decoder.

    Raises:
        ConfigError: It has no linear head, or no end token is known.
    """
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    head = base.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise ConfigError(
            f"model.policy.model: {type(base).__name__} has no linear output head; expected a "
            "causal language model such as Qwen2."
        )
    # Instruct models name several end tokens, and only in their generation config.
    end = getattr(base.generation_config, "eos_token_id", None)
    if end is None:
        end = tokenizer.eos_token_id
    if end is None:
        raise ConfigError(
            "model.policy.model: neither generation_config.json nor the tokenizer names an end "
            "token (eos_token_id), so completions could never end."
        )
    end_ids = frozenset([end] if isinstance(end, int) else end)
    return CausalParts(base.get_decoder(), head, base.config, end_ids)


@torch.no_grad()
def _probe(source: str, parts: CausalParts, model: PreTrainedModel) -> None:
    """Check that logits are head(decoder(ids)): some architectures scale or cap them besides."""
    ids = torch.tensor([[0, 1, 2, 3]], device=parts.head.weight.device)
    expected = model(input_ids=ids).logits.float()
    hidden = parts.inner(input_ids=ids, use_cache=False).last_hidden_state
    found = parts.head(hidden).float()
    if not torch.allclose(found, expected, rtol=_PROBE_TOLERANCE, atol=_PROBE_TOLERANCE):
        raise ConfigError(
            f"model.policy.model={source}: {type(model).__name__} changes its logits after the "
            "output head (a cap or a scale), which is not supported. Use a model without that, "
            "such as Qwen2.5 or Llama 3."
        )


def enable_checkpointing(model: PreTrainedModel) -> None:
    """Keep only the layers' inputs; the backward pass computes the rest again."""
    # Renamed within transformers 5.
    enable: Any = getattr(model, "activation_checkpointing_enable", None)
    (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})


def add_lora(model: PreTrainedModel, lora: LoraSettings, *, seed: int) -> PeftModel:
    """Freeze the model and put trainable adapters on it; at first they change nothing.

    Adapters are float32. What 4 bits leave as it was (embedding, norms, head) keeps its type:
    raised to float32, as by peft's `prepare_model_for_kbit_training`, embedding and head of a
    7 B model would take 4.4 GB in place of 2.2, and every activation twice its memory.

    Args:
        model: The base model, changed in place.
        lora: Rank, scale, where.
        seed: Of the adapters' initial weights; the global generator is left as it was.

    Raises:
        ConfigError: `target_modules` names no layer of the model.
    """
    settings = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )
    devices = [model.device] if model.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices), warnings.catch_warnings():
            # peft asks transformers for a property under its old name.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            torch.manual_seed(seed)
            return get_peft_model(model, settings)
    except ValueError as error:
        raise ConfigError(
            f"model.policy.lora.target_modules={lora.target_modules}: {error}"
        ) from error


def parameter_counts(model: nn.Module) -> tuple[int, int]:
    """How many values are trained, and how many there are, adapters included.

    A 4-bit weight counts the values that it stands for, not the bytes that they are packed in.
    """
    trained = total = 0
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        count = parameter.numel() if state is None else math.prod(state.shape)
        total += count
        trained += count if parameter.requires_grad else 0
    return trained, total


_FINGERPRINTED_VALUES = 64


def fingerprint(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, lora: LoraSettings | None
) -> str:
    """What a checkpoint of this policy fits to, e.g. ``qwen2-5f0c1a2b3c4d, full``.

    Hashed are the architecture, the vocabulary, and the first values of every base weight (all of
    them would take minutes at 7 B). Taken before adapters are added.
    """
    config = model.config.to_dict()
    for volatile in ("_name_or_path", "transformers_version", "dtype", "torch_dtype"):
        config.pop(volatile, None)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    digest.update(json.dumps(sorted(tokenizer.get_vocab().items())).encode())
    for name, weight in sorted(model.named_parameters()):
        digest.update(f"{name}{tuple(weight.shape)}".encode())
        digest.update(_first_bytes(weight))
    adapter = "full" if lora is None else json.dumps(asdict(lora), sort_keys=True)
    return f"{model.config.model_type}-{digest.hexdigest()[:12]}, {adapter}"


def _first_bytes(weight: Tensor) -> bytes:
    values = weight.detach().reshape(-1)[:_FINGERPRINTED_VALUES].cpu()
    if values.is_floating_point():
        values = values.float()
    return values.numpy().tobytes()
