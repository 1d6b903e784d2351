"""What a user can get wrong, as command lines: a few lines that help, code 2, and nothing lost."""

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from trainer_runs import new_root, run_ids, run_verb, write_settings

from aflow_grpo.assets import shipped_path

LONGEST = 6
"""Lines of an error."""


@dataclass(frozen=True)
class Place:
    """A folder with everything wrong in it, and a run's directory with something to lose."""

    folder: Path
    settings: Path
    root: Path

    def belongings(self) -> dict[str, bytes]:
        """What must not change: checkpoints, MLflow's store, the memory of the run."""
        kept = [*(self.root / "checkpoints").iterdir()]
        kept += [self.root / "mlflow.db", self.root / "run.json"]
        return {str(path): path.read_bytes() for path in kept}

    def arguments(self, *more: str) -> list[str]:
        """A fit of this place; ``{tmp}`` and ``{port}`` in `more` are filled in."""
        common = [f"--config={self.settings}", f"--trainer.default_root_dir={self.root}"]
        filled = [a.replace("{tmp}", str(self.folder)) for a in more]
        return [*common, *(a.replace("{port}", str(closed_port())) for a in filled)]


def closed_port() -> int:
    """A port of this machine at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("bad")
    settings = write_settings(folder, trainer__max_steps=1, model__evaluation__at_end=False)
    made = Place(folder, settings, new_root(folder / "run"))
    assert run_verb("fit", *made.arguments()) == 0
    for name, text in FILES.items():
        (folder / name).write_text(text)
    rows = [json.loads(row) for row in (folder / "problems.jsonl").read_text().splitlines()]
    rows[1]["question"] = 7
    (folder / "row.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    math = [row for row in rows if row["domain"] == "math"]
    math[1]["question"] = "What is 1 + 1?"
    (folder / "math.jsonl").write_text("".join(json.dumps(row) + "\n" for row in math))
    write_checkpoints(folder, made.root / "checkpoints" / "last.ckpt")
    respelt(folder / "respelt")
    yield made


def write_checkpoints(folder: Path, whole: Path) -> None:
    """Files that are no checkpoint of ours."""
    (folder / "junk.ckpt").write_bytes(b"no checkpoint at all")
    (folder / "cut.ckpt").write_bytes(whole.read_bytes()[:5000])
    (folder / "empty.ckpt").write_bytes(b"")
    torch.save([1, 2], folder / "list.ckpt")
    foreign = torch.load(whole, weights_only=True)
    del foreign["aflow_grpo"]
    torch.save(foreign, folder / "foreign.ckpt")


def respelt(folder: Path) -> None:
    """The tiny policy with two tokens of its vocabulary exchanged."""
    shutil.copytree(shipped_path("data/tiny-policy"), folder)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    first, second = sorted(vocabulary, key=vocabulary.__getitem__)[300:302]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    path.write_text(json.dumps(tokenizer))


FILES = {
    "typo.yaml": "model: {grpo: {group_siz: 4}}",
    "level.yaml": "grpo: {group_size: 4}",
    "top.yaml": "group_size: 4",
    "room.yaml": "modle: {grpo: {group_size: 4}}",
    "class.yaml": "model: {policy: {init_args: {modle: tiny}}}",
    "inner.yaml": "model: {policy: {init_args: {sampling: {temprature: 1.0}}}}",
    "optional.yaml": "llm: {simulator: {latency: 1}}",
    "item.yaml": "data: {train: [{dataset: gsm8k, pth: x}]}",
    "tier.yaml": "llm: {tiers: [{name: a, modle: b}]}",
    "type.yaml": "model: {grpo: {group_size: many}}",
    "group.yaml": "model: 3",
    "deep.yaml": "trainer: {max_steps: 1}\nmodel: {grpo: 3}",
    "list.yaml": "- a\n- b",
    "broken.yaml": "model:\n  - grpo: [\n",
    "seed.yaml": "model: {seed: 7}",
}
NO_SIMULATOR = "--llm.simulator=null"
CASES = [
    # Unknown keys
    (["--config={tmp}/typo.yaml"], "Did you mean model.grpo.group_size?"),
    (["--config={tmp}/level.yaml"], "Did you mean model.grpo.group_size?"),
    (["--config={tmp}/top.yaml"], "Did you mean model.grpo.group_size?"),
    (["--config={tmp}/room.yaml"], "Did you mean model.grpo.group_size?"),
    (["--config={tmp}/class.yaml"], "'modle' is not accepted. Did you mean model?"),
    (["--config={tmp}/inner.yaml"], "'temprature'. Did you mean temperature?"),
    (["--config={tmp}/optional.yaml"], "'latency' is not accepted. Did you mean latency_ms?"),
    (["--config={tmp}/item.yaml"], "'pth' is not accepted. Did you mean path?"),
    (["--config={tmp}/tier.yaml"], "'modle' is not accepted. Did you mean model?"),
    (["--model.grpo.group_siz", "4"], "Did you mean model.grpo.group_size?"),
    (["--group_size=4"], "Did you mean model.grpo.group_size?"),
    (["--model.policy.init_args.modle", "x"], "'modle' is not accepted. Did you mean model?"),
    (["--model.policy.init_args.sampling.temprature=1"], "Did you mean temperature?"),
    (["surplus"], "unrecognized arguments: surplus"),
    # Wrong types and values
    (["--config={tmp}/type.yaml"], "Expected a <class 'int'>. Got value: many"),
    (["--config={tmp}/group.yaml"], "group.yaml: model=3 would be ignored"),
    (["--config={tmp}/deep.yaml"], "model.grpo"),
    (["--config={tmp}/list.yaml"], "Unexpected config"),
    (["--config={tmp}/broken.yaml"], "Problems parsing config"),
    (["--config={tmp}/seed.yaml"], "model.seed=7 would be ignored, because seed_everything (0)"),
    (["--llm.tiers=[{name: a, timeout_s: long}]"], "Got value: long"),
    (["--data.train=[{dataset: gsm9k}]"], "Did you mean 'gsm8k'?"),
    (["--data.train=[{dataset: openai/gsm8k}]"], "data source: path is '', expected the file of"),
    (["--model.grpo.group_size", "1"], "model.grpo.group_size=1: expected at least 2"),
    (["--trainer.max_steps=-7"], "`max_steps` must be a non-negative integer or -1"),
    (["--trainer.val_check_interval=0"], "trainer.val_check_interval=0: expected 1 or more"),
    (["--trainer.devices=3", "--trainer.accelerator=cpu"], "a multiple of the 3 ranks"),
    (["--trainer.accelerator=abacus"], "trainer: You selected an invalid accelerator"),
    (["--trainer.precision=16-true"], "model.policy.init_args.dtype"),
    (["--seed_everything=-3"], "seed_everything=-3: expected 0 to 4294967295"),
    (["--model.optimizer.learning_rate=-1"], "model.optimizer.learning_rate=-1"),
    # Missing files
    (["--config", "nowhere.yaml"], "nowhere.yaml"),
    (["--config={tmp}"], "Path is not a file"),
    (["--data.train", "[{dataset: jsonl, path: nowhere.jsonl}]"], "no such file. Looked for"),
    (["--ckpt_path=nowhere.ckpt"], "--ckpt_path=nowhere.ckpt: no such file"),
    (["--ckpt_path={tmp}"], "no such file"),
    (["--model.policy.model", "/nowhere/at/all"], "no such folder"),
    (["--model.policy.model=Qwen/Qwen2.5-made-up"], "HF_HUB_OFFLINE=0"),
    # Data
    (["--data.train=[{dataset: jsonl, path: {tmp}/row.jsonl}]"], "jsonl, line 2, field 'question'"),
    (["--data.train=[{dataset: jsonl, path: {tmp}/math.jsonl}]"], "the data hold no code problems"),
    (["--data.train=[]"], "data.train names no problems, but `fit` needs some"),
    (["--data.mix.math=0.9"], "math 0.9 + code 0.3 + qa 0.3 = 1.5"),
    # The executor
    (["--config=configs/llm/openai.yaml"], "OPENAI_API_KEY: not set; (2) llm.tiers[0].api_key"),
    ([NO_SIMULATOR, "--llm.tiers=[{name: a, model: gpt-77, api_key: x}]"],
     "No price is known for model 'gpt-77'"),
    ([NO_SIMULATOR, "--llm.tiers=[{name: a, model: gpt-4o-mini, api_key: x, "
      "base_url: 'http://127.0.0.1:{port}/v1'}]"], "the endpoint does not answer"),
    ([NO_SIMULATOR], "OPENAI_API_KEY: not set; (2) llm.tiers[0].api_key"),
    # Checkpoints
    (["--ckpt_path={tmp}/junk.ckpt"], "junk.ckpt: it cannot be read"),
    (["--ckpt_path={tmp}/cut.ckpt"], "cut.ckpt: it cannot be read"),
    (["--ckpt_path={tmp}/empty.ckpt"], "empty.ckpt: it cannot be read"),
    (["--ckpt_path={tmp}/list.ckpt"], "list.ckpt: it holds a list"),
    (["--ckpt_path={tmp}/foreign.ckpt"], "the checkpoint is of another program"),
    (["--ckpt_path=last", "--model.policy.init_args.lora={rank: 2}"],
     "the checkpoint was made with policy qwen2-"),
    (["--ckpt_path=last", "--model.policy.model={tmp}/respelt"],
     "the checkpoint was made with policy qwen2-"),
    # Directories
    (["--trainer.default_root_dir={tmp}/type.yaml/run"], "type.yaml/run: cannot be written"),
    (["--trainer.default_root_dir={tmp}/new", "--ckpt_path=last"], "last.ckpt does not exist"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "said"), CASES, ids=lambda value: str(value)[:60])
def test_a_mistake_is_explained_and_costs_nothing(
    arguments: list[str],
    said: str,
    place: Place,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OPENAI_API_KEY", "AFLOW_GRPO_DATA"):
        monkeypatch.delenv(name, raising=False)
    before = place.belongings()
    assert run_verb("fit", *place.arguments(*arguments)) == 2
    shown = capsys.readouterr().err
    _, start, error = shown.rpartition("aflow-grpo fit: ")  # a progress bar may come before
    assert start and said in error and "Traceback" not in shown
    assert len(error.strip().splitlines()) <= LONGEST
    assert place.belongings() == before


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_judging_says_so_too(verb: str, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    before = place.belongings()
    assert run_verb(verb, *place.arguments("--ckpt_path={tmp}/cut.ckpt")) == 2
    assert f"\naflow-grpo {verb}: --ckpt_path=" in capsys.readouterr().err
    assert place.belongings() == before


def test_data_that_differ_from_the_checkpoints_do_not_touch_it(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found out when the position in the data is restored: MLflow has the attempt as FAILED."""
    last = place.root / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    more = ["--ckpt_path=last", "--data.batch_size=3", "--trainer.max_steps=2"]
    assert run_verb("fit", *place.arguments(*more)) == 2
    assert "mix, batch size, seed or window differ" in capsys.readouterr().err
    assert last.read_bytes() == before and len(run_ids(place.root)) == 1


HOLDER = """
import sys
from pathlib import Path
from aflow_grpo.training.run_directory import RunDirectory
with RunDirectory(Path(sys.argv[1])):
    print("inside", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_in_the_same_directory_changes_nothing(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(place.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "inside\n"
        before = place.belongings()
        for verb in ("fit", "validate", "test"):
            assert run_verb(verb, *place.arguments()) == 2
            _, _, error = capsys.readouterr().err.rpartition(f"\naflow-grpo {verb}: ")
            assert f"{place.root}: process {holder.pid} on " in error
            assert len(error.strip().splitlines()) == 1
        assert place.belongings() == before
    finally:
        holder.communicate("")


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from aflow_grpo.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no limit on the size of files here")
@pytest.mark.parametrize("filling", ["checkpoints/last.ckpt", "mlflow.db"])
def test_a_disk_that_fills_up_in_the_middle_costs_no_checkpoint(
    filling: str, place: Place, tmp_path: Path
) -> None:
    """The kernel refuses to let files grow, as a full disk does: the checkpoint, or MLflow's."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    root = tmp_path / "run"
    shutil.copytree(place.root, root)
    last = root / "checkpoints" / "last.ckpt"
    before, room = last.read_bytes(), (root / filling).stat().st_size
    limit = room // 2 if filling.endswith("ckpt") else room + 4096
    arguments = [f"--trainer.default_root_dir={root}", "--trainer.max_steps=4", "--ckpt_path=last"]
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(limit), "fit", f"--config={place.settings}", *arguments],
        capture_output=True,
        text=True,
        env=dict(os.environ),
    )
    assert done.returncode == 1
    error = done.stderr.removeprefix("aflow-grpo fit: loading …\n").strip()
    assert "aflow-grpo fit: the disk refuses to take more" in error
    assert "Make room" in error and "--ckpt_path last" in error
    assert len(error.splitlines()) <= LONGEST and "Traceback" not in error
    assert last.read_bytes() == before
    assert os.listdir(last.parent) == ["last.ckpt"]
