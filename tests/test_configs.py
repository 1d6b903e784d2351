"""Every checked-in YAML file is what the command line accepts, and says what it is for."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from trainer_runs import run_verb

from aflow_grpo.cli import TrainerCLI, run_trainer_verb
from aflow_grpo.records import DOMAINS
from aflow_grpo.training.rank_watch import RankWatch
from aflow_grpo.workbench.executor_settings import nested
from aflow_grpo.workbench.experiments.plan import read_experiment

ROOT = Path(__file__).resolve().parents[1]
BASE = ROOT / "configs" / "base.yaml"
FILES = sorted(
    path
    for folder in ("configs", "experiments")
    for path in (ROOT / folder).rglob("*.yaml")
    if path != BASE and path.name != "experiment.yaml"
)
EXPERIMENTS = sorted((ROOT / "experiments").rglob("experiment.yaml"))
VERBS = ("fit", "validate", "test")
LINKED = (("model", "seed"), ("data", "seed"))
COMMAND = re.compile(r"aflow-grpo (fit|validate|test)((?: --config \S+\.yaml)*)")


class ParseOnly(TrainerCLI):
    """The real parser, without what comes after parsing."""

    def instantiate_classes(self) -> None:
        """Nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def parser() -> Iterator[Any]:
    """The command line's parser; leaves by SystemExit(2) where the command line does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["aflow-grpo", "fit"])
        yield ParseOnly(ExitStack(), RankWatch()).parser


def settings(parser: Any, *arguments: str | Path, verb: str = "fit") -> dict[str, Any]:
    """What `arguments` mean, as dotted key -> value, files and links aside."""
    parsed = parser.parse_args([verb, *map(str, arguments)])[verb]
    text = parser._subcommands_action.choices[verb].dump(parsed, skip_unset=False)
    plain = yaml.safe_load(text)
    return dict(flat(plain))


def flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings; a list is a leaf."""
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, tree


NOT_OURS = {"wandb.yaml": "wandb", "tensorboard.yaml": "tensorboard"}
"""Files that need a package which this one does not install."""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("path", [BASE, *FILES], ids=name_of)
def test_every_file_is_accepted_on_top_of_base(parser: Any, path: Path, verb: str) -> None:
    config = parser.parse_args([verb, "--config", str(path)])
    if path.name in NOT_OURS and importlib.util.find_spec(NOT_OURS[path.name]) is None:
        return  # accepted; making one needs what the file says to install
    objects = parser.instantiate(config)[verb]
    assert list(objects.model.parameters()) == [], "no weights are loaded before they are needed"
    shares = [config[verb].data.mix[domain] for domain in DOMAINS]
    assert sum(shares) == pytest.approx(1)
    assert config[verb].trainer.num_sanity_val_steps == 0, "base.yaml is the first layer"


@pytest.mark.parametrize("path", EXPERIMENTS, ids=name_of)
def test_what_an_experiment_sets_is_accepted(parser: Any, path: Path, tmp_path: Path) -> None:
    experiment = read_experiment(path)
    for version in (experiment, experiment.shortened()):
        for arm in version.arms:
            for replicate in version.replicates_in("sealed")[:1]:
                for told in (version.judged_in("sealed") or {"": {}}).values():
                    merged = {**version.settings, **arm.settings, **told}
                    layer = tmp_path / "layer.yaml"
                    layer.write_text(yaml.safe_dump(nested(replicate.fill(merged))))
                    files = [ROOT / name for name in (*version.configs, *arm.configs)]
                    layers = [f"--config={name}" for name in (*files, layer)]
                    parser.instantiate(parser.parse_args(["fit", *layers]))


@pytest.mark.parametrize("path", [BASE, *FILES], ids=name_of)
def test_every_file_opens_with_its_purpose_and_its_command(parser: Any, path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    head = lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    assert len(head) >= 3 and len(head[0]) > 20
    commands = COMMAND.findall("\n".join(head))
    assert commands, "no `aflow-grpo VERB --config …` in the opening comment"
    for verb, configs in commands:
        named = [ROOT / name for name in shlex.split(configs) if name != "--config"]
        if path == BASE:  # shows the form, with a file of one's choice
            continue
        assert path in named
        parser.parse_args([verb, *(f"--config={name}" for name in named)])


@pytest.mark.parametrize("path", [BASE, *FILES], ids=name_of)
def test_no_file_sets_what_the_seed_is_linked_to(path: Path) -> None:
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    for group, key in LINKED:
        assert key not in written.get(group, {}), f"{group}.{key} would be ignored: seed_everything"


@pytest.mark.parametrize(("group", "key"), LINKED)
def test_what_the_seed_is_linked_to_is_refused_in_a_file_and_as_a_flag(
    group: str, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "linked.yaml"
    path.write_text(f"seed_everything: 3\n{group}: {{{key}: 7}}\n")
    assert run_verb("fit", f"--config={path}") == 2
    said = capsys.readouterr().err
    assert f"{path}: {group}.{key}=7 would be ignored, because seed_everything (3)" in said
    assert run_verb("fit", f"--{group}.{key}=7") == 2
    said = capsys.readouterr().err
    assert f'Linked "{group}.{key}" must be given via "seed_everything"' in said


def test_a_linked_target_that_agrees_is_no_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that the resolved settings that a run logs can be given to another."""
    path = tmp_path / "linked.yaml"
    path.write_text("seed_everything: 7\nmodel: {seed: 7}\ndata: {seed: 7}\n")
    root = tmp_path / "file" / "run"
    root.parent.write_text("in the way, so that it goes no further")
    assert run_verb("fit", f"--config={path}", f"--trainer.default_root_dir={root}") == 2
    assert "cannot be written" in capsys.readouterr().err


DIFFERS = {
    "trainer.default_root_dir": "runs do not share a directory",
    "trainer.max_steps": "a large policy needs more steps, a first run must be short",
    "model.policy.init_args.model": "another policy",
    "model.policy.init_args.prompt_form": "instruct models are given the rules in full",
    "model.policy.init_args.dtype": "float32 would not fit",
    "model.policy.init_args.threads": "the tiny policy's products are too small to share",
    "model.policy.init_args.lora": "adapters: there is no room to train every weight",
    "model.policy.init_args.sampling.max_new_tokens": "a workflow in chat format is longer",
    "model.policy.init_args.sampling.max_prompt_tokens": "and so is its prompt",
    "model.optimizer.learning_rate": "adapters want another rate than full fine-tuning",
    "model.grpo.micro_batch_size": "memory; the update is the same",
    "model.grpo.sample_batch_size": "memory; the samples are the same",
    "model.evaluation.samples": "executed answers cost money",
}
"""Settings in which qwen2.5-7b.yaml may differ from the quickstart, with the reasons."""


def test_quickstart_and_qwen_share_the_algorithm(parser: Any) -> None:
    small = settings(parser, "--config", ROOT / "configs/quickstart.yaml")
    large = settings(parser, "--config", ROOT / "configs/policy/qwen2.5-7b.yaml")
    lora = "model.policy.init_args.lora"
    adapter = {key: large.pop(key) for key in list(large) if key.startswith(f"{lora}.")}
    assert adapter[f"{lora}.rank"] == 64 and adapter[f"{lora}.target_modules"] == "all-linear"
    assert small.pop(lora) is None
    assert small.keys() == large.keys()
    different = {key for key in small if small[key] != large[key]}
    assert different == DIFFERS.keys() - {lora}


def test_seed_holds_the_source_documents_settings(parser: Any) -> None:
    found = settings(parser, "--config", ROOT / "configs/seed.yaml")
    expected = {
        "trainer.max_steps": 500,
        "trainer.val_check_interval": 5,
        "model.policy.init_args.lora.target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
        "model.policy.init_args.lora.rank": 64,
        "model.grpo.group_size": 4,
        "model.grpo.loss.preset": "seed",
        "model.optimizer.learning_rate": 1e-5,
        "data.batch_size": 4,
        "rollout.reward.preset": "literal",
        "checkpoint.keep_every_n_iterations": 50,
    }
    assert {key: found[key] for key in expected} == expected


def test_flags_win_over_later_files_over_earlier_files_over_base(
    parser: Any, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("trainer: {default_root_dir: runs/first, max_steps: 7}\n")
    second.write_text("trainer: {max_steps: 8}\nmodel: {grpo: {group_size: 5}}\n")
    found = settings(parser, "--config", first, "--config", second, "--model.grpo.ppo_epochs", "3")
    assert found["trainer.default_root_dir"] == "runs/first"
    assert found["trainer.max_steps"] == 8
    assert (found["model.grpo.group_size"], found["model.grpo.ppo_epochs"]) == (5, 3)
    assert found["model.grpo.micro_batch_size"] == 32, "base.yaml's, kept"


def test_a_policy_overlay_keeps_the_run_directory_of_the_file_before(parser: Any) -> None:
    files = ["--config", ROOT / "configs/quickstart.yaml"]
    files += ["--config", ROOT / "configs/policy/tiny-lora.yaml"]
    found = settings(parser, *files)
    assert found["trainer.default_root_dir"] == "runs/quickstart"
    assert found["model.policy.init_args.lora.rank"] == 64
    assert found["model.policy.init_args.threads"] == 1, "base.yaml's init_args are kept"
    assert settings(parser, *files, "--trainer.default_root_dir", "elsewhere")[
        "trainer.default_root_dir"
    ] == ("elsewhere")


def test_the_mix_merges_domain_by_domain_and_lists_are_replaced(
    parser: Any, tmp_path: Path
) -> None:
    path = tmp_path / "mix.yaml"
    path.write_text("data: {mix: {math: 0.7, code: 0.0}, test: [{dataset: sample, split: val}]}\n")
    found = settings(parser, "--config", path)
    assert [found[f"data.mix.{domain}"] for domain in DOMAINS] == [0.7, 0.0, 0.3]
    assert [(s["dataset"], s["split"]) for s in found["data.test"]] == [("sample", "val")]
    assert [s["split"] for s in found["data.train"]] == ["train"]
    flag = settings(parser, "--config", path, "--data.mix.math", "0.6", "--data.mix.qa", "0.4")
    assert [flag[f"data.mix.{domain}"] for domain in DOMAINS] == [0.6, 0.0, 0.4]


def test_a_mix_that_does_not_sum_to_one_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mix.yaml"
    path.write_text("data: {mix: {math: 1.0}}\n")
    assert run_verb("fit", f"--config={path}") == 2
    error = capsys.readouterr().err
    assert "math 1.0 + code 0.3 + qa 0.3 = 1.6" in error and "Give all three" in error


def test_the_printed_configuration_means_the_same(
    parser: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config", str(ROOT / "configs/quickstart.yaml"), "--model.grpo.group_size=6"]
    assert run_verb("fit", *arguments, "--print_config") == 0
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out, encoding="utf-8")
    again = settings(parser, "--config", printed)
    assert again == settings(parser, *arguments)
    assert again["model.grpo.group_size"] == 6


def test_a_shipped_file_is_found_from_any_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["aflow-grpo"])
    assert run_trainer_verb(["fit", "--config", "configs/minimal.yaml", "--print_config"]) == 0
    assert "default_root_dir: runs/minimal" in capsys.readouterr().out
    assert run_trainer_verb(["fit", "--config=configs/minimal.yaml", "--print_config"]) == 0
    assert run_trainer_verb(["fit", "--config", "configs/nothing.yaml", "--print_config"]) == 2
    assert "configs/nothing.yaml" in capsys.readouterr().err
