"""Finding and loading data: where paths are looked for, what is said when nothing is there."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.data.jsonl import write_problems
from aflow_grpo.data.sources import (
    HUB_NAMES,
    DataSource,
    canonical,
    load_source,
    load_sources,
)
from aflow_grpo.errors import ConfigError, DataError
from aflow_grpo.records import Problem

PROBLEMS = [Problem(f"own/{i}", "own", "math", f"{i} + 1?", str(i + 1)) for i in range(5)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory and, beside it, an AFLOW_GRPO_DATA folder (returned)."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("AFLOW_GRPO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "data"


@pytest.mark.parametrize(("split", "count"), [("train", 1000), ("val", 100), ("test", 100)])
def test_the_sample_is_shipped(split: Any, count: int) -> None:
    problems = load_source(DataSource("sample", split=split))
    assert len(problems) == count
    assert all(problem.id.startswith(f"sample/{split}/") for problem in problems)


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ("data/sub/p.jsonl", "sub/p.jsonl"),
        ("data/sub/p.jsonl", "$AFLOW_GRPO_DATA/sub/p.jsonl"),
        ("work/p.jsonl", "p.jsonl"),
        ("home/p.jsonl.gz", "~/p.jsonl.gz"),
    ],
)
def test_paths_are_found(folder: Path, place: str, path: str) -> None:
    write_problems(folder.parent / place, PROBLEMS)
    assert load_source(DataSource("jsonl", path)) == PROBLEMS


def test_a_home_sign_in_the_variable_is_expanded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_problems(folder.parent / "home" / "p.jsonl", PROBLEMS)
    monkeypatch.setenv("AFLOW_GRPO_DATA", "~")
    assert load_source(DataSource("jsonl", "p.jsonl")) == PROBLEMS


def test_the_working_directory_comes_first(folder: Path) -> None:
    write_problems(folder / "p.jsonl", PROBLEMS[:1])
    write_problems("p.jsonl", PROBLEMS[1:2])
    assert load_source(DataSource("jsonl", "p.jsonl")) == PROBLEMS[1:2]


def test_a_missing_file_names_every_place(folder: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_source(DataSource("gsm8k", "gsm8k/train.jsonl"))
    message = str(caught.value)
    assert str(folder.parent / "work" / "gsm8k/train.jsonl") in message
    assert str(folder / "gsm8k/train.jsonl") in message
    assert f"AFLOW_GRPO_DATA is {folder}" in message


def test_without_the_variable_the_message_says_to_set_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AFLOW_GRPO_DATA")
    with pytest.raises(DataError, match="AFLOW_GRPO_DATA is not set: set it to the folder"):
        load_source(DataSource("mbpp", "$AFLOW_GRPO_DATA/mbpp.jsonl"))


def test_a_folder_is_no_file(folder: Path) -> None:
    (folder / "gsm8k").mkdir(parents=True)
    with pytest.raises(DataError, match="no such file"):
        load_source(DataSource("gsm8k", "gsm8k"))


@pytest.mark.parametrize("split", ["train", "val"])
def test_generated_problems_are_fresh_and_repeatable(split: Any) -> None:
    splits: list[Any] = ["train", "val", "test"]
    shipped = {p.text for s in splits for p in load_source(DataSource("sample", split=s))}
    spec = DataSource("generated", split=split, limit=60, seed=5)
    problems = load_source(spec)
    assert len(problems) == 60 and load_source(spec) == problems
    assert not shipped & {p.text for p in problems}
    assert load_source(DataSource("generated", split=split, limit=60, seed=6)) != problems


@pytest.mark.parametrize(("limit", "count"), [(0, 5), (2, 2), (9, 5)])
def test_a_limit_takes_the_first(folder: Path, limit: int, count: int) -> None:
    write_problems("p.jsonl", PROBLEMS)
    assert load_source(DataSource("jsonl", "p.jsonl", limit=limit)) == PROBLEMS[:count]


@given(st.integers(0, 7), st.integers(0, 7))
def test_skip_and_limit_cut_a_file_into_disjoint_parts(
    tmp_path_factory: pytest.TempPathFactory, skip: int, limit: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "p.jsonl"
    write_problems(path, PROBLEMS)
    spec = DataSource("jsonl", str(path), skip=skip, limit=limit)
    if skip >= len(PROBLEMS):
        with pytest.raises(DataError, match=f"5 problems to take from and skip is {skip}.*lower"):
            load_source(spec)
        return
    taken = load_source(spec)
    assert taken == [p for at, p in enumerate(PROBLEMS) if skip <= at < skip + (limit or 9)]


def test_problems_of_another_file_are_excluded_whatever_their_ids(folder: Path) -> None:
    """Text decides, without regard to blanks; `skip` and `limit` count what is left."""
    write_problems(folder / "all.jsonl", PROBLEMS)
    held_out = [replace(PROBLEMS[1], id="x", question=" 1  +\n1?"), replace(PROBLEMS[4], id="y")]
    write_problems(folder / "val.jsonl", [*held_out, replace(PROBLEMS[0], context="Other.")])
    spec = DataSource("jsonl", "all.jsonl", exclude="val.jsonl")
    assert load_source(spec) == [PROBLEMS[0], PROBLEMS[2], PROBLEMS[3]]
    assert load_source(replace(spec, skip=1, limit=1)) == [PROBLEMS[2]]
    with pytest.raises(DataError, match=r"'none\.jsonl': no such file"):
        load_source(replace(spec, exclude="none.jsonl"))
    with pytest.raises(DataError, match=r"all\.jsonl: 0 problems to take from"):
        load_source(replace(spec, exclude="all.jsonl"))


def test_code_tasks_are_excluded_by_number(folder: Path) -> None:
    row = {
        "text": "Add.", "code": "def add(a, b): return a + b", "task_id": 1,
        "test_setup_code": "", "test_list": ["assert add(1, 2) == 3", "assert add(1, 1) == 2"],
    }  # fmt: skip
    rows = [row | {"task_id": number} for number in range(4)]
    folder.mkdir()
    (folder / "all.json").write_text(json.dumps(rows))
    (folder / "val.json").write_text(json.dumps([rows[2] | {"text": "Add two numbers."}]))
    problems = load_source(DataSource("mbpp", "all.json", exclude="val.json"))
    assert [p.id for p in problems] == ["mbpp/train/0", "mbpp/train/1", "mbpp/train/3"]


def test_math_takes_a_folder(folder: Path) -> None:
    (folder / "MATH/train/algebra").mkdir(parents=True)
    row = {"problem": "1 + 1?", "level": "Level 1", "solution": "\\boxed{2}"}
    (folder / "MATH/train/algebra/7.json").write_text(json.dumps(row))
    (problem,) = load_source(DataSource("math", "MATH/train", split="test"))
    assert (problem.id, problem.answer) == ("math/test/algebra/7", "2")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (
            {"dataset": "gsm9k", "path": "x"},
            "dataset is 'gsm9k', expected one of sample, generated",
        ),
        ({"dataset": "sample", "split": "dev"}, "split is 'dev', expected one of train, val, test"),
        ({"dataset": "sample", "limit": -1}, "limit is -1, expected 0"),
        ({"dataset": "sample", "path": "x.jsonl"}, "path is 'x.jsonl', expected none for `sample`"),
        ({"dataset": "generated"}, "limit is 0, expected how many problems to make"),
        ({"dataset": "generated", "path": "x"}, "path is 'x', expected none for `generated`"),
        ({"dataset": "sample", "skip": -1}, "skip is -1, expected 0 or more problems"),
        ({"dataset": "generated", "limit": 1, "skip": 2}, "skip is 2, expected 0 for `generated`"),
        ({"dataset": "sample", "exclude": "x"}, "exclude is 'x', expected none for `sample`"),
        ({"dataset": "drop", "path": "x", "public_tests": "y"}, "is 'y', expected none for drop"),
        ({"dataset": "gsm8k"}, "path is '', expected the file of the gsm8k problems"),
        ({"dataset": "jsonl", "path": "x", "public_tests": "y"}, "public_tests is 'y', expected n"),
    ],
)
def test_contradictory_settings_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        DataSource(**settings)


@pytest.mark.parametrize(
    ("given_name", "reader"),
    [*HUB_NAMES.items(), ("OPENAI/GSM8K", "gsm8k"), ("GSM8K", "gsm8k"), ("sample", "sample")],
)
def test_a_data_set_is_known_by_its_names(given_name: str, reader: str) -> None:
    path = "" if reader == "sample" else "x.jsonl"
    assert DataSource(given_name, path).reader == reader == canonical(given_name)


@pytest.mark.parametrize(
    ("given_name", "nearest"),
    [
        ("gsm9k", "gsm8k"),
        ("openai/gsm8", "openai/gsm8k"),
        ("huggingfaceh4/math500", "HuggingFaceH4/MATH-500"),
        ("google-research/mbpp", "google-research-datasets/mbpp"),
        ("hotpot_q", "hotpot_qa"),
    ],
)
def test_an_unknown_name_is_told_the_nearest(given_name: str, nearest: str) -> None:
    with pytest.raises(ConfigError) as caught:
        DataSource(given_name, "x.jsonl")
    message = str(caught.value)
    assert f"dataset is {given_name!r}, expected one of sample" in message
    assert f"Did you mean {nearest!r}?" in message
    assert all(name in message for name in HUB_NAMES)


@pytest.mark.parametrize("name", ["", "mytask", "\ud800", "../gsm"])
def test_a_name_like_no_other_is_told_of_jsonl(name: str) -> None:
    with pytest.raises(ConfigError, match=r"Your own task is dataset jsonl, see docs/data\.md\."):
        DataSource(name, "x.jsonl")


def test_several_sources_follow_one_another_without_doubles(folder: Path) -> None:
    write_problems("a.jsonl", PROBLEMS[:2])
    write_problems("b.jsonl", PROBLEMS[2:])
    write_problems("c.jsonl", PROBLEMS[1:3])
    a, b, c = (DataSource("jsonl", f"{name}.jsonl") for name in "abc")
    assert load_sources([a, b]) == PROBLEMS
    with pytest.raises(DataError, match=r"c\.jsonl: id 'own/1' is also in an earlier source"):
        load_sources([a, c])


def test_real_files_are_found_through_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.environ.get("AFLOW_GRPO_DATA"):
        pytest.skip("AFLOW_GRPO_DATA is not set: no real data sets here")
    spec = DataSource(
        "mbpp", "aflow_format/mbpp_validate.jsonl", "val",
        public_tests="aflow_format/mbpp_public_test.jsonl",
    )  # fmt: skip
    problems = load_sources([spec, DataSource("gsm8k", "gsm8k/train.jsonl", limit=10)])
    assert len(problems) == 96


CONFIGS = Path(__file__).resolve().parents[2] / "configs"
REAL = ["real", "six", *(f"data/{path.stem}" for path in sorted((CONFIGS / "data").glob("*.yaml")))]


@pytest.mark.parametrize("name", REAL)
def test_checked_in_configs_load_and_keep_their_parts_disjoint(name: str) -> None:
    if not os.environ.get("AFLOW_GRPO_DATA"):
        pytest.skip("AFLOW_GRPO_DATA is not set: no real data sets here")
    data = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))["data"]
    parts = {
        split: load_sources(DataSource(**source) for source in data[split])
        for split in ("train", "val", "test")
    }
    shares = data["mix"]
    for problems in parts.values():
        domains = {problem.domain for problem in problems}
        assert domains == {domain for domain, share in shares.items() if share}
    # Code is compared by its number, since files word one task differently.
    known = [
        {p.id.replace(f"/{split}/", "/") if p.domain == "code" else " ".join(p.text.split())
         for p in problems}
        for split, problems in parts.items()
    ]  # fmt: skip
    assert not known[0] & known[1] and not known[0] & known[2] and not known[1] & known[2]
