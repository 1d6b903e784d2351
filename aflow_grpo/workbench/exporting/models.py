"""`export_adapter` and `export_merged`: a trained policy as a folder for peft or transformers.

A folder holds weights, tokenizer, the settings under which the policy writes (`generation_config`:
greedy, its own end tokens and length), a model card, and `aflow_grpo.json`. None of them names a
path of this machine. Not here: the card's words (`card`), how adapters are merged (`merging`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from aflow_grpo.errors import ConfigError
from aflow_grpo.policy.adapters import write_adapter
from aflow_grpo.policy.loading import TINY, causal_parts
from aflow_grpo.policy.policy import Policy
from aflow_grpo.workbench.exporting.card import Card, Kind, model_card, prompt_templates
from aflow_grpo.workbench.exporting.facts import run_facts
from aflow_grpo.workbench.exporting.merging import Dtype, plain_model
from aflow_grpo.workbench.exporting.outputs import FACTS, filled_folder, require_free
from aflow_grpo.workbench.policies import LoadedPolicy, load_policy

__all__ = ["Exported", "export_adapter", "export_merged"]

_TINY_BASE = "tiny-policy"
"""What cards call the shipped policy's folder."""


@dataclass(frozen=True)
class Exported:
    """What has been written."""

    folder: Path
    kind: Kind
    base_model: str
    """What the card names as the model that was trained."""
    files: dict[str, int]
    """Name -> bytes."""


def export_adapter(
    run_or_checkpoint: str | Path,
    output: str | Path,
    *,
    config: Sequence[str | Path] = (),
    base_model: str | None = None,
    overwrite: bool = False,
) -> Exported:
    """The LoRA adapter of a trained policy; `peft.PeftModel.from_pretrained(base, DIR)` loads it.

    Args:
        run_or_checkpoint: A run's directory (its last checkpoint), or a checkpoint file.
        output: A new folder.
        config: YAML layers over what the run recorded; see `load_policy`.
        base_model: What to call the base model, such as its Hugging Face id; default is the
            setting `model.policy.model`, a folder's name where that is a folder.
        overwrite: Replace an earlier export.

    Raises:
        ConfigError: No such checkpoint, no adapter in it, `output` is taken or cannot be written.
    """
    require_free(Path(output), overwrite=overwrite)
    loaded = load_policy(run_or_checkpoint, config=config)
    policy = loaded.policy
    if policy.lora is None:
        raise ConfigError(
            f"{run_or_checkpoint}: this run trained every weight (model.policy.lora: null), so "
            "there is no adapter. `aflow-grpo export merged` writes the whole model."
        )
    base, facts = base_model or _base_name(policy), run_facts(loaded)
    with filled_folder(Path(output), overwrite=overwrite) as part:
        model: Any = policy.model
        write_adapter(model, part)
        _rename_base(part / "adapter_config.json", base)
        policy.tokenizer.save_pretrained(part)
        _generation(policy).save_pretrained(part)
        _describe(part, loaded, Card("adapter", base, policy.dtype, policy, facts))
    return _exported(Path(output), "adapter", base)


def export_merged(
    run_or_checkpoint: str | Path,
    output: str | Path,
    *,
    config: Sequence[str | Path] = (),
    base_model: str | None = None,
    dtype: Dtype = "auto",
    overwrite: bool = False,
) -> Exported:
    """The whole model, as `AutoModelForCausalLM.from_pretrained(DIR)` loads it.

    Adapters are merged into the base weights; 4-bit base weights are turned back into numbers.

    Args:
        run_or_checkpoint: A run's directory (its last checkpoint), or a checkpoint file.
        output: A new folder.
        config: YAML layers over what the run recorded; see `load_policy`.
        base_model: As for `export_adapter`.
        dtype: Of the weights; ``auto`` is `model.policy.dtype`.
        overwrite: Replace an earlier export.

    Raises:
        ConfigError: No such checkpoint, `output` is taken or cannot be written.
    """
    require_free(Path(output), overwrite=overwrite)
    loaded = load_policy(run_or_checkpoint, config=config)
    policy = loaded.policy
    base, facts = base_model or _base_name(policy), run_facts(loaded)
    generation = _generation(policy)
    with filled_folder(Path(output), overwrite=overwrite) as part:
        model = plain_model(policy, dtype)
        model.generation_config = generation
        model.save_pretrained(part)
        policy.tokenizer.save_pretrained(part)
        written = str(model.dtype).removeprefix("torch.")
        _describe(part, loaded, Card("merged", base, written, policy, facts))
    return _exported(Path(output), "merged", base)


def _base_name(policy: Policy) -> str:
    if policy.source == TINY:
        return _TINY_BASE
    folder = Path(policy.source).expanduser()
    return folder.resolve().name if folder.is_dir() else policy.source


def _rename_base(path: Path, base: str) -> None:
    """Names the base model as others know it; peft wrote where it lies on this machine."""
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings |= {"base_model_name_or_path": base, "inference_mode": True}
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _generation(policy: Policy) -> GenerationConfig:
    """Greedy, as the policy writes greedily: none of the base model's penalties."""
    ends = sorted(causal_parts(policy.model, policy.tokenizer).end_ids)  # type: ignore[arg-type]
    pad = policy.tokenizer.pad_token_id
    return GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        eos_token_id=ends[0] if len(ends) == 1 else ends,
        pad_token_id=policy.end_id if pad is None else pad,
        max_new_tokens=policy.sampling.max_new_tokens,
    )


def _describe(part: Path, loaded: LoadedPolicy, card: Card) -> None:
    """The files that are for people, and the prompts that the card's example fills in."""
    sampling = card.policy.sampling
    known = {
        "kind": card.kind,
        "base_model": card.base_model,
        "policy": card.policy.fingerprint(),
        "prompt_form": card.policy.prompt_form,
        "max_prompt_tokens": sampling.max_prompt_tokens,
        "max_new_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "iterations": card.facts.iterations,
        "run_id": loaded.run_id,
        "versions": card.facts.versions,
    }
    for name, content in {FACTS: known, "prompts.json": prompt_templates(card.policy)}.items():
        (part / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (part / "README.md").write_text(model_card(card), encoding="utf-8")


def _exported(folder: Path, kind: Kind, base: str) -> Exported:
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    return Exported(folder, kind, base, files)
