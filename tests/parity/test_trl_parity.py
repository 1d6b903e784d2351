"""Every preset that TRL has, against TRL's own loss on the same tensors: loss and gradient, fp64.

TRL's trainer is not built: its loss is called on plain tensors, with the attributes that it reads.
Ours is given the normaliser of the whole optimiser step, TRL's the number of micro-batches in it.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from aflow_grpo.grpo.advantages import group_advantages
from aflow_grpo.grpo.losses import LossInputs, grpo_loss, loss_normaliser
from aflow_grpo.grpo.objective import Objective
from aflow_grpo.grpo.presets import LossSettings, resolve


def _version() -> str:
    try:
        return importlib.metadata.version("trl")
    except importlib.metadata.PackageNotFoundError:
        return "none"


pytestmark = pytest.mark.skipif(
    not _version().startswith("1.16."),
    reason=f"needs TRL 1.16, the reference (pip install -e .[parity]); found: {_version()}",
)

TOLERANCE = 1e-10
ROWS, WIDTH, LONGEST = 8, 9, 12

TRL_SETTINGS: dict[str, dict[str, Any]] = {
    "grpo": {"loss": "grpo", "level": "token", "low": 0.2, "high": 0.2, "spread": 0.3},
    "dr_grpo": {"loss": "dr_grpo", "level": "token", "low": 0.2, "high": 0.2, "spread": 0.3},
    "dapo": {"loss": "dapo", "level": "token", "low": 0.2, "high": 0.28, "spread": 0.3},
    "gspo": {"loss": "grpo", "level": "sequence", "low": 3e-4, "high": 4e-4, "spread": 1e-3},
    "seed": {"loss": "grpo", "level": "token", "low": 0.2, "high": 0.2, "spread": 0.3},
}
"""The presets that TRL has, in TRL's words; `spread` is that of the log-ratios, so that both ends
of the clip are met. TRL's bnpo, a token mean per micro-batch, has no preset: it depends on the
split."""


@pytest.fixture(scope="module")
def trl() -> Iterator[Any]:
    """TRL's trainers; imported here, since it takes seconds and warns of much."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl import GRPOTrainer, RLOOTrainer
        from trl.trainer.utils import nanstd

        yield SimpleNamespace(grpo=GRPOTrainer, rloo=RLOOTrainer, nanstd=nanstd)


class _Alone:
    """One process, as accelerate describes it."""

    num_processes = 1
    sync_gradients = True

    def reduce(self, values: Tensor, reduction: str) -> Tensor:
        return values

    gather = gather_for_metrics = staticmethod(lambda values: values)


def without_model(cls: type, **attributes: Any) -> Any:
    trainer = cls.__new__(cls)
    shared = {
        "accelerator": _Alone(), "model": SimpleNamespace(training=True), "aux_loss_enabled": False,
        "_metrics": {"train": defaultdict(list)},
    }  # fmt: skip
    trainer.__dict__.update(shared | attributes)
    return trainer


def tensors(seed: int, spread: float) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def noise(scale: float) -> Tensor:
        return scale * torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64)

    lengths = torch.randint(1, WIDTH + 1, (ROWS, 1), generator=generator)
    lengths[0] = WIDTH
    logprobs = -noise(1.0).abs()
    old = logprobs - noise(spread)
    return {
        "logprobs": logprobs, "old": old, "ref": logprobs + noise(0.5), "sampler": old - noise(0.4),
        "mask": torch.arange(WIDTH) < lengths, "advantages": noise(1.0)[:, 0],
    }  # fmt: skip


def theirs(
    trl: Any, preset: str, t: dict[str, Tensor], objective: Objective, micro: int, with_old: bool
) -> tuple[float, Tensor]:
    """TRL's loss and gradient over `micro` micro-batches of one optimiser step."""
    say = TRL_SETTINGS[preset]
    loss = objective.loss
    leaf = t["logprobs"].clone().requires_grad_()
    corrected = loss.correction != "off"
    trainer = without_model(
        trl.grpo,
        loss_type=say["loss"], importance_sampling_level=say["level"], epsilon_low=say["low"],
        epsilon_high=say["high"], beta=loss.kl_coef, top_entropy_quantile=1.0,
        off_policy_mask_threshold=None, use_vllm=corrected, max_completion_length=LONGEST,
        vllm_importance_sampling_correction=corrected, _entropy_bonus_enabled=False,
        current_gradient_accumulation_steps=micro,
        args=SimpleNamespace(
            use_bias_correction_kl=loss.kl_gradient == "ratio", delta=None,
            steps_per_generation=micro,
        ),
    )  # fmt: skip
    old = t["old"] if with_old else t["logprobs"]
    difference = (old - t["sampler"]) * t["mask"]
    if loss.correction == "sequence":
        difference = difference.sum(1, keepdim=True)
    total = torch.zeros((), dtype=torch.float64)
    for part in torch.arange(ROWS).chunk(micro):
        found = leaf[part]
        trainer._get_per_token_logps_and_entropies = lambda *a, f=found, **k: (f, f.detach(), None)
        empty = torch.zeros(len(part), 1, dtype=torch.long)
        inputs = {
            "prompt_ids": empty, "prompt_mask": empty, "completion_mask": t["mask"][part].long(),
            "completion_ids": torch.zeros(len(part), WIDTH, dtype=torch.long),
            "advantages": t["advantages"][part], "ref_per_token_logps": t["ref"][part],
            "num_items_in_batch": t["mask"].sum(), "old_per_token_logps": t["old"][part],
            "importance_sampling_ratio": difference.exp().clamp(max=loss.correction_cap)[part],
        }  # fmt: skip
        if not with_old:
            del inputs["old_per_token_logps"]
        total = total + trainer._compute_loss(None, inputs)
    total.backward()
    assert leaf.grad is not None
    return total.item(), leaf.grad


def ours(
    t: dict[str, Tensor], objective: Objective, micro: int, with_old: bool
) -> tuple[float, Tensor]:
    leaf = t["logprobs"].clone().requires_grad_()
    normaliser = loss_normaliser(t["mask"].sum(1).tolist(), objective.loss)
    total = 0.0
    for part in torch.arange(ROWS).chunk(micro):
        inputs = LossInputs(
            logprobs_BT=leaf[part],
            old_logprobs_BT=(t["old"] if with_old else t["logprobs"])[part],
            advantages_B=t["advantages"][part],
            mask_BT=t["mask"][part],
            ref_logprobs_BT=t["ref"][part],
            sampler_logprobs_BT=t["sampler"][part],
        )
        loss = grpo_loss(inputs, objective.loss, normaliser=normaliser).loss
        loss.backward()
        total += loss.item()
    assert leaf.grad is not None
    return total, leaf.grad


@pytest.mark.parametrize("preset", TRL_SETTINGS)
def test_loss_and_gradient_are_those_of_trl(trl: Any, preset: str) -> None:
    largest = 0.0
    kls = [(0.0, "classic"), (0.04, "classic"), (0.04, "ratio")]
    corrections = ["off", "token", "sequence"]
    for kl, correction, with_old, micro, seed in product(
        kls, corrections, [True, False], [1, 2, 4], [0, 1]
    ):
        settings = LossSettings(
            preset, kl_coef=kl[0], kl_gradient=kl[1], correction=correction  # type: ignore[arg-type]
        )  # fmt: skip
        objective = resolve(settings, max_length=LONGEST)
        t = tensors(seed, TRL_SETTINGS[preset]["spread"])
        expected, expected_gradient = theirs(trl, preset, t, objective, micro, with_old)
        found, gradient = ours(t, objective, micro, with_old)
        assert expected_gradient.abs().max() > 1e-3
        difference = max(abs(found - expected), (gradient - expected_gradient).abs().max().item())
        largest = max(largest, difference)
        assert difference <= TOLERANCE, (kl, correction, with_old, micro, seed)
    print(f"{preset}: largest difference {largest:.1e}")


def test_the_spreads_meet_both_ends_of_the_clip() -> None:
    for preset, say in TRL_SETTINGS.items():
        t = tensors(0, say["spread"])
        log_ratio = torch.where(t["mask"], t["logprobs"] - t["old"], 0)
        if say["level"] == "sequence":
            log_ratio = log_ratio.sum(1, keepdim=True) / t["mask"].sum(1, keepdim=True)
        ratio, sign = log_ratio.exp(), t["advantages"].unsqueeze(1)
        assert ((ratio > 1 + say["high"]) & (sign > 0)).any(), preset
        assert ((ratio < 1 - say["low"]) & (sign < 0)).any(), preset


def test_rloo_has_the_gradient_of_trl_on_policy(trl: Any) -> None:
    t = tensors(3, 0.0)
    leaf = t["logprobs"].clone().requires_grad_()
    trainer = without_model(trl.rloo, epsilon_low=0.2, epsilon_high=0.2)
    trainer._get_per_token_logps_and_entropies = lambda *a, **k: (leaf, leaf.detach(), None)
    empty = torch.zeros(ROWS, 1, dtype=torch.long)
    inputs = {
        "prompt_ids": empty, "prompt_mask": empty, "completion_mask": t["mask"].long(),
        "completion_ids": torch.zeros(ROWS, WIDTH, dtype=torch.long),
        "advantages": t["advantages"], "old_logps": (t["logprobs"] * t["mask"]).sum(1),
    }  # fmt: skip
    trainer._compute_loss(None, inputs).backward()
    objective = resolve(LossSettings("rloo", correction="off"))
    _, gradient = ours(t, objective, micro=2, with_old=False)
    assert leaf.grad is not None and leaf.grad.abs().max() > 1e-2
    assert (gradient - leaf.grad).abs().max() <= TOLERANCE


@pytest.mark.parametrize("scale", ["none", "group_std", "batch_std"])
def test_advantages_are_those_of_trls_statistics(trl: Any, scale: Any) -> None:
    # TRL computes them amid its generation; its statistics, which skip what has no reward, are
    # functions of their own.
    generator = torch.Generator().manual_seed(0)
    rewards_GK = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    rewards_GK[1, 2] = rewards_GK[3, :2] = torch.nan
    expected_GK = rewards_GK - rewards_GK.nanmean(1, keepdim=True)
    if scale != "none":
        spread = trl.nanstd(rewards_GK, dim=1).unsqueeze(1)
        if scale == "batch_std":
            spread = trl.nanstd(rewards_GK)
        expected_GK = expected_GK / (spread + 1e-4)
    objective = resolve(LossSettings(advantage_scale=scale))
    rewards_B = rewards_GK.flatten()
    groups_B = torch.arange(5).repeat_interleave(4)
    found_B = group_advantages(rewards_B, groups_B, ~rewards_B.isnan(), objective.advantage)
    # Its correction for ddof 1 is a ratio of counts, in single precision.
    tolerance = TOLERANCE if scale == "none" else 1e-7
    assert (found_B - expected_GK.flatten().nan_to_num()).abs().max() <= tolerance
