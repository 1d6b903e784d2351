"""Exported policies, loaded as a stranger would: by plain peft and transformers, by their card."""

import json
import re
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from random_models import byte_tokenizer, random_qwen2
from run_world import CODE, judged, store, track
from transformers import AutoModelForCausalLM

from aflow_grpo.assets import shipped_path
from aflow_grpo.errors import ConfigError
from aflow_grpo.policy.policy import Policy
from aflow_grpo.policy.settings import LoraSettings, SamplingSettings
from aflow_grpo.records import VisibleProblem
from aflow_grpo.training.module import GRPOModule
from aflow_grpo.workbench.exporting.card import EXAMPLE
from aflow_grpo.workbench.exporting.models import export_adapter, export_merged
from aflow_grpo.workbench.exporting.workflows import export_workflow
from aflow_grpo.workbench.policies import load_policy

STRANGER = Path(__file__).with_name("stranger.py")
PROBLEM = VisibleProblem("p", "sample", "math", EXAMPLE)
LORA = {"rank": 4, "alpha": 8, "target_modules": "all-linear"}


@pytest.fixture(scope="module")
def lora_run(tmp_path_factory):
    """A run of two steps with adapters, evaluated at its end; only the training is made up."""
    folder = tmp_path_factory.mktemp("run")
    sampling = {"max_prompt_tokens": 640, "max_new_tokens": 60}
    given = {"model": "tiny", "lora": LORA, "sampling": sampling}
    checkpoint, _ = _checkpoint(folder, given)
    root = folder / "run"
    run_id = track(root)
    greedy, sampled = judged(4, of=6)
    store(root, run_id, {("val/greedy", 2): greedy, ("val", 2): sampled, ("val", 0): sampled})
    (root / "checkpoints").mkdir()
    checkpoint.rename(root / "checkpoints" / "last.ckpt")
    recorded = root / "artifacts" / run_id / "artifacts" / "config"
    recorded.mkdir(parents=True)
    settings = {
        "seed_everything": 7,
        "model": {
            "policy": {"class_path": "aflow_grpo.policy.policy.Policy", "init_args": given},
            "grpo": {"loss": {"preset": "default"}, "group_size": 4},
        },
        "data": {"train": [{"dataset": "sample"}], "batch_size": 2},
        "llm": {"simulator": {}, "tiers": []},
    }
    (recorded / "fit.yaml").write_text(yaml.safe_dump(settings))
    return root


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A checkpoint without a run, of the tiny policy with every weight trained."""
    sampling = {"max_prompt_tokens": 640, "max_new_tokens": 60}
    return _checkpoint(tmp_path_factory.mktemp("full"), {"model": "tiny", "sampling": sampling})


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    """A checkpoint without a run, of a chat model in bfloat16 with two end tokens."""
    folder = tmp_path_factory.mktemp("chat")
    base = random_qwen2()
    base.config.max_position_embeddings = 8192
    base.generation_config.eos_token_id = [0, 1]
    base.save_pretrained(folder / "base")
    byte_tokenizer().save_pretrained(folder / "base")
    settings = {
        "model": str(folder / "base"), "lora": LORA, "dtype": "bfloat16", "prompt_form": "full",
        "sampling": {"max_prompt_tokens": 6000, "max_new_tokens": 12},
    }  # fmt: skip
    return _checkpoint(folder, settings)


def _checkpoint(folder, settings):
    """What `fit` would save after one iteration, with adapters that do something."""
    layer = folder / "policy.yaml"
    layer.write_text(yaml.safe_dump({"model": {"policy": {"init_args": settings}}}))
    known = dict(settings)
    sampling = SamplingSettings(**known.pop("sampling"))
    lora = LoraSettings(**known.pop("lora")) if "lora" in known else None
    policy = Policy(**known, lora=lora, sampling=sampling)
    policy.setup()
    noise = torch.Generator().manual_seed(1)
    for name, weight in policy.named_parameters():
        if "lora_B" in name or (weight.requires_grad and lora is None):
            weight.data += torch.randn(weight.shape, generator=noise) * (0.1 if lora else 0.003)
    saved, module = {}, GRPOModule(policy)
    module.iteration = 2
    module.on_save_checkpoint(saved)
    torch.save(saved, folder / "some.ckpt")
    return folder / "some.ckpt", layer


def _stranger(tmp_path, *folders):
    """What each folder's example prints, and the logits of what it wrote, in another process."""
    out = tmp_path / "logits.pt"
    command = [sys.executable, str(STRANGER), str(out), *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    return torch.load(out)


@torch.no_grad()
def _own(run, **options):
    """The same of the policy itself."""
    policy = load_policy(run, **options).policy
    (written,) = policy.write([PROBLEM], [0], greedy=True)
    ids = torch.tensor([written.prompt_ids + written.token_ids])
    return {"text": written.text, "ids": ids, "logits": policy.model(input_ids=ids).logits}


def _assert_same(found, own, tolerance):
    assert found["text"] == own["text"]
    assert torch.equal(found["ids"], own["ids"])
    difference = (found["logits"].float() - own["logits"].float()).abs().max()
    assert difference <= tolerance, difference


def test_by_its_card_a_stranger_gets_what_the_policy_writes(lora_run, full, chat, tmp_path):
    (tmp_path / "tiny-policy").symlink_to(shipped_path("data/tiny-policy"))
    (tmp_path / "base").symlink_to(chat[0].parent / "base")
    found = _stranger(
        tmp_path,
        export_adapter(lora_run, tmp_path / "adapter").folder,
        export_merged(lora_run, tmp_path / "merged").folder,
        export_merged(full[0], tmp_path / "full", config=full[1:]).folder,
        export_adapter(chat[0], tmp_path / "chat", config=chat[1:]).folder,
    )
    own = _own(lora_run)
    assert len(own["text"]) > 20
    _assert_same(found["adapter"], own, 1e-6)
    _assert_same(found["merged"], own, 1e-4)  # added before, not after, the product
    _assert_same(found["full"], _own(full[0], config=full[1:]), 1e-6)
    own = _own(chat[0], config=chat[1:])
    assert own["ids"].shape[1] > 2000  # the whole chat with its rules
    _assert_same(found["chat"], own, 1e-6)


def test_merged_weights_are_base_plus_adapter_rounded_once(chat, tmp_path):
    checkpoint, layer = chat
    policy = load_policy(checkpoint, config=[layer]).policy
    name = "model.layers.0.self_attn.q_proj"
    adapted = dict(policy.model.named_modules())[f"base_model.model.{name}"]
    base = adapted.get_base_layer().weight.float()
    change = 2.0 * adapted.lora_B["default"].weight @ adapted.lora_A["default"].weight
    expected = (base + change).detach()
    for dtype in ("bfloat16", "float32"):
        export_merged(checkpoint, tmp_path / dtype, config=[layer], dtype=dtype)
        weights = _weights(tmp_path / dtype)
        assert torch.equal(weights[f"{name}.weight"], expected.to(getattr(torch, dtype)))
        assert "lm_head.weight" not in weights  # tied to the embedding
        assert json.loads((tmp_path / dtype / "config.json").read_text())["dtype"] == dtype


def _weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_four_bit_base_weights_become_the_numbers_that_the_policy_computed_with(tmp_path):
    pytest.importorskip("bitsandbytes")
    folder = tmp_path / "source"
    base = random_qwen2()
    base.save_pretrained(folder / "base")
    byte_tokenizer().save_pretrained(folder / "base")
    settings = {
        "model": str(folder / "base"), "lora": LORA, "quantization": "nf4",
        "sampling": {"max_prompt_tokens": 300, "max_new_tokens": 12},
    }  # fmt: skip
    checkpoint, layer = _checkpoint(folder, settings)
    own = _own(checkpoint, config=[layer])
    export_merged(checkpoint, tmp_path / "merged", config=[layer])
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert "quantization_config" not in config
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    with torch.no_grad():
        logits = merged(input_ids=own["ids"]).logits
    assert (logits - own["logits"]).abs().max() <= 1e-3
    plain = base(input_ids=own["ids"]).logits
    assert (plain - own["logits"]).abs().max() > 0.1  # so the adapter and the 4 bits matter


def test_the_card_says_what_is_known_and_no_path(lora_run, chat, tmp_path):
    export_adapter(lora_run, tmp_path / "adapter")
    checkpoint, layer = chat
    export_merged(checkpoint, tmp_path / "chat", config=[layer], base_model="Org/Base-1B")
    card = ModelCard.load(tmp_path / "adapter" / "README.md")
    assert card.data.library_name == "peft"
    assert card.data.base_model == "tiny-policy"
    assert card.data.license == "unknown"
    assert "lora" in card.data.tags
    for words in ("LoRA rank 4, alpha 8", "2 iterations", "`default`", "simulator", "USD", "95 %"):
        assert words in card.text, words
    row = next(line for line in card.text.splitlines() if "| val | greedy | all |" in line)
    assert re.search(r"\| 6 \| [\d.]+% \[[\d.]+%, [\d.]+%\]", row)
    other = ModelCard.load(tmp_path / "chat" / "README.md")
    assert other.data.base_model == "Org/Base-1B"
    assert "No full evaluation of this checkpoint" in other.text
    for folder in ("adapter", "chat"):
        for path in (tmp_path / folder).iterdir():
            content = path.read_bytes()
            assert str(tmp_path).encode() not in content, path
            assert str(shipped_path("data").parent).encode() not in content, path
            assert str(lora_run.parent).encode() not in content, path


def test_hostile_names_stay_words_in_the_card(chat, tmp_path):
    checkpoint, layer = chat
    data = tmp_path / "| <script>alert(1)<b> `x`.jsonl"
    row = {"id": "1", "domain": "math", "question": "1+1", "answer": "2"}
    data.write_text(json.dumps(row) + "\n")
    more = tmp_path / "more.yaml"
    source = {"dataset": "jsonl", "path": str(data)}
    more.write_text(yaml.safe_dump({"data": {"train": [source]}}))
    export_adapter(checkpoint, tmp_path / "out", config=[layer, more])
    text = ModelCard.load(tmp_path / "out" / "README.md").text
    assert "<script>" not in text
    (line,) = [line for line in text.splitlines() if "alert" in line]
    assert len(re.findall(r"(?<!\\)\|", line)) == 5


def test_a_run_that_trained_every_weight_has_no_adapter(full, tmp_path):
    with pytest.raises(ConfigError, match="export merged"):
        export_adapter(full[0], tmp_path / "out", config=full[1:])
    assert not (tmp_path / "out").exists()


def test_only_what_an_export_wrote_is_replaced(full, tmp_path):
    export = partial(export_merged, full[0], config=full[1:])
    out = tmp_path / "out"
    out.mkdir()
    export(out)  # empty: nothing is lost
    before = sorted(path.name for path in out.iterdir())
    with pytest.raises(ConfigError, match="--overwrite"):
        export(out)
    (out / "stale.bin").write_bytes(b"x")
    export(out, overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == before
    own = tmp_path / "mine"
    own.mkdir()
    (own / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="no export wrote it"):
        export(own, overwrite=True)
    assert (own / "thesis.txt").read_text() == "years of work"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "out"]


def test_a_full_disk_leaves_nothing(chat, tmp_path):
    checkpoint, layer = chat
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, before[1]))
    try:
        for export in (export_adapter, export_merged):
            with pytest.raises(ConfigError, match="cannot be written"):
                export(checkpoint, tmp_path / "out", config=[layer])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_workflow_that_the_policy_wrote_is_taken_from_its_run(lora_run, tmp_path):
    exported = export_workflow(f"{lora_run}:math/3", tmp_path / "solve.py")
    text = exported.path.read_text()
    assert CODE in text
    assert "for the problem math/3" in " ".join(text[:2000].split())
    assert str(lora_run.parent) not in text
    with pytest.raises(ConfigError, match="no such problem among its 6"):
        export_workflow(f"{lora_run}:nothing", tmp_path / "other.py")
