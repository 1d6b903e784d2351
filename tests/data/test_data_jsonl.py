"""The unified problem file: round trips, tolerated oddities, and complaints that name the place."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aflow_grpo.data.jsonl import read_problems, write_problems
from aflow_grpo.errors import DataError
from aflow_grpo.records import Problem
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.scoring.scorers import ScorerSet
from aflow_grpo.scoring.settings import ScoringSettings

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "data.md"
MATH = Problem(id="m/1", dataset="d", domain="math", question="1 + 1?", answer="2")
CODE = Problem(
    id="c/1", dataset="d", domain="code", question="Write f.", answer="", entry_point="f",
    test_setup="import math", public_tests=("assert f(1) == 1",),
    hidden_tests=("assert f(2) == 2",), difficulty=3,
)  # fmt: skip
QA = Problem(
    id="q/1", dataset="d", domain="qa", question="Who?", answer="Zoë", alternatives=("Zoe",),
    context="Zoë\u2028did — it.",
)  # fmt: skip


def row(**changes: Any) -> str:
    fields: dict[str, Any] = {
        "id": "m/1", "dataset": "d", "domain": "math", "question": "1 + 1?", "answer": "2",
    }  # fmt: skip
    fields |= changes
    return json.dumps({k: v for k, v in fields.items() if v is not ...})


def _flipped(raw: bytes) -> bytes:
    """Compressed, with one byte of the compressed data wrong."""
    packed = bytearray(gzip.compress(raw))
    packed[10] ^= 0xFF
    return bytes(packed)


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("name", ["p.jsonl", "deep/er/p.jsonl.gz"])
def test_what_is_written_is_read_back(tmp_path: Path, name: str) -> None:
    problems = [MATH, CODE, QA]
    write_problems(tmp_path / name, problems)
    assert read_problems(tmp_path / name) == problems


def test_the_same_problems_give_the_same_bytes_also_when_compressed(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.jsonl.gz"):
        write_problems(tmp_path / name, [MATH, QA])
        first = (tmp_path / name).read_bytes()
        write_problems(tmp_path / name, [MATH, QA])
        assert (tmp_path / name).read_bytes() == first
    assert gzip.decompress(first) == (tmp_path / "a.jsonl").read_bytes()


@given(st.text(min_size=1).filter(str.strip), st.text())
def test_any_text_survives_the_file(
    tmp_path_factory: pytest.TempPathFactory, question: str, context: str
) -> None:
    problem = dataclasses.replace(QA, question=question, context=context)
    path = tmp_path_factory.mktemp("any") / "p.jsonl"
    try:
        question.encode(), context.encode()
    except UnicodeEncodeError:  # a lone surrogate is no text
        return
    write_problems(path, [problem])
    assert read_problems(path) == [problem]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + row() + "\n",
        row() + "\r\n",
        "\n  \n" + row() + "\n\n",
        row(),
        row(alternatives=[], context="", difficulty=0),
    ],
    ids=["byte order mark", "CRLF", "blank lines", "no last newline", "defaults spelt out"],
)
def test_harmless_oddities_are_read(tmp_path: Path, text: str) -> None:
    assert read_problems(write(tmp_path / "p.jsonl", text)) == [MATH]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", r"p\.jsonl: the file is empty, expected one JSON object per line"),
        (" \n\n", "the file is empty"),
        (row() + "\n{not json\n", r"line 2: found str '\{not json', expected one JSON object"),
        ("1\n", r"line 1: found int 1, expected an object; mend or remove it"),
        ("[1]\n", r"p\.jsonl, row 1: found int 1, expected an object"),
        ("[]", "the array is empty, expected objects"),
        ("[" + row() + ",", r"found `\[` first but no whole JSON array \(.*; is the file complete"),
        ("[" * 100_000, r"found `\[` first but no whole JSON array"),
        (row() + "\n" + '{"a":' * 100_000, r"line 2: found str '\{\"a\""),
        ("{\n" + row(), r"line 1: found str '\{', expected one JSON object per line"),
        (row(question="\ud800"), "field 'question': found half of a character"),
        (row(alternatives=["\udfff"]), "field 'alternatives': found half of a character"),
        (row(question=7), "line 1, field 'question': found int 7, expected a string"),
        (row(question="  "), "field 'question': found an empty string, expected text"),
        (row(answer=...), r"field 'answer': found no such field \(the row has: id, dataset"),
        (row(answer=""), "field 'answer': found an empty string, expected the gold answer"),
        (row(domain="maths"), "field 'domain': found str 'maths', expected one of math, code, qa"),
        (row(alternatives="x"), "field 'alternatives': found str 'x', expected a list of strings"),
        (row(alternatives=["x", 1]), "found a list that holds int 1, expected a list of strings"),
        (row(difficulty=4), "field 'difficulty': found int 4, expected 0, 1, 2 or 3"),
        (row(difficulty=True), "field 'difficulty': found bool True"),
        (row(level=4), "field 'level': found an unknown field, expected only id, dataset"),
        (row(qestion="x"), "field 'qestion': found an unknown field, .* difficulty; remove it"),
        (row(hiden_tests=[]), "field 'hiden_tests': .*; did you mean 'hidden_tests'"),
        (row(tests=[]), r"field 'tests': found an unknown field, expected only id.*test"),
        (
            row(question=..., qestion="x"),
            "line 1, field 'qestion': .* did you mean 'question'. Rename",
        ),
        (row(domain="code"), "field 'entry_point': found nothing"),
        (
            row(domain="code", entry_point="f", hidden_tests=["assert f(1) =="]),
            r"field 'hidden_tests': found code that does not parse \(invalid syntax\), expected Py",
        ),
        (
            row(domain="code", entry_point="f", hidden_tests=["x"], public_tests=["print 1"]),
            "field 'public_tests': found code that does not parse",
        ),
        (
            row(domain="code", entry_point="f", hidden_tests=["x"], test_setup="import"),
            "field 'test_setup': found code that does not parse",
        ),
        (row(domain="code", entry_point="f"), "field 'hidden_tests': found nothing"),
        (row() + "\n\n" + row(), r"line 3, field 'id': found 'm/1' again.*line 1 has it"),
    ],
)
def test_a_malformed_file_is_refused_with_its_place(
    tmp_path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint):
        read_problems(write(tmp_path / "p.jsonl", text))


def test_arrays_and_single_objects_are_files_too(tmp_path: Path) -> None:
    other = row(id="m/2")
    assert len(read_problems(write(tmp_path / "p.json", f"[{row()},\n {other}]"))) == 2
    indented = json.dumps(json.loads(row()), indent=2)
    assert read_problems(write(tmp_path / "p.json", f"\ufeff{indented}\r\n")) == [MATH]
    with pytest.raises(DataError, match=r"row 2, field 'id': found 'm/1' again.*row 1 has it"):
        read_problems(write(tmp_path / "p.json", f"[{row()},{row()}]"))
    with pytest.raises(DataError, match=r"p\.json, field 'domain': found str 'x'"):
        read_problems(write(tmp_path / "p.json", json.dumps(json.loads(row(domain="x")), indent=1)))


def test_a_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl: no such file"):
        read_problems(tmp_path / "none.jsonl")


def test_broken_gzip_and_other_encodings_are_data_errors(tmp_path: Path) -> None:
    broken, latin = tmp_path / "b.jsonl.gz", tmp_path / "l.jsonl"
    broken.write_bytes(gzip.compress(row().encode())[:-9])
    latin.write_bytes(row().encode("utf-16"))
    for damaged in (broken.read_bytes(), b"\x1f\x8bno", row().encode(), _flipped(row().encode())):
        broken.write_bytes(damaged)
        with pytest.raises(DataError, match=r"cannot be read .*is the file complete\?"):
            read_problems(broken)
    with pytest.raises(DataError, match="cannot be read"):
        read_problems(tmp_path)
    with pytest.raises(DataError, match="not UTF-8"):
        read_problems(latin)


def examples(language: str) -> list[str]:
    """The blocks of that language in the guide, as they stand there."""
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    return blocks


def test_the_guide_s_examples_are_read_and_their_gold_answers_are_right(tmp_path: Path) -> None:
    problems = read_problems(write(tmp_path / "mytask.jsonl", "".join(examples("json"))))
    assert [problem.domain for problem in problems] == ["math", "code", "qa"]
    assert {problem.dataset for problem in problems} == {"mytask"}

    async def values() -> list[tuple[float, float]]:
        async with Sandbox() as sandbox, ScorerSet(sandbox) as scorers:
            wrong = "I don't know"
            return [
                ((await scorers.score(p, p.answer)).value, (await scorers.score(p, wrong)).value)
                for p in problems
            ]

    assert asyncio.run(values()) == [(1.0, 0.0)] * 3


def test_the_guide_s_scorer_judges_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source,) = examples("python")
    write(tmp_path / "guides_module.py", source)
    monkeypatch.syspath_prepend(tmp_path)
    problem = read_problems(write(tmp_path / "mytask.jsonl", examples("json")[2]))[0]

    async def values() -> list[float]:
        settings = ScoringSettings(scorers={"mytask": "guides_module.score"})
        async with Sandbox() as sandbox, ScorerSet(sandbox, settings) as scorers:
            answers = (" TOM hale\n", "Thomas Hale", "Ada")
            return [(await scorers.score(problem, answer)).value for answer in answers]

    assert asyncio.run(values()) == [1.0, 0.0, 0.0]


def test_the_guide_lists_every_field_as_it_is() -> None:
    listed = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|", GUIDE.read_text("utf-8"), re.M)
    fields = {field.name: field for field in dataclasses.fields(Problem)}
    own = {name: (kind, required) for name, kind, required in listed if name in fields}
    assert own.keys() == fields.keys()
    for name, (kind, required) in own.items():
        assert required.startswith("always") == (fields[name].default is dataclasses.MISSING)
        lists = isinstance(fields[name].default, tuple)
        assert (kind == "list of texts") == lists
