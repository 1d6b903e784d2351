"""`aflow-grpo export` as a person types it: what it prints, exit codes, what it leaves behind."""

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from aflow_grpo.commands.export import make_parser, run_export
from aflow_grpo.errors import ConfigError
from aflow_grpo.policy.policy import Policy
from aflow_grpo.training.module import GRPOModule
from aflow_grpo.workbench.policies import find_checkpoint, load_policy

SHIPPED = "configs/minimal.yaml"  # found wherever the command runs


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The tiny policy before any step, as `fit` saves it; beside it nothing."""
    policy = Policy("tiny")
    policy.setup()
    saved = {}
    GRPOModule(policy).on_save_checkpoint(saved)
    path = tmp_path_factory.mktemp("saved") / "alone.ckpt"
    torch.save(saved, path)
    return path


def test_merged_says_what_it_wrote(checkpoint, tmp_path, capsys):
    out = tmp_path / "policy"
    told = ["merged", str(checkpoint), "--output", str(out), "--config", SHIPPED]
    assert run_export(told) == 0
    shown = capsys.readouterr().out
    for name in ("model.safetensors", "config.json", "README.md", "prompts.json"):
        assert name in shown
    assert run_export(told) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run_export([*told, "--overwrite", "true", "--json"]) == 0
    captured = capsys.readouterr()
    told_json = json.loads(captured.out)
    assert told_json["kind"] == "merged"
    assert set(told_json["files"]) == {path.name for path in out.iterdir()}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["adapter", "nowhere"], "no such file or directory"),
        (["merged", "."], "without checkpoints/last.ckpt"),
        (["merged", "{ckpt}"], "--config FILE"),
        (["adapter", "{ckpt}", "--config", SHIPPED], "export merged"),
        (["merged", "{ckpt}", "--config", "configs/policy/tiny-lora.yaml"], "made with policy"),
        (["merged", "{ckpt}", "--config", "configs/policy/openai.yaml"], "no weights"),
        (["merged", "{ckpt}", "--config", "missing.yaml"], "missing.yaml: cannot be read"),
        (["merged", "junk.ckpt"], "cannot be read as a checkpoint"),
        (["workflow", "sc4"], "sc3"),
        (["workflow", "custom", "--model", "unheard-of"], "--price"),
        (["workflow", "code_test", "--domain", "math"], "there is none for math"),
    ],
)
def test_wrong_usage_is_told_in_one_line(given, words, checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("junk.ckpt").write_bytes(b"junk")
    arguments = [word.format(ckpt=checkpoint) for word in given]
    assert run_export([*arguments, "--output", "out"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["junk.ckpt"]


def test_a_workflow_with_a_price_of_its_own(tmp_path, capsys):
    out = tmp_path / "solve.py"
    given = ["workflow", "qa", "--output", str(out), "--model", "mine", "--price", "[0.5, 2]"]
    assert run_export(given) == 0
    assert 'TIER = Tier("mine"' in out.read_text()
    assert 'PRICE = Price(Decimal("0.5"), Decimal("2.0"))' in out.read_text()
    assert "the fallback for qa" in capsys.readouterr().out


def test_help_is_quick_and_imports_no_torch():
    script = (
        "import sys\nfrom aflow_grpo.commands.export import make_parser\nmake_parser()\n"
        "assert not {'torch', 'transformers', 'numpy', 'openai'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "adapter" in make_parser().format_help()


def test_a_full_disk_is_exit_code_1(checkpoint, tmp_path, capsys):
    given = ["merged", str(checkpoint), "--output", str(tmp_path / "out"), "--config", SHIPPED]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        assert run_export(given) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "Make room" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# What `load_policy` finds


def test_the_checkpoint_of_a_run_and_its_directory(checkpoint, tmp_path):
    root = tmp_path / "run"
    (root / "checkpoints").mkdir(parents=True)
    shutil.copy(checkpoint, root / "checkpoints" / "last.ckpt")
    last = root / "checkpoints" / "last.ckpt"
    assert find_checkpoint(root) == (last, root)
    assert find_checkpoint(last) == (last, None)  # nothing says that this is a run
    run = {"mlflow_run_id": "b" * 32, "tracking_uri": "sqlite:////elsewhere/mlflow.db"}
    (root / "run.json").write_text(json.dumps(run))
    assert find_checkpoint(last) == (last, root)
    with pytest.raises(ConfigError, match="--config FILE"):
        load_policy(root)  # the settings are not where they were
    _record(root, "b" * 32, "reward")
    loaded = load_policy(root)
    assert loaded.run_id == "b" * 32
    assert loaded.settings["note"] == "reward"
    assert loaded.policy.training is False


def test_a_checkpoint_that_was_set_aside_belongs_to_the_earlier_run(checkpoint, tmp_path):
    root = tmp_path / "run"
    (root / "checkpoints").mkdir(parents=True)
    (root / "run.json").write_text(json.dumps({"mlflow_run_id": "b" * 32}))
    _record(root, "b" * 32, "newer")
    _record(root, "a" * 32, "earlier")
    for name in ("last", "last-aaaaaaaa", "last-aaaaaaaa-2"):
        shutil.copy(checkpoint, root / "checkpoints" / f"{name}.ckpt")
    notes = {
        path.stem: load_policy(path).settings["note"] for path in (root / "checkpoints").iterdir()
    }
    assert notes == {"last": "newer", "last-aaaaaaaa": "earlier", "last-aaaaaaaa-2": "earlier"}


def _record(root, run_id, note):
    folder = root / "artifacts" / run_id / "artifacts" / "config"
    folder.mkdir(parents=True)
    (folder / "fit.yaml").write_text(
        f"note: {note}\nmodel:\n  policy:\n    class_path: aflow_grpo.policy.policy.Policy\n"
        "    init_args:\n      model: tiny\n"
    )
