"""Experiments as their files say them."""

from pathlib import Path

import pytest

from aflow_grpo.errors import ConfigError
from aflow_grpo.workbench.experiments.plan import Replicate, read_experiment
from aflow_grpo.workbench.experiments.running import cells_of

ROOT = Path(__file__).resolve().parents[3]
TEXT = """
question: Is it so?
settings: {data.val: [{dataset: generated, wordings: "{wordings}", seed: "{world}", limit: 9}]}
worlds: {development: [11, 12], sealed: [101, 102]}
replicates: 2
arms:
  base: {train: false, policies: ["", there]}
  trained: {replicates: 1}
  judged: {of: trained}
judge: {new: {}, sealed: {a.b: 1}, development: {a.b: 2}}
reference: base
short: {arms: [base], settings: {x.y: 1}}
variants:
  dark: {replicates: 1, arms: [base], settings: {data.val: [], x.z: 2}}
"""


def write(folder: Path, text: str) -> Path:
    (folder / "experiment.yaml").write_text(text)
    return folder


@pytest.mark.parametrize("file", sorted(ROOT.glob("experiments/*/experiment.yaml")), ids=str)
def test_every_shipped_experiment_is_read(file: Path) -> None:
    experiment = read_experiment(file)
    assert experiment.name == file.parent.name
    assert experiment.question
    if experiment.analysis != "recorded_choice":
        worlds = [set(experiment.worlds[kind]) for kind in ("development", "sealed")]
        assert not worlds[0] & worlds[1]
        assert experiment.replicates_in("sealed")
    assert len(experiment.shortened().arms) <= len(experiment.arms)


SAME_RUNS = {"trained_vs_search": "trained_vs_fixed"}
"""Experiments that look at the very training runs of another one."""


def test_sealed_worlds_are_opened_by_one_recipe_each() -> None:
    experiments = [read_experiment(f) for f in sorted(ROOT.glob("experiments/*/experiment.yaml"))]
    by_name = {each.name: each for each in experiments}
    for name, other in SAME_RUNS.items():
        one, two = by_name[name], by_name[other]
        assert one.worlds == two.worlds
        assert one.configs == two.configs
        assert one.settings == two.settings
        assert all(two.arm(arm.name).settings == arm.settings for arm in one.arms)
    others = [each for each in experiments if each.name not in SAME_RUNS]
    opened = [world for each in others for world in each.worlds.get("sealed", ())]
    assert len(opened) == len(set(opened))


def test_placeholders_are_filled(tmp_path: Path) -> None:
    experiment = read_experiment(write(tmp_path, TEXT))
    first, second = experiment.replicates_in("sealed")
    filled = second.fill(dict(experiment.settings))
    assert filled["data.val"] == [
        {"dataset": "generated", "wordings": "sealed", "seed": 102, "limit": 9}
    ]
    assert first.fill("run {seed} of {world}, {replicate}") == "run 0 of 101, 0"
    assert Replicate(0, 0, 11, "development").fill("{wordings}") == "held"


def test_sets_of_the_other_kind_of_world_are_left_out(tmp_path: Path) -> None:
    experiment = read_experiment(write(tmp_path, TEXT))
    assert set(experiment.judged_in("sealed")) == {"new", "sealed"}
    assert set(experiment.judged_in("development")) == {"new", "development"}


def test_cells(tmp_path: Path) -> None:
    experiment = read_experiment(write(tmp_path, TEXT))
    cells = cells_of(experiment, experiment.replicates_in("development"))
    assert [cell.name for cell in cells] == [
        "base-0", "base-100", "trained-0", "base-1", "base-101", "judged-0",
    ]  # fmt: skip


def test_short_version(tmp_path: Path) -> None:
    short = read_experiment(write(tmp_path, TEXT)).shortened()
    assert short.replicates == 1
    assert short.settings["x.y"] == 1
    (arm,) = short.arms
    assert (arm.name, arm.policies) == ("base", ("",))


def test_variant(tmp_path: Path) -> None:
    experiment = read_experiment(write(tmp_path, TEXT))
    dark = experiment.varied("dark")
    assert (dark.name, dark.replicates) == (f"{experiment.name}-dark", 1)
    assert dark.settings == {"data.val": [], "x.z": 2}
    (arm,) = dark.arms
    assert (arm.name, arm.policies) == ("base", ("", "there"))
    assert dark.shortened().settings == {"data.val": [], "x.y": 1, "x.z": 2}
    with pytest.raises(ConfigError, match="no variant 'bright', expected one of dark"):
        experiment.varied("bright")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("arms:", "armz:"), "unknown key 'armz'.*Did you mean arms"),
        (("train: false", "trian: false"), "arms.base: unknown key 'trian'.*Did you mean train"),
        (("of: trained", "of: nobody"), "no arm 'nobody'"),
        (("reference: base", "reference: nobody"), "no arm 'nobody'"),
        (("development:", "developing:"), "worlds: unknown key 'developing'"),
        (("question:", "question: ["), "not readable as YAML"),
        (("dark: {replicates", "dark: {replica"), "variants.dark: unknown key 'replica'"),
        (("dark: {replicates: 1, arms: [base]", "dark: {arms: [judged]"), "needs 'trained' there"),
        (("dark: {", "dark: 3 #"), "variants.dark: expected some of replicates"),
        (("dark: {", "1: {"), "variants: 1: expected a text"),
        (("dark: {", "a/b: {"), "variants: 'a/b': expected a text"),
        (("dark: {replicates: 1", "dark: {replicates: 0"), "variants.dark: replicates=0: expected"),
        (("dark: {replicates: 1", "dark: {replicates: many"), "='many': expected a number"),
        (("1, arms: [base]", "1, arms: base"), "variants.dark: arms='base': expected a list"),
        (("settings: {x.y: 1}", "settings: "), "short: settings=None: expected a mapping"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_experiment(write(tmp_path, TEXT.replace(*change)))


def test_too_few_worlds(tmp_path: Path) -> None:
    experiment = read_experiment(write(tmp_path, TEXT.replace("replicates: 2", "replicates: 3")))
    with pytest.raises(ConfigError, match="2 numbers for 3 replicates"):
        experiment.replicates_in("sealed")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no experiment to read"):
        read_experiment(tmp_path / "nothing")
