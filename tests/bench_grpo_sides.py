"""The two trainers that `bench_grpo` compares, each in a process of its own, one step at a time.

`python -m tests.bench_grpo_sides SIDE FOLDER FD`: for every line on standard input it makes one
training step on the work that the folder's vocabulary defines, and writes what that took to the
file descriptor as a line of JSON. Phases are timed by wrapping the methods that do them; everything
else of a step (optimiser, clipping, logging) is the rest.
"""

from __future__ import annotations

import gc
import json
import os
import random
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

__all__ = ["GROUPS", "MEMBERS", "PHASES", "RANK", "TARGETS", "TOKENS", "Work"]

GROUPS, MEMBERS, PROMPT, TOKENS = 4, 8, 64, 128
RANK, TARGETS, KL_COEF, LEARNING_RATE = 64, ["q_proj", "k_proj", "v_proj", "o_proj"], 0.04, 1e-6
PHASES = ("sampling", "reference", "forward", "backward", "rest")


@dataclass
class Step:
    """What one step took."""

    cpu_s: dict[str, float] = field(default_factory=dict)
    """CPU seconds of this process by phase."""
    peak_mb: dict[str, float] = field(default_factory=dict)
    """Largest resident memory by phase; of the whole process so far where the system keeps no
    other."""
    gradient_norm: float = 0.0
    """Of all adapters, before clipping."""


@dataclass(frozen=True)
class Work:
    """The same rows for both trainers."""

    prompts_P: list[list[int]]
    completions_B: list[list[int]]
    """Problem-major: axis B is P x G."""
    rewards_B: list[float]

    @classmethod
    def of(cls, vocabulary: int, prompt: int = PROMPT) -> Work:
        """Random rows that every process makes alike."""
        dice = random.Random(vocabulary)

        def ids(count: int) -> list[int]:
            return [dice.randrange(vocabulary) for _ in range(count)]

        rows = GROUPS * MEMBERS
        return cls(
            [ids(prompt) for _ in range(GROUPS)],
            [ids(TOKENS) for _ in range(rows)],
            [dice.uniform(-1, 1) for _ in range(rows)],
        )


class Meter:
    """CPU seconds and peak memory of the phases of a step."""

    def __init__(self) -> None:
        self.step = Step()
        self._started = time.process_time()

    def begin(self) -> None:
        """A new step."""
        gc.collect()
        self.step = Step()
        _forget_peak()
        self._started = time.process_time()

    def end(self) -> Step:
        """Whatever no phase claimed is the rest."""
        total = time.process_time() - self._started
        self.step.cpu_s["rest"] = total - sum(self.step.cpu_s.values())
        self.step.peak_mb["rest"] = peak_mb()
        return self.step

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what happens within it."""
        _forget_peak()
        started = time.process_time()
        yield
        cpu_s, peaks = self.step.cpu_s, self.step.peak_mb
        cpu_s[name] = cpu_s.get(name, 0.0) + time.process_time() - started
        peaks[name] = max(peaks.get(name, 0.0), peak_mb())

    def watch(self, owner: Any, method: str, name: str | Callable[[], str]) -> None:
        """Count every call of `owner.method`."""
        original = getattr(owner, method)

        def counted(*args: Any, **kwargs: Any) -> Any:
            with self.phase(name if isinstance(name, str) else name()):
                return original(*args, **kwargs)

        # Past `nn.Module.__setattr__`, which would refuse nothing but be slow.
        vars(owner)[method] = counted


def peak_mb() -> float:
    """Largest resident memory since `_forget_peak`, or ever where the system cannot forget."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _forget_peak() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def even_adapters(model: nn.Module) -> None:
    """The same adapters in both processes, and none that is zero, so that the KL is not either."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if "lora_" in name:
                parameter.normal_(0, 0.02, generator=generator)


def vocabulary_of(folder: str) -> int:
    """Of the model in this folder."""
    return int(json.loads((Path(folder) / "config.json").read_text())["vocab_size"])


def ours(folder: str, meter: Meter, steps: Iterator[None], done: Callable[[Step], None]) -> None:
    """`Policy` and `update_policy` under a Lightning trainer."""
    import lightning as L
    from torch.utils.data import DataLoader

    from aflow_grpo.grpo.presets import LossSettings
    from aflow_grpo.policy import LoraSettings, Policy, SamplingSettings
    from aflow_grpo.policy.prompting import EncodedPrompt
    from aflow_grpo.training.module import GRPOModule
    from aflow_grpo.training.settings import EvaluationSettings, GRPOSettings, OptimizerSettings
    from aflow_grpo.training.update import update_policy

    work = Work.of(vocabulary_of(folder))
    rollouts_B = _rollouts(work)
    prompts_B = [EncodedPrompt(rollout.completion.prompt_ids) for rollout in rollouts_B]
    policy = Policy(
        folder,
        lora=LoraSettings(rank=RANK, alpha=RANK, target_modules=TARGETS),
        sampling=SamplingSettings(max_new_tokens=TOKENS, max_prompt_tokens=PROMPT),
        threads=1,
    )

    class Module(GRPOModule):
        """Samples as a step does, then trains on the work's rows."""

        def on_train_start(self) -> None:
            even_adapters(self.policy)

        def training_step(self, batch: Any, batch_idx: int) -> None:
            next(steps)
            self.policy.eval()
            with meter.phase("sampling"):
                policy.sample(prompts_B, range(len(prompts_B)))
            self.policy.train()
            report = update_policy(self, rollouts_B)
            self.iteration += 1
            meter.step.gradient_norm = report.metrics["train/grad_norm"]
            done(meter.end())

    loss = LossSettings(preset="grpo", kl_coef=KL_COEF)
    module = Module(
        policy,
        grpo=GRPOSettings(loss=loss, group_size=MEMBERS, micro_batch_size=GROUPS * MEMBERS),
        optimizer=OptimizerSettings(learning_rate=LEARNING_RATE, warmup_steps=0),
        evaluation=EvaluationSettings(at_start=False, at_end=False),
    )
    meter.watch(policy, "score", "forward")
    meter.watch(policy, "reference_logprobs", "reference")
    meter.watch(module, "manual_backward", "backward")
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(range(10**6), batch_size=1))  # type: ignore[arg-type]


def _rollouts(work: Work) -> list[Any]:
    """The work's rows as what a step's executions leave behind."""
    from aflow_grpo.records import (
        Completion,
        Execution,
        Problem,
        RewardBreakdown,
        Rollout,
        Score,
        Status,
    )

    return [
        Rollout(
            problem=Problem(f"math/{b // MEMBERS}", "bench", "math", "", ""),
            completion=Completion(
                "", tuple(work.prompts_P[b // MEMBERS]), tuple(ids), (-1.0,) * TOKENS, True
            ),
            execution=Execution(Status.OK),
            score=Score(0.0, False),
            reward=RewardBreakdown(0, 0, 0, 0, 0, 0, total=work.rewards_B[b]),
            group=b // MEMBERS,
            member=b % MEMBERS,
        )
        for b, ids in enumerate(work.completions_B)
    ]


def trl(folder: str, meter: Meter, steps: Iterator[None], done: Callable[[Step], None]) -> None:
    """TRL's GRPOTrainer, fed the same rows after it has sampled rows of its own."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    work = Work.of(vocabulary_of(folder))
    texts_P = [" ".join(f"t{i}" for i in prompt) for prompt in work.prompts_P]
    rewards = dict(zip(map(tuple, work.completions_B), work.rewards_B, strict=True))

    def given_rows(prompts: list[str], trainer: Any) -> dict[str, Any]:
        prompt_ids, _, fields = trainer._tokenize_prompts(prompts)
        with meter.phase("sampling"):
            trainer._generate_single_turn(prompt_ids, None, fields, MEMBERS)
        left_P = [iter(work.completions_B[p * MEMBERS : (p + 1) * MEMBERS]) for p in range(GROUPS)]
        completion_ids = [next(left_P[texts_P.index(text)]) for text in prompts]
        return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "logprobs": None}

    class OneByOne(TrainerCallback):
        """Waits before each step and reports after it."""

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            next(steps)

        def on_log(self, *args: Any, logs: dict[str, float], **kwargs: Any) -> None:
            if "grad_norm" in logs:
                meter.step.gradient_norm = float(logs["grad_norm"])
                done(meter.end())

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    trainer = GRPOTrainer(
        model=model,
        processing_class=PreTrainedTokenizerFast.from_pretrained(folder, padding_side="left"),
        reward_funcs=lambda completion_ids, **_: [rewards[tuple(ids)] for ids in completion_ids],
        train_dataset=Dataset.from_dict({"prompt": texts_P}),
        rollout_func=given_rows,
        callbacks=[OneByOne()],
        peft_config=LoraConfig(
            r=RANK, lora_alpha=RANK, target_modules=TARGETS, task_type="CAUSAL_LM"
        ),
        args=GRPOConfig(
            output_dir=str(Path(folder) / "trl"), per_device_train_batch_size=GROUPS * MEMBERS,
            num_generations=MEMBERS, max_completion_length=TOKENS, beta=KL_COEF, loss_type="grpo",
            use_bias_correction_kl=False, learning_rate=LEARNING_RATE, bf16=False, use_cpu=True,
            gradient_checkpointing=False, max_steps=10**6, logging_steps=1, report_to="none",
            save_strategy="no", disable_tqdm=True,
        ),
    )  # fmt: skip
    even_adapters(trainer.model)

    def scoring() -> str:
        return "forward" if torch.is_grad_enabled() else "reference"

    meter.watch(trainer, "_get_per_token_logps_and_entropies", scoring)
    meter.watch(trainer.accelerator, "backward", "backward")
    trainer.train()


def main(side: str, folder: str, descriptor: str) -> None:
    """Step whenever a line comes; end with the input."""
    warnings.simplefilter("ignore")
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    torch.set_num_threads(1)
    meter = Meter()
    with open(int(descriptor), "w", encoding="utf-8") as out:

        def tell(values: dict[str, Any]) -> None:
            print(json.dumps(values), file=out, flush=True)

        def wanted() -> Iterator[None]:
            tell({"before_mb": peak_mb()})
            while sys.stdin.readline():
                meter.begin()
                yield
            os._exit(0)  # neither trainer is of further use

        run = {"ours": ours, "trl": trl}[side]
        run(folder, meter, wanted(), lambda step: tell(vars(step)))


if __name__ == "__main__":
    main(*sys.argv[1:])
