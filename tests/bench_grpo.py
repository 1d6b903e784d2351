"""Our trainer beside TRL's on the same work: `nox -s bench -- grpo`, or alone with other sizes.

`python -m tests.bench_grpo [--short] [VOCABULARY ...]`. A random Qwen2 (hidden 256, 4 layers, tied
head) with LoRA of rank 64 makes steps on 4 prompts x 8 rows of 64 + 128 tokens in fp32, KL 0.04,
one thread, no activation checkpointing. Each trainer has a process of its own, so that peak memory
is its own, and they take turns step by step, so that a busy machine is as busy for one as for the
other. Both sample rows of full length and then train on the same given rows; that they do the same
work is seen from equal gradient norms.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from tests.bench_grpo_sides import GROUPS, MEMBERS, PHASES, TOKENS

__all__ = ["make_model", "measure_grpo"]

STEPS = {2_048: 6, 151_936: 2}
"""Steps of each trainer by vocabulary."""
SAME_WORK = 1e-3
"""Largest relative difference of the first step's gradient norms."""


def measure_grpo(short: bool = False, vocabularies: Sequence[int] = tuple(STEPS)) -> None:
    """CPU seconds and peak memory by phase, ours and TRL's, and their ratios."""
    if find_spec("trl") is None:
        raise SystemExit("TRL is not installed; it comes with `pip install -e .[parity]`")
    for vocabulary in vocabularies:
        count = STEPS.get(vocabulary, 2) // (2 if short else 1)
        with tempfile.TemporaryDirectory() as folder:
            make_model(folder, vocabulary)
            _compare(folder, vocabulary, count)


def make_model(folder: str, vocabulary: int) -> None:
    """A random Qwen2 whose end token lies outside its vocabulary: every row has full length.

    Its tokenizer reads ``t5 t17`` as tokens 5 and 17.
    """
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=vocabulary, hidden_size=256, intermediate_size=1024, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=vocabulary, pad_token_id=None,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)
    words = {f"t{i}": i for i in range(vocabulary)} | {"<end>": vocabulary}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="t0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>"
    ).save_pretrained(folder)


class _Side:
    """One trainer's process."""

    def __init__(self, name: str, folder: str) -> None:
        read, write = os.pipe()
        self.log = Path(folder) / f"{name}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.bench_grpo_sides", name, folder, str(write)],
                stdin=subprocess.PIPE, stdout=log, stderr=log, pass_fds=[write], text=True,
            )  # fmt: skip
        os.close(write)
        self._results = os.fdopen(read)
        self.steps: list[dict[str, Any]] = []
        self.before_mb = float("nan")

    def step(self) -> None:
        """Make one step and keep what it took."""
        assert self.process.stdin is not None
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        if not self.steps:
            self.before_mb = self._result()["before_mb"]
        self.steps.append(self._result())

    def _result(self) -> dict[str, Any]:
        line = self._results.readline()
        if not line:
            self.process.wait()
            raise SystemExit(f"a trainer ended early:\n{self.log.read_text()[-3000:]}")
        return dict(json.loads(line))

    def cpu_s(self, phase: str) -> float:
        """Median over the steps."""
        return median(step["cpu_s"].get(phase, 0.0) for step in self.steps)

    def peak_mb(self, phase: str) -> float:
        """The largest of all steps."""
        return max(step["peak_mb"].get(phase, 0.0) for step in self.steps)


@contextmanager
def _sides(folder: str) -> Iterator[tuple[_Side, _Side]]:
    sides = _Side("ours", folder), _Side("trl", folder)
    try:
        yield sides
    finally:
        for side in sides:
            side.process.kill()
            side.process.wait()


def _compare(folder: str, vocabulary: int, count: int) -> None:
    with _sides(folder) as (ours, trl):
        for _ in range(count):
            ours.step()
            trl.step()
    norms = [side.steps[0]["gradient_norm"] for side in (ours, trl)]
    if abs(norms[0] - norms[1]) > SAME_WORK * norms[1]:
        raise SystemExit(f"gradient norms {norms}: the trainers did not do the same work")
    print(
        f"\ngrpo, vocabulary {vocabulary:,}, {count} steps each, load {os.getloadavg()[0]:.1f}"
        f", gradient norm {norms[0]:.6f} and {norms[1]:.6f}"
    )
    print(f"{'':24}{'CPU s a step':^26}{'peak MB':^26}")
    heads = f"{'ours':>8}{'TRL ' + version('trl'):>11}{'ratio':>7}{'ours':>8}{'TRL':>9}"
    print(f"{'':24}{heads}")
    for phase in PHASES:
        _row(phase, [s.cpu_s(phase) for s in (ours, trl)], [s.peak_mb(phase) for s in (ours, trl)])
    whole = [sum(s.cpu_s(phase) for phase in PHASES) for s in (ours, trl)]
    peaks = [max(s.peak_mb(phase) for phase in PHASES) for s in (ours, trl)]
    _row(
        "training only", [w - s.cpu_s("sampling") for w, s in zip(whole, (ours, trl), strict=True)]
    )
    _row("whole step", whole, peaks)
    _row("before the first step", None, [ours.before_mb, trl.before_mb])
    tokens = GROUPS * MEMBERS * TOKENS
    print(f"{'tokens per CPU s':24}{tokens / whole[0]:8.0f}{tokens / whole[1]:11.0f}", flush=True)


def _row(name: str, cpu_s: Sequence[float] | None, peak_mb: Sequence[float] | None = None) -> None:
    cells = " " * 26
    if cpu_s is not None:
        cells = f"{cpu_s[0]:8.2f}{cpu_s[1]:11.2f}{cpu_s[0] / max(cpu_s[1], 1e-9):7.2f}"
    if peak_mb is not None:
        cells += f"{peak_mb[0]:8.0f}{peak_mb[1]:9.0f}"
    print(f"{name:24}{cells}")


if __name__ == "__main__":
    sizes = [int(name.replace(",", "")) for name in sys.argv[1:] if name != "--short"]
    measure_grpo("--short" in sys.argv, sizes or tuple(STEPS))
