"""All six datasets through the real Qwen2.5 tokenizer and chat template: fit, validate, test.

The weights are random, so nothing it writes is a workflow; what is tried is everything around them:
readers, prompts of thousands of tokens, lengths, the fixed workflows that answer in its place.
"""

import os
from pathlib import Path

import pytest
import torch
import yaml
from trainer_runs import checkpoint_of, metrics_of, new_root, run_verb
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

DATA = os.environ.get("AFLOW_GRPO_DATA", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA, reason="AFLOW_GRPO_DATA names no folder of data sets"),
]

ENDS = [151645, 151643]
"""`<|im_end|>` and `<|endoftext|>`."""
LIMITS = {"max_prompt_tokens": 2048, "max_new_tokens": 48}


def save_small_qwen(folder: Path) -> None:
    """Two random layers of Qwen2 with the real vocabulary."""
    tokenizer = AutoTokenizer.from_pretrained(Path(DATA) / "qwen2.5-tokenizer")
    config = Qwen2Config(
        vocab_size=151936,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32768,
        tie_word_embeddings=True,
        eos_token_id=ENDS,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """`configs/six.yaml` with the small Qwen2 and few, short completions."""
    folder = tmp_path_factory.mktemp("six")
    save_small_qwen(folder / "qwen")
    settings = {
        "trainer": {"max_steps": 3, "val_check_interval": 2},
        "model": {
            "policy": {
                "init_args": {
                    "model": str(folder / "qwen"),
                    "prompt_form": "full",
                    "sampling": LIMITS,
                }
            },
            "grpo": {
                "group_size": 4,
                "sample_batch_size": 16,
                "micro_batch_size": 4,
                "outcome_model": {"explore": 8, "explore_samples": 16, "from_iteration": 0},
            },
            "evaluation": {"samples": 1, "sample_batch_size": 16},
        },
        "data": {"batch_size": 4},
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    root = new_root(folder / "run")
    files = ["--config=configs/six.yaml", f"--config={folder / 'small.yaml'}"]
    return [*files, f"--trainer.default_root_dir={root}"]


def test_fit_validate_and_test_on_six_datasets(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(arguments[-1].partition("=")[2])
    assert run_verb("fit", *arguments) == 0
    assert checkpoint_of(root)["aflow_grpo"]["iteration"] == 3
    assert run_verb("validate", *arguments, "--ckpt_path=last") == 0
    assert run_verb("test", *arguments, "--ckpt_path=last", "--trainer.limit_test_batches=1") == 0
    shown = capsys.readouterr().out
    assert shown.count("answered in its place") == 3 and "  answer: " in shown

    logged = metrics_of(root)
    for split in ("train", "val"):
        longest = max(
            v for (name, _), v in logged.items() if name == f"{split}/length/prompt_tokens.max"
        )
        assert longest <= LIMITS["max_prompt_tokens"]
        if split == "val":
            assert longest > 1000, "HotpotQA's contexts are shortened, not dropped"
    assert logged["val/status/cut", 3] + logged["val/status/invalid", 3] == 1
    assert logged["val/length/completion_tokens.max", 3] <= LIMITS["max_new_tokens"]
    validated = metrics_of(root, "validate")
    assert {key: logged[key] for key in validated} == validated
