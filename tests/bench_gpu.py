"""Our trainer beside TRL's on a GPU: `nox -s bench -- gpu`, or alone with a choice.

`python -m tests.bench_gpu [0.5b] [7b] [bf16] [nf4]`. Random weights in the shape of Qwen2.5-0.5B
and -7B (no download), LoRA of rank 64 on every linear layer, frozen weights in bfloat16 or in 4
bits: tokens sampled per second, seconds of a training step, largest GPU memory. Each trainer has a
process of its own and the GPU for itself; both sample rows of full length and then train on the
same given rows, with activation checkpointing and the same micro-batches.

`--cpu` does the same with a tiny model on the CPU: its figures mean nothing, but it shows that the
script works before a GPU is rented.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from tests.bench_gpu_sides import Work

__all__ = ["measure_gpu"]

_QWEN = {"num_key_value_heads": 2, "tie_word_embeddings": True, "rope_theta": 1e6}
SHAPES: dict[str, dict[str, Any]] = {
    # As in the config.json of Qwen/Qwen2.5-0.5B and Qwen/Qwen2.5-7B.
    "0.5b": {
        **_QWEN, "vocab_size": 151_936, "hidden_size": 896, "intermediate_size": 4864,
        "num_hidden_layers": 24, "num_attention_heads": 14,
    },
    "7b": {
        **_QWEN, "vocab_size": 152_064, "hidden_size": 3584, "intermediate_size": 18_944,
        "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
        "tie_word_embeddings": False,
    },
    "tiny": {
        **_QWEN, "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 2, "num_attention_heads": 4,
    },
}  # fmt: skip
WEIGHTS = ("bf16", "nf4")
MICRO_BATCH = {"0.5b": 16, "7b": 8}
_SIDE_S = 1800
_SAME_WORK = 0.05
"""Largest relative difference of the first step's gradient norms that rounding explains."""


def measure_gpu(names: Sequence[str] = (), *, cpu: bool = False) -> None:
    """Print a table for each model and kind of weights named; all of them by default."""
    unknown = sorted(set(names) - {"0.5b", "7b", *WEIGHTS})
    if unknown:
        raise SystemExit(f"gpu: no {', '.join(unknown)}; there are 0.5b, 7b, {', '.join(WEIGHTS)}")
    if find_spec("trl") is None:
        raise SystemExit("gpu: TRL is not installed; it comes with `pip install -e .[parity]`")
    if not cpu and not torch.cuda.is_available():
        raise SystemExit(
            "gpu: there is no CUDA device here, so there is nothing to measure. "
            "`python -m tests.bench_gpu --cpu` shows on a tiny model that the script works."
        )
    shapes = ["tiny"] if cpu else [n for n in ("0.5b", "7b") if n in names] or ["0.5b", "7b"]
    device = "the CPU" if cpu else torch.cuda.get_device_name()
    packages = ", ".join(f"{p} {version(p)}" for p in ("torch", "transformers", "trl", "peft"))
    print(f"{device}; {packages}", flush=True)
    for shape in shapes:
        with tempfile.TemporaryDirectory() as folder:
            _make_model(folder, SHAPES[shape], "cpu" if cpu else "cuda")
            for weights in [w for w in WEIGHTS if w in names] or WEIGHTS:
                _compare(folder, shape, _work(shape, weights, cpu=cpu))


def _work(shape: str, weights: str, *, cpu: bool) -> Work:
    work = Work(SHAPES[shape]["vocab_size"], "cpu" if cpu else "cuda", weights)
    if cpu:
        small = {"rank": 4, "groups": 2, "members": 4, "prompt": 16, "tokens": 16}
        return replace(work, **small, micro_batch=4, steps=2)
    return replace(work, micro_batch=MICRO_BATCH[shape])


def _make_model(folder: str, shape: dict[str, Any], device: str) -> None:
    """A random Qwen2 whose end token lies outside its vocabulary: every row has full length.

    Its tokenizer reads ``t5 t17`` as tokens 5 and 17.
    """
    torch.manual_seed(0)
    end = shape["vocab_size"]
    config = Qwen2Config(
        **shape, max_position_embeddings=32_768, bos_token_id=None, eos_token_id=end,
        pad_token_id=None, dtype=torch.bfloat16,
    )  # fmt: skip
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            Qwen2ForCausalLM(config).save_pretrained(folder)
    finally:
        torch.set_default_dtype(before)
    if device == "cuda":
        torch.cuda.empty_cache()  # the GPU is the trainers' alone
    words = {f"t{i}": i for i in range(end)} | {"<end>": end}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="t0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>"
    ).save_pretrained(folder)


def _compare(folder: str, shape: str, work: Work) -> None:
    (Path(folder) / "work.json").write_text(json.dumps(asdict(work)))
    print(
        f"\n{shape}, {work.weights}: {work.groups} x {work.members} rows of {work.prompt} + "
        f"{work.tokens} tokens, {work.micro_batch} rows a pass"
    )
    print(f"{'':34}{'ours':>10}{'TRL':>10}{'ratio':>8}")
    ours, trl = (_steps(side, folder) for side in ("ours", "trl"))
    if ours is None or trl is None:
        return
    norms = [steps[0]["gradient_norm"] for steps in (ours, trl)]
    if abs(norms[0] / norms[1] - 1) > _SAME_WORK:
        print(f"gradient norms {norms}: the trainers did not do the same work", flush=True)
        return
    tokens = work.rows * work.tokens
    rows = {
        "tokens sampled per second": lambda s: tokens / _middle(s, "sampling_s"),
        "seconds of a training step": lambda s: _middle(s, "training_s"),
        "seconds of a whole step": lambda s: _middle(s, "sampling_s") + _middle(s, "training_s"),
        "peak MB, sampling": lambda s: max(step["sampling_mb"] for step in s),
        "peak MB, training": lambda s: max(step["training_mb"] for step in s),
        "gradient norm, first step": lambda s: float(s[0]["gradient_norm"]),
    }
    for name, figure in rows.items():
        one, other = figure(ours), figure(trl)
        print(f"{name:34}{one:10.4g}{other:10.4g}{one / other:8.2f}", flush=True)


def _middle(steps: Any, name: str) -> float:
    """Median of the steps but the first, which warms up."""
    return median(step[name] for step in steps[1:])


def _steps(side: str, folder: str) -> list[dict[str, float]] | None:
    """What each step of one trainer took; None, with its last words, when it failed."""
    result = Path(folder) / f"{side}.json"
    result.unlink(missing_ok=True)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench_gpu_sides", side, folder, str(result)],
        capture_output=True, text=True, timeout=_SIDE_S, env=environment, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        return list(json.loads(result.read_text()))
    reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
    print(f"{side} failed: {reason}", flush=True)
    return None


if __name__ == "__main__":
    measure_gpu([n for n in sys.argv[1:] if n != "--cpu"], cpu="--cpu" in sys.argv[1:])
