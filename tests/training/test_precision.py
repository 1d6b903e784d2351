"""Every kind of weights and arithmetic really trains: a fit of two updates on a random Qwen2."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# Set before transformers is imported: otherwise the import looks for kernels on the hub.
os.environ["HF_HUB_OFFLINE"] = "1"

import lightning as L
import pytest
import torch
from made_rollouts import rollout
from random_models import byte_tokenizer, random_qwen2
from torch.utils.data import DataLoader

from aflow_grpo.policy import LoraSettings, Policy, SamplingSettings
from aflow_grpo.policy.prompting import EncodedPrompt
from aflow_grpo.records import Completion, Rollout
from aflow_grpo.training.module import GRPOModule
from aflow_grpo.training.settings import EvaluationSettings, GRPOSettings, OptimizerSettings
from aflow_grpo.training.update import update_policy

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning"),
]

PROMPTS = [EncodedPrompt((5, 6, 7))] * 4 + [EncodedPrompt((9, 10, 11, 12))] * 4
LORA = LoraSettings(rank=4, alpha=8)
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "full": ("32-true", {}),
    "full, bf16-mixed": ("bf16-mixed", {}),
    "full, checkpointing": ("32-true", {"gradient_checkpointing": True}),
    "lora": ("32-true", {"lora": LORA}),
    "lora on bf16": ("32-true", {"lora": LORA, "dtype": "bfloat16"}),
    "lora, bf16-mixed, checkpointing": (
        "bf16-mixed",
        {"lora": LORA, "gradient_checkpointing": True},
    ),
    "lora on nf4": ("32-true", {"lora": LORA, "quantization": "nf4"}),
    "lora on nf4 and bf16, checkpointing": (
        "32-true",
        {"lora": LORA, "quantization": "nf4", "dtype": "bfloat16", "gradient_checkpointing": True},
    ),
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("random-qwen2")
    random_qwen2().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)


class _Sampling(GRPOModule):
    """Two minibatches an iteration on what it samples; odd members are better than even ones."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(
            policy,
            GRPOSettings(minibatches=2),
            OptimizerSettings(learning_rate=1e-3, warmup_steps=0, final_fraction=1.0),
            EvaluationSettings(at_start=False, at_end=False),
        )
        self.first: list[Rollout] = []
        self.before = self.ratio_max = 0.0
        self.initial: dict[str, torch.Tensor] = {}

    def configure_model(self) -> None:
        self.policy.setup()
        self.initial = {name: p.detach().clone() for name, p in self.policy.named_parameters()}

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.policy.eval()
        rollouts = rewarded(self.policy.sample(PROMPTS, range(8)))  # type: ignore[operator]
        if not self.first:
            self.first, self.before = rollouts, better_by(self.policy, rollouts)
        self.policy.train()
        report = update_policy(self, rollouts)
        self.ratio_max = report.metrics["train/ratio_max"]
        self.iteration += 1


def rewarded(completions: Sequence[Completion]) -> list[Rollout]:
    return [
        rollout(total=10.0 * (b % 2), group=b // 4, member=b % 4, completion=completion)
        for b, completion in enumerate(completions)
    ]


@torch.no_grad()
def better_by(policy: Any, rollouts: Sequence[Rollout]) -> float:
    """Mean log-probability of the better completions' tokens, less that of the others', in nats."""
    scored = policy.score([r.completion for r in rollouts])
    mean_B = scored.logprobs_BT.sum(1) / scored.mask_BT.sum(1)
    return float(mean_B[1::2].mean() - mean_B[::2].mean())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_weights_and_arithmetic_trains(kind: str, model_folder: str) -> None:
    precision, changes = KINDS[kind]
    sampling = SamplingSettings(max_new_tokens=12, max_prompt_tokens=16)
    module = _Sampling(Policy(model_folder, sampling=sampling, **changes))
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=Path("unused"),
        precision=precision,  # type: ignore[arg-type]
    )  # fmt: skip
    trainer.fit(module, DataLoader(range(2)))  # type: ignore[arg-type]
    assert trainer.global_step == 4
    assert module.ratio_max > 1.001, "the second minibatch is scored with the stepped weights"
    for name, parameter in module.policy.named_parameters():
        moved = not torch.equal(parameter, module.initial[name])
        assert moved == parameter.requires_grad, name
        assert parameter.dtype is torch.float32 or not parameter.requires_grad, name
        assert not parameter.is_floating_point() or parameter.isfinite().all(), name
    module.policy.eval()
    assert better_by(module.policy, module.first) > module.before + 0.05


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_bfloat16_gradients_point_where_those_of_float32_do(
    model_folder: str, quantization: Any
) -> None:
    gradients = []
    for dtype in ("float32", "bfloat16"):
        policy = Policy(model_folder, lora=LORA, dtype=dtype, quantization=quantization)  # type: ignore[arg-type]
        policy.sampling = SamplingSettings(max_new_tokens=12, max_prompt_tokens=16)
        policy.setup()
        completions = [Completion("", (5, 6, 7), (8, 9, 10 + b, 40), (), True) for b in range(8)]
        policy.score(completions).logprobs_BT.sum().backward()
        gradients.append(
            torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])
        )
    assert torch.cosine_similarity(*gradients, dim=0) > 0.98
