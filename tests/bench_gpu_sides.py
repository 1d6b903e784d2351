"""The two trainers that `bench_gpu` compares, each in a process of its own.

`python -m tests.bench_gpu_sides SIDE FOLDER RESULT`: makes the steps of the work that
`FOLDER/work.json` describes and writes what each took to the file RESULT as JSON. A step samples
rows of full length, then trains on given rows, the same for both trainers.
"""

from __future__ import annotations

import gc
import json
import random
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.bench_grpo_sides import peak_mb

__all__ = ["Step", "Work"]

KL_COEF, LEARNING_RATE = 0.04, 1e-6


@dataclass(frozen=True)
class Work:
    """What both trainers do."""

    vocabulary: int
    device: str
    """``cuda`` or ``cpu``."""
    weights: str
    """``bf16`` or ``nf4``: of the frozen base model."""
    rank: int = 64
    groups: int = 8
    members: int = 8
    prompt: int = 512
    """Tokens of each prompt."""
    tokens: int = 512
    """Of each completion."""
    micro_batch: int = 8
    """Rows per forward and backward pass."""
    steps: int = 3
    """The first one is not counted: it warms up."""

    @property
    def rows(self) -> int:
        """Completions of a step."""
        return self.groups * self.members

    def given(self) -> tuple[list[list[int]], list[list[int]], list[float]]:
        """Prompts, completions (problem-major) and rewards that every process makes alike."""
        dice = random.Random(self.vocabulary)

        def ids(count: int) -> list[int]:
            return [dice.randrange(self.vocabulary) for _ in range(count)]

        prompts_P = [ids(self.prompt) for _ in range(self.groups)]
        completions_B = [ids(self.tokens) for _ in range(self.rows)]
        return prompts_P, completions_B, [dice.uniform(-1, 1) for _ in range(self.rows)]


@dataclass
class Step:
    """What one step took."""

    sampling_s: float = 0.0
    training_s: float = 0.0
    """Reference, forward, backward, optimiser."""
    sampling_mb: float = 0.0
    """Most memory in use while sampling: of tensors on the GPU; on a CPU, resident."""
    training_mb: float = 0.0
    gradient_norm: float = 0.0
    """Of the adapters, before clipping."""


@dataclass
class Meter:
    """Seconds and memory of the halves of each step."""

    device: str
    steps: list[Step] = field(default_factory=list)
    _began: float = 0.0

    def begin(self) -> None:
        """A new step begins."""
        self.steps.append(Step())
        self._began = self._now()

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """What happens within it is not training."""
        began = self._now()
        yield
        self.steps[-1].sampling_s += self._now() - began
        self.steps[-1].sampling_mb = self._peak_mb()

    def end(self, gradient_norm: float) -> None:
        """The step is over."""
        step = self.steps[-1]
        step.training_s = self._now() - self._began - step.sampling_s
        step.training_mb = self._peak_mb()
        step.gradient_norm = gradient_norm

    def _now(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def _peak_mb(self) -> float:
        """Since it was last asked, on a GPU; on a CPU since the process began."""
        if self.device != "cuda":
            return peak_mb()
        peak = torch.cuda.max_memory_allocated() / 2**20
        gc.collect()
        torch.cuda.reset_peak_memory_stats()
        return peak


def even_adapters(model: nn.Module) -> None:
    """The same adapters in both processes, and none that is zero, so that the KL is not either."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if "lora_" in name:
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))


def ours(folder: str, work: Work, meter: Meter) -> None:
    """`Policy` and `update_policy` under a Lightning trainer."""
    import lightning as L
    from torch.utils.data import DataLoader

    from aflow_grpo.grpo.presets import LossSettings
    from aflow_grpo.policy import LoraSettings, Policy, SamplingSettings
    from aflow_grpo.policy.prompting import EncodedPrompt
    from aflow_grpo.records import (
        Completion,
        Execution,
        Problem,
        RewardBreakdown,
        Rollout,
        Score,
        Status,
    )
    from aflow_grpo.training.module import GRPOModule
    from aflow_grpo.training.settings import EvaluationSettings, GRPOSettings, OptimizerSettings
    from aflow_grpo.training.update import update_policy

    prompts_P, completions_B, rewards_B = work.given()
    prompts_B = [EncodedPrompt(tuple(p)) for p in prompts_P for _ in range(work.members)]
    rollouts_B = [
        Rollout(
            problem=Problem(f"math/{b // work.members}", "bench", "math", "", ""),
            completion=Completion("", prompts_B[b].ids, tuple(ids), (-1.0,) * len(ids), True),
            execution=Execution(Status.OK),
            score=Score(0.0, False),
            reward=RewardBreakdown(0, 0, 0, 0, 0, 0, total=rewards_B[b]),
            group=b // work.members,
            member=b % work.members,
        )
        for b, ids in enumerate(completions_B)
    ]

    class Module(GRPOModule):
        """Samples as a step does, then trains on the work's rows."""

        def configure_model(self) -> None:
            self.policy.setup()
            even_adapters(self.policy)

        def training_step(self, batch: Any, batch_idx: int) -> None:
            meter.begin()
            self.policy.eval()
            with meter.sampling():
                self.policy.sample(prompts_B, range(work.rows))  # type: ignore[operator]
            self.policy.train()
            report = update_policy(self, rollouts_B)
            self.iteration += 1
            meter.end(report.metrics["train/grad_norm"])

    policy = Policy(
        folder,
        lora=LoraSettings(rank=work.rank, alpha=work.rank),
        dtype="bfloat16",
        quantization="nf4" if work.weights == "nf4" else "none",
        gradient_checkpointing=True,
        sampling=SamplingSettings(max_new_tokens=work.tokens, max_prompt_tokens=work.prompt),
    )
    module = Module(
        policy,
        GRPOSettings(
            loss=LossSettings(preset="grpo", kl_coef=KL_COEF, correction="off"),
            group_size=work.members,
            micro_batch_size=work.micro_batch,
        ),
        OptimizerSettings(learning_rate=LEARNING_RATE, warmup_steps=0),
        EvaluationSettings(at_start=False, at_end=False),
    )
    trainer = L.Trainer(
        max_epochs=1, accelerator=work.device, devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(module, DataLoader(range(work.steps), batch_size=1))  # type: ignore[arg-type]


def trl(folder: str, work: Work, meter: Meter) -> None:
    """TRL's GRPOTrainer, fed the same rows after it has sampled rows of its own."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import (
        AutoModelForCausalLM,
        BitsAndBytesConfig,
        PreTrainedTokenizerFast,
        TrainerCallback,
    )
    from trl import GRPOConfig, GRPOTrainer

    prompts_P, completions_B, rewards_B = work.given()
    texts_P = [" ".join(f"t{i}" for i in prompt) for prompt in prompts_P]
    rewards = dict(zip(map(tuple, completions_B), rewards_B, strict=True))
    members = work.members

    def given_rows(prompts: list[str], trainer: Any) -> dict[str, Any]:
        prompt_ids, _, fields = trainer._tokenize_prompts(prompts)
        with meter.sampling():
            trainer._generate_single_turn(prompt_ids, None, fields, members)
        left_P = [iter(completions_B[p * members : (p + 1) * members]) for p in range(work.groups)]
        completion_ids = [next(left_P[texts_P.index(text)]) for text in prompts]
        return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "logprobs": None}

    class Steps(TrainerCallback):
        """Where a step begins and ends."""

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            meter.begin()

        def on_log(self, *args: Any, logs: dict[str, float], **kwargs: Any) -> None:
            if "grad_norm" in logs:
                meter.end(float(logs["grad_norm"]))

    options: dict[str, Any] = {}
    if work.weights == "nf4":
        options["quantization_config"] = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, **options),
        processing_class=PreTrainedTokenizerFast.from_pretrained(folder, padding_side="left"),
        reward_funcs=lambda completion_ids, **_: [rewards[tuple(ids)] for ids in completion_ids],
        train_dataset=Dataset.from_dict({"prompt": texts_P}),
        rollout_func=given_rows,
        callbacks=[Steps()],
        peft_config=LoraConfig(
            r=work.rank, lora_alpha=work.rank, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        args=GRPOConfig(
            output_dir=str(Path(folder) / "trl"), per_device_train_batch_size=work.micro_batch,
            gradient_accumulation_steps=work.rows // work.micro_batch, num_generations=members,
            max_completion_length=work.tokens, beta=KL_COEF, loss_type="grpo",
            use_bias_correction_kl=False, learning_rate=LEARNING_RATE, bf16=True,
            use_cpu=work.device == "cpu", gradient_checkpointing=True, max_steps=work.steps,
            logging_steps=1, report_to="none", save_strategy="no", disable_tqdm=True,
        ),
    )  # fmt: skip
    even_adapters(trainer.model)
    trainer.train()


def main(side: str, folder: str, result: str) -> None:
    """Make the steps of one trainer and write down what they took."""
    warnings.simplefilter("ignore")
    work = Work(**json.loads((Path(folder) / "work.json").read_text()))
    meter = Meter(work.device)
    {"ours": ours, "trl": trl}[side](folder, work, meter)
    Path(result).write_text(json.dumps([asdict(step) for step in meter.steps]))


if __name__ == "__main__":
    main(*sys.argv[1:])
