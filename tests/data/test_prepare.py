"""Folders of prepared data: what is in them, that they come whole, that they repeat bit by bit."""

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from aflow_grpo.data.catalogue import CATALOGUE, benchmark
from aflow_grpo.data.inputs import data_folder, from_folder, held_out_sets
from aflow_grpo.data.jsonl import read_problems
from aflow_grpo.data.prepare import Prepared, check_target, deal_out, write_prepared
from aflow_grpo.data.splits import Shares
from aflow_grpo.errors import ConfigError, DataError

_NAMES = ["Ann", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hal", "Ida", "Jon"]
_THINGS = ["apples", "pears", "plums", "nuts", "eggs", "figs"]


def _gsm8k(folder: Path, questions: Sequence[str], file: str = "gsm8k/train.jsonl") -> None:
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"question": q, "answer": f"#### {n}"} for n, q in enumerate(questions)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _questions() -> list[str]:
    return [
        f"{name} buys some {thing} at the {name} market and eats {n} {thing}; how many are left?"
        for name in _NAMES
        for n, thing in enumerate(_THINGS)
    ]


def _prepared(folder: Path, **shares: Any) -> Prepared:
    entry = benchmark("gsm8k")
    origin, inputs = from_folder(entry, folder)
    return deal_out(entry, origin, inputs, held_out_sets(folder, inputs), Shares(**shares))


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_problem_that_was_read_is_in_one_split_or_removed(tmp_path: Path) -> None:
    questions = _questions()
    # A copy must have the answer too: row 60 repeats row 0 with another one, so it is kept.
    _gsm8k(tmp_path, [*questions, questions[0].upper()])
    _gsm8k(tmp_path, [questions[7].replace(" ", "\t")], "aflow_format/gsm8k_validate.jsonl")
    prepared = _prepared(tmp_path)
    kept = [p.id for found in prepared.splits.named().values() for p in found]
    assert len(kept) + len(prepared.removed) == 61
    assert set(kept) | prepared.removed == {f"gsm8k/train/{n}" for n in range(61)}
    assert prepared.outside.leaking == {"gsm8k/train/7"}
    place = {p.id: name for name, found in prepared.splits.named().items() for p in found}
    assert place["gsm8k/train/0"] == place["gsm8k/train/60"]


def test_the_manifest_tells_what_is_there(tmp_path: Path) -> None:
    _gsm8k(tmp_path, _questions())
    _gsm8k(tmp_path, [_questions()[3]], "aflow_format/gsm8k_validate.jsonl")
    target = write_prepared(_prepared(tmp_path), tmp_path / "out")
    manifest = json.loads((target / "manifest.json").read_text())
    assert manifest["licence"] == "MIT"
    assert manifest["origin"]["kind"] == "folder"
    assert str(tmp_path) not in (target / "manifest.json").read_text()
    (read,) = manifest["inputs"]
    raw = (tmp_path / "gsm8k/train.jsonl").read_bytes()
    assert (read["file"], read["problems"]) == ("gsm8k/train.jsonl", 60)
    assert read["sha256"] == hashlib.sha256(raw).hexdigest()
    for split in ("train", "val", "test"):
        path = target / f"{split}.jsonl"
        noted = manifest["outputs"][path.name]
        assert noted["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert noted["problems"] == len(read_problems(path)) == manifest["counts"][split]
    n = manifest["counts"]
    removed = n["copies_removed"] + n["leaks_removed_from_pool"] + n["leaks_removed_from_train"]
    assert n["rows"] == n["train"] + n["val"] + n["test"] + removed + n["bad_rows"]
    (leaked,) = (s for s in manifest["leaks"]["held_out"] if s["given_away"])
    assert (leaked["set"], leaked["given_away"]) == ("aflow_format/gsm8k_validate.jsonl", 1)
    assert "official test set" in manifest["known_overlaps"][0]


def test_a_rerun_makes_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    _gsm8k(tmp_path, _questions())
    first = _bytes(write_prepared(_prepared(tmp_path), tmp_path / "a"))
    assert first == _bytes(write_prepared(_prepared(tmp_path), tmp_path / "b"))
    other = _bytes(write_prepared(_prepared(tmp_path, seed=1), tmp_path / "c"))
    assert first["val.jsonl"] != other["val.jsonl"]


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    _gsm8k(tmp_path, _questions())
    target = write_prepared(_prepared(tmp_path), tmp_path / "out")
    before = _bytes(target)
    with pytest.raises(DataError, match="add --overwrite"):
        write_prepared(_prepared(tmp_path, seed=1), tmp_path / "out")
    assert _bytes(target) == before
    write_prepared(_prepared(tmp_path, seed=1), tmp_path / "out", overwrite=True)
    assert _bytes(target) != before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["gsm8k"]


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    _gsm8k(tmp_path, _questions())
    (tmp_path / "out/gsm8k").mkdir(parents=True)
    (tmp_path / "out/gsm8k/thesis.tex").write_text("mine")
    with pytest.raises(DataError, match=r"found thesis\.tex"):
        write_prepared(_prepared(tmp_path), tmp_path / "out", overwrite=True)
    assert (tmp_path / "out/gsm8k/thesis.tex").read_text() == "mine"


_KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_prepare as t
from aflow_grpo.data import prepare
rename, count = Path.rename, 0
def dying(self, target):
    global count
    count += 1
    if count == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)
Path.rename = dying
root = Path({root!r})
prepare.write_prepared(t._prepared(root, seed=1), root / "out", overwrite=True)
"""


@pytest.mark.parametrize("at", [1, 2])
def test_a_killed_run_leaves_whole_files(tmp_path: Path, at: int) -> None:
    _gsm8k(tmp_path, _questions())
    before = _bytes(write_prepared(_prepared(tmp_path), tmp_path / "out"))
    code = _KILLED.format(tests=str(Path(__file__).parent), at=at, root=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    # Between the two renames the earlier files are in a folder beside; a rerun puts them back.
    target = tmp_path / "out/gsm8k"
    found = target if target.exists() else tmp_path / "out/.gsm8k.previous"
    assert _bytes(found) == before
    with pytest.raises(DataError, match="add --overwrite"):
        write_prepared(_prepared(tmp_path, seed=1), tmp_path / "out")
    assert _bytes(target) == before
    write_prepared(_prepared(tmp_path, seed=1), tmp_path / "out", overwrite=True)
    assert _bytes(target) != before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["gsm8k"]


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "gsm8k").write_text("")
    with pytest.raises(DataError, match="found a file, expected a folder"):
        check_target(tmp_path / "gsm8k", overwrite=True)


def test_held_out_files_alone_go_to_validation_and_test(tmp_path: Path) -> None:
    _gsm8k(tmp_path, _questions(), "aflow_format/gsm8k_validate.jsonl")
    target = write_prepared(_prepared(tmp_path), tmp_path / "out")
    assert sorted(_bytes(target)) == ["manifest.json", "test.jsonl", "val.jsonl"]
    assert len(read_problems(target / "val.jsonl")) == 30


def test_rows_of_two_files_that_are_numbered_alike_keep_apart(tmp_path: Path) -> None:
    _gsm8k(tmp_path, _questions()[:30], "gsm8k/test.jsonl")
    _gsm8k(tmp_path, _questions()[30:], "aflow_format/gsm8k_validate.jsonl")
    _, inputs = from_folder(benchmark("gsm8k"), tmp_path)
    ids = [problem.id for i in inputs for problem in i.problems]
    assert ids[0] == "gsm8k/val/gsm8k-test/0"
    assert len(set(ids)) == 60


def test_every_benchmarks_held_out_file_counts(tmp_path: Path) -> None:
    _gsm8k(tmp_path, _questions())
    path = tmp_path / "aflow_format/math_validate.jsonl"
    path.parent.mkdir()
    row = {"problem": _questions()[5], "solution": "\\boxed{1}", "level": "Level 5"}
    path.write_text(json.dumps(row))
    (leak,) = _prepared(tmp_path).outside.leaks
    assert (leak.problem, leak.source) == ("gsm8k/train/5", "aflow_format/math_validate.jsonl")


def test_the_order_of_the_names_makes_no_difference(tmp_path: Path) -> None:
    _gsm8k(tmp_path, _questions()[:9], "gsm8k/test.jsonl")
    _gsm8k(tmp_path, _questions()[9:], "aflow_format/gsm8k_validate.jsonl")
    _, inputs = from_folder(benchmark("gsm8k"), tmp_path)
    assert [*held_out_sets(None, inputs)] == [*held_out_sets(None, inputs[::-1])]
    assert [*held_out_sets(tmp_path, inputs)] == sorted(i.name for i in inputs)
    renamed = [dataclasses.replace(i, name="test.parquet") for i in inputs]
    assert len(held_out_sets(None, renamed)) == 2


def test_a_bad_row_is_skipped_and_noted_but_never_a_held_out_one(tmp_path: Path) -> None:
    _gsm8k(tmp_path, _questions())
    with (tmp_path / "gsm8k/train.jsonl").open("a") as file:
        file.write('{"question": "How many?", "answer": "#### many"}\n')
    entry = benchmark("gsm8k")
    with pytest.raises(DataError, match="line 61"):
        from_folder(entry, tmp_path)
    (found,) = from_folder(entry, tmp_path, "skip")[1]
    assert len(found.problems) == 60
    assert "gsm8k/train.jsonl, line 61" in found.bad_rows[0]
    assert str(tmp_path) not in found.bad_rows[0]
    held = tmp_path / "aflow_format/gsm8k_validate.jsonl"
    held.parent.mkdir()
    held.write_text('{"question": "A?", "answer": "1"}\n{"question": "B?", "answer": "none"}\n')
    with pytest.raises(DataError, match="line 2"):
        from_folder(entry, tmp_path, "skip")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("GSM8K", "gsm8k"), ("openai/gsm8k", "gsm8k"), ("ucinlp/drop", "drop"), (" math ", "math")],
)
def test_names(name: str, meant: str) -> None:
    assert benchmark(name).name == meant


@pytest.mark.parametrize(("name", "nearest"), [("gsm8", "gsm8k"), ("hotpot", "hotpotqa")])
def test_a_wrong_name_gets_the_nearest_one(name: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}.*did you mean {nearest}\?"):
        benchmark(name)


def test_a_name_like_none_is_told_all() -> None:
    with pytest.raises(ConfigError, match=r"no benchmark '世界', expected one of gsm8k, math"):
        benchmark("世界")


def test_no_name_means_two_benchmarks() -> None:
    names = [name.casefold() for entry in CATALOGUE.values() for name in entry.names]
    assert len(set(names)) == len(names)


def test_a_folder_without_the_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"no file of mbpp.*mbpp/mbpp_pool\.jsonl.*--source hub"):
        from_folder(benchmark("mbpp"), tmp_path)
    monkeypatch.setenv("AFLOW_GRPO_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"AFLOW_GRPO_DATA is .*no such folder"):
        data_folder("")


@pytest.mark.skipif("AFLOW_GRPO_DATA" not in os.environ, reason="AFLOW_GRPO_DATA is not set")
def test_the_real_code_benchmarks(tmp_path: Path) -> None:
    folder = Path(os.environ["AFLOW_GRPO_DATA"])
    held_out = held_out_sets(folder)
    assert len(held_out) == 6
    for name in ("mbpp", "humaneval"):
        origin, inputs = from_folder(benchmark(name), folder)
        prepared = deal_out(benchmark(name), origin, inputs, held_out, Shares())
        target = write_prepared(prepared, tmp_path)
        assert (target / "train.jsonl").exists() == (name == "mbpp")
        ids = {p.id.rpartition("/")[2] for p in prepared.splits.train}
        assert ids.isdisjoint(
            p.id.rpartition("/")[2] for p in held_out[f"aflow_format/{name}_validate.jsonl"]
        )
