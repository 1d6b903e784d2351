"""Malformed rows: they stop with their place, or are skipped, counted and listed; nothing else."""

from __future__ import annotations

import copy
import gzip
import json
import logging
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aflow_grpo.data.rows import BadRow, RowError, problems_from, read_items
from aflow_grpo.data.sources import DataSource, load_source, read_source, read_sources
from aflow_grpo.errors import ConfigError, DataError
from aflow_grpo.training.datamodule import WorkflowDataModule

GSM = {"question": "1 + 1?", "answer": "#### 2", "id": "a"}
MATH = {"problem": "1 + 1?", "solution": "$\\boxed{2}$", "level": "Level 2", "idx": 1}
MBPP = {
    "task_id": 7, "text": "Add.", "code": "def add(a, b=1):\n    return a + b",
    "test_setup_code": "import re", "test_list": ["assert add(1) == 2", "assert add(2) == 3"],
}  # fmt: skip
AFLOW_MBPP = {
    "task_id": 8, "prompt": "Add.", "code": "def add(a, b=1):\n    return a + b",
    "test_imports": ["import re"], "test_list": ["assert add(1) == 2", "assert add(2) == 3"],
    "entry_point": "add",
}  # fmt: skip
HUMANEVAL = {
    "task_id": "HumanEval/1",
    "prompt": 'def inc(x):\n    """ one more\n    >>> inc(1)\n    2\n"""\n',
    "canonical_solution": "    return x + 1\n", "entry_point": "inc",
    "test": "def check(candidate):\n    assert candidate(1) == 2\n",
}  # fmt: skip
HOTPOT = {
    "id": "x", "question": "Who?", "answer": "Ada", "level": "easy",
    "context": {"title": ["Zoo"], "sentences": [["Zoo is."]]},
}  # fmt: skip
HUB_DROP = {
    "query_id": "q", "passage": "P.", "question": "How many?",
    "answers_spans": {"spans": ["3", "three"], "types": ["number", "span"]},
}  # fmt: skip
TEXT_DROP = {"context": "Passage: P\nQuestion: Q?\nAnswer:", "completion": "3", "ref_text": "3|4"}
OWN: dict[str, Any] = {
    "id": "c", "dataset": "d", "domain": "code", "question": "Write f.", "answer": "",
    "alternatives": [], "context": "", "entry_point": "f", "test_setup": "", "difficulty": 1,
    "public_tests": ["assert f(1) == 1"], "hidden_tests": ["assert f(2) == 2"],
}  # fmt: skip
QA = OWN | {"id": "m", "domain": "qa", "answer": "2", "alternatives": ["two"]}
ROWS: list[tuple[str, dict[str, Any]]] = [
    ("gsm8k", GSM), ("math", MATH), ("mbpp", MBPP), ("mbpp", AFLOW_MBPP), ("humaneval", HUMANEVAL),
    ("hotpotqa", HOTPOT), ("drop", HUB_DROP), ("drop", TEXT_DROP), ("jsonl", OWN), ("jsonl", QA),
]  # fmt: skip
PAIR = {
    "query_id": "q1", "question": "How many?",
    "answer": {"number": "", "spans": ["A", "B"], "date": {"day": "1", "month": "May", "year": ""}},
    "validated_answers": [{"number": "", "spans": [], "date": {"day": "1", "year": "2"}}],
}  # fmt: skip

Keys = tuple[str | int, ...]


def places(value: Any, keys: Keys = ()) -> Iterator[Keys]:
    """The keys that lead to every part of a value, itself apart."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in items:
        yield (*keys, key)
        if isinstance(part, dict | list):
            yield from places(part, (*keys, key))


def put(row: dict[str, Any], keys: Keys, value: Any) -> dict[str, Any]:
    """A copy of the row with another value at one place."""
    changed: Any = copy.deepcopy(row)
    part = changed
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    return dict(changed)


def other(row: dict[str, Any]) -> dict[str, Any]:
    """The row under another id."""
    for name in ("task_id", "query_id", "idx", "id"):
        if name in row:
            return row | {name: 99 if isinstance(row[name], int) else "HumanEval/99"}
    return row


_DEEP_CODE = st.sampled_from(
    ["1" + "+1" * 3000, "(" * 300, "-" * 2000 + "1", "def f(): return " + "[" * 90 + "]" * 90,
     "assert f(" + ".a" * 10 + ")", "x\0", "return", "assert inc(1)", "def add(): yield\nassert 1"]
    + [f"def inc(x):\n  '''\n  >>> inc(1)\n  {want}\n  '''\n" for want in ("{[]: 1}", "1_", "--1")]
)  # fmt: skip
_TEXT = st.text(st.characters(), max_size=12) | _DEEP_CODE  # half characters too
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=5,
)
_CASES = [(dataset, row, keys) for dataset, row in ROWS for keys in places(row)]


def read_or_refused(folder: Path, case: tuple[str, dict[str, Any], Keys], value: Any) -> int:
    """Reads a good row and one with that value; the number of problems, after checking both ways.

    A row is refused with its place and field, or skipped as one; nothing else is raised.
    """
    dataset, row, keys = case
    path = folder / "rows.jsonl"
    path.write_text(f"{json.dumps(other(row))}\n{json.dumps(put(row, keys, value))}\n")
    try:
        count = len(load_source(DataSource(dataset, str(path))))
    except DataError as error:
        count = 1
        assert re.search(r"rows\.jsonl, line 2(, [\w ]+)?, field '\w+': found ", str(error))
        str(error).encode()
    else:
        assert count == 2
    loaded = read_source(DataSource(dataset, str(path), on_bad_row="skip"))
    assert len(loaded.problems) == count
    assert len(loaded.bad_rows) == 2 - count
    return count


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(_CASES), _JSON)
def test_any_value_in_any_field_is_read_or_refused_with_its_place(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[str, dict[str, Any], Keys], value: Any
) -> None:
    read_or_refused(tmp_path_factory.mktemp("any"), case, value)


@pytest.mark.parametrize(
    ("dataset", "row", "keys", "value", "count"),
    [
        *(("gsm8k", GSM, ("question",), json.loads("[" * n + "]" * n), 1) for n in (300, 600, 900)),
        ("gsm8k", GSM, ("id",), 10**4200, 2),
        ("math", MATH, ("level",), 10**4200, 2),
        ("drop", HUB_DROP, ("query_id",), float("nan"), 1),
        ("jsonl", OWN, ("hidden_tests", 0), "assert " + "1+" * 3000 + "f(1)", 1),
        ("mbpp", MBPP, ("code",), "def add(a):\n    return " + "-" * 900 + "a", 1),
        *(
            ("humaneval", HUMANEVAL, ("prompt",), HUMANEVAL["prompt"].replace("2\n", want), 2)
            for want in ("{[]: 1}\n", "1_\n", "-" * 5000 + "1\n", "(" * 999 + "\n", "\\0\n")
        ),
    ],
    ids=lambda value: str(value)[:20],
)
def test_monstrous_values_too(
    tmp_path: Path, dataset: str, row: dict[str, Any], keys: Keys, value: Any, count: int
) -> None:
    assert read_or_refused(tmp_path, (dataset, row, keys), value) == count


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([*places(PAIR)]), _JSON)
def test_the_same_of_drop_as_published(
    tmp_path_factory: pytest.TempPathFactory, keys: Keys, value: Any
) -> None:
    pairs = [PAIR | {"query_id": "first"}, put(PAIR, keys, value)]
    path = tmp_path_factory.mktemp("any") / "drop.json"
    path.write_text(json.dumps({"p": {"passage": "P", "qa_pairs": pairs}}))
    try:
        count = len(load_source(DataSource("drop", str(path))))
    except DataError as error:
        count = 1
        where = r"drop\.json, passage 'p', question 2(, [\w ]+)*, field '\w+': found "
        assert re.search(where, str(error))
    loaded = read_source(DataSource("drop", str(path), on_bad_row="skip"))
    assert (len(loaded.problems), len(loaded.bad_rows)) == (count, 2 - count)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=20) | st.just(b'{"question": "1?", "answer": "1"}'), max_size=6))
def test_any_bytes_are_rows_bad_rows_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("any") / "rows.jsonl"
    path.write_bytes(b"\n".join(lines))
    try:
        loaded = read_source(DataSource("gsm8k", str(path), on_bad_row="skip"))
    except DataError as error:
        assert "rows.jsonl" in str(error)
        return
    assert loaded.problems
    if not loaded.bad_rows:
        assert load_source(DataSource("gsm8k", str(path))) == loaded.problems


BAD_LINES = [
    ("{not json", "found str '{not json', expected one JSON object per line"),
    ('{"question": "1?", "answer": "1"', "expected one JSON object per line"),
    ("7", "found int 7, expected an object"),
    ('{"answer": "1"}', "field 'question': found no such field"),
    ('{"question": "1?", "answer": 1}', "field 'answer': found int 1, expected a string"),
    ('{"question": "1?", "answer": "####"}', "field 'answer': found '', expected a number"),
    ('{"question": "2?", "answer": "2", "id": "0"}', "found 'gsm8k/train/0' again, expected one n"),
    ('{"quest\\ud800ion": "1?", "answer": "1"}', "field 'question': found no such field"),
]
GOOD = '{"question": "1?", "answer": "1"}'


@pytest.mark.parametrize(("line", "complaint"), BAD_LINES)
def test_a_bad_row_stops_or_is_skipped(tmp_path: Path, line: str, complaint: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{GOOD}\n\n{line}\r\n{GOOD}\n")
    with pytest.raises(DataError) as caught:
        load_source(DataSource("gsm8k", str(path)))
    assert f"{path}, line 3" in str(caught.value) and complaint in str(caught.value)
    loaded = read_source(DataSource("gsm8k", str(path), on_bad_row="skip"))
    # The third row keeps the name that it has in the mended file.
    assert [p.id for p in loaded.problems] == ["gsm8k/train/0", "gsm8k/train/2"]
    assert loaded.bad_rows == (BadRow(path, "line 3", str(caught.value)),)
    assert loaded.bad_rows[0].message.encode()


def test_the_row_of_an_array_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(f"[{GOOD}, null, {GOOD}]")
    loaded = read_source(DataSource("gsm8k", str(path), on_bad_row="skip"))
    assert [row.place for row in loaded.bad_rows] == ["row 2"] and len(loaded.problems) == 2


def test_a_passage_without_text_costs_its_own_questions_only(tmp_path: Path) -> None:
    good = {"passage": "P", "qa_pairs": [PAIR]}
    other_pair = PAIR | {"query_id": "q2"}
    whole = {
        "a": "text", "b": {"passage": " ", "qa_pairs": [PAIR]}, "c": {"passage": "P"}, "d": good,
        "e": good, "f": {"passage": "P", "qa_pairs": [PAIR | {"answer": {}}, other_pair]},
    }  # fmt: skip
    path = tmp_path / "drop.json"
    path.write_text(json.dumps(whole))
    loaded = read_source(DataSource("drop", str(path), on_bad_row="skip"))
    assert [p.id for p in loaded.problems] == ["drop/train/q1", "drop/train/q2"]
    fields = [re.findall(r"field '(\w+)'", row.message)[0] for row in loaded.bad_rows]
    assert fields == ["a", "passage", "qa_pairs", "id", "id"]


def test_one_bad_file_of_math_s_folder_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "algebra").mkdir()
    for name, text in (("1", json.dumps(MATH)), ("2", "{"), ("3", json.dumps(MATH, indent=1))):
        (tmp_path / "algebra" / f"{name}.json").write_text(text)
    with pytest.raises(DataError, match=r"algebra/2\.json, line 1"):
        load_source(DataSource("math", str(tmp_path)))
    loaded = read_source(DataSource("math", str(tmp_path), on_bad_row="skip"))
    assert [p.id for p in loaded.problems] == ["math/train/algebra/1", "math/train/algebra/3"]
    assert [row.path.name for row in loaded.bad_rows] == ["2.json"]


@pytest.mark.parametrize(
    ("name", "raw", "complaint"),
    [
        ("r.jsonl", b"{}\n7\n[", "found 3 bad rows and no good one, expected some problems"),
        ("r.jsonl", b"", "the file is empty"),
        ("r.jsonl", GOOD.encode() + b"\n\xff\n", "not UTF-8"),
        ("r.json", b"[" + GOOD.encode() + b", ", "no whole JSON array"),
        ("r.json", b"[]", "the array is empty"),
        ("r.jsonl.gz", gzip.compress(GOOD.encode(), mtime=0)[:-6], "cannot be read"),
        ("r.parquet", b"PAR1", "cannot be read as Parquet"),
    ],
)
def test_a_file_that_is_bad_as_a_whole_always_stops(
    tmp_path: Path, name: str, raw: bytes, complaint: str
) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(DataError, match=complaint):
        read_source(DataSource("gsm8k", str(tmp_path / name), on_bad_row="skip"))
    with pytest.raises(DataError, match="no such file"):
        read_source(DataSource("gsm8k", str(tmp_path / "none"), on_bad_row="skip"))


def test_held_out_problems_and_public_tests_are_never_skipped(tmp_path: Path) -> None:
    (tmp_path / "all.jsonl").write_text(f"{GOOD}\n{GOOD.replace('1?', '2?')}\n")
    (tmp_path / "val.jsonl").write_text(f"{GOOD}\n{{}}\n")
    spec = DataSource(
        "gsm8k", str(tmp_path / "all.jsonl"), exclude=str(tmp_path / "val.jsonl"), on_bad_row="skip"
    )
    with pytest.raises(DataError, match=r"val\.jsonl, line 2, field 'question'"):
        read_source(spec)
    (tmp_path / "mbpp.jsonl").write_text(json.dumps(MBPP))
    (tmp_path / "public.jsonl").write_text('{"entry_point": "add", "test": "x"}')
    spec = DataSource(
        "mbpp", str(tmp_path / "mbpp.jsonl"), public_tests=str(tmp_path / "public.jsonl"),
        on_bad_row="skip",
    )  # fmt: skip
    with pytest.raises(DataError, match=r"public\.jsonl, line 1, field 'test': found str 'x'"):
        read_source(spec)


def test_the_first_ten_are_listed_and_all_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, bad in (("a", 12), ("b", 1), ("c", 0)):
        rows = "".join(f'{GOOD[:-1]}, "id": "{name}"}}\n' + "7\n" * bad)
        (tmp_path / f"{name}.jsonl").write_text(rows)
    specs = [DataSource("gsm8k", str(tmp_path / f"{n}.jsonl"), on_bad_row="skip") for n in "abc"]
    with caplog.at_level(logging.WARNING):
        loaded = read_sources(specs)
    assert (len(loaded.problems), len(loaded.bad_rows)) == (3, 13)
    first, second = [record.getMessage().splitlines() for record in caplog.records]
    assert first[0].endswith("a.jsonl (gsm8k): skipped 12 bad rows")
    assert len(first) == 12 and "a.jsonl, line 11: found int 7" in first[10]
    assert first[11].strip() == "and 2 more"
    assert len(second) == 2 and second[0].endswith("skipped 1 bad row")


def test_the_data_module_counts_them_per_split(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(f"{GOOD}\n7\n{{}}\n")
    source = [DataSource("gsm8k", str(tmp_path / "rows.jsonl"), on_bad_row="skip")]
    module = WorkflowDataModule(val=source)
    module.setup("validate")
    assert (len(module.problems("val")), module.bad_row_count("val")) == (1, 2)
    assert (module.bad_row_count("train"), module.bad_row_count("test")) == (0, 0)


def test_only_stop_and_skip_are_known() -> None:
    values: Any = "ignore"
    with pytest.raises(ConfigError, match="on_bad_row is 'ignore', expected one of stop, skip"):
        DataSource("sample", on_bad_row=values)


def test_an_error_of_a_row_travels_between_processes(tmp_path: Path) -> None:
    error = RowError("f.jsonl, line 1: \ud800", tmp_path, "line 1")
    back = pickle.loads(pickle.dumps(error))
    assert (str(back), back.path, back.place) == ("f.jsonl, line 1: \\ud800", tmp_path, "line 1")


def test_faults_of_ours_are_not_taken_for_bad_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(GOOD)
    make: Callable[..., Any] = lambda row, index: 1 // 0  # noqa: E731
    with pytest.raises(ZeroDivisionError):
        problems_from(read_items(tmp_path / "rows.jsonl"), make, [])
