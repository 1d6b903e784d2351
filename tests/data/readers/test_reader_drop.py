"""DROP as published and in the simple-evals rows that AFlow uses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from reader_files import assert_same_in_every_shape, real, without, write

from aflow_grpo.data.readers import read_drop
from aflow_grpo.errors import DataError

TEXT = {
    "context": "Passage: Ava won 3 of 5.\nQuestion: asked. \nQuestion: How many – lost?\nAnswer:",
    "completion": " 2",
    "ref_text": "2|two|2| ",
}
NUMBER = {"number": "2", "date": {"day": "", "month": "", "year": ""}, "spans": []}
SPANS = {"number": "", "date": {}, "spans": ["Ava", " Bo"]}
DATE = {"number": "", "date": {"day": "7", "month": "May", "year": "1453"}, "spans": []}
NONE = {"number": "", "date": {"day": "", "month": "", "year": ""}, "spans": []}
PAIR = {"question": "How many?", "answer": NUMBER, "query_id": "q1", "validated_answers": [SPANS]}


def published(*pairs: dict[str, Any], passage: str = " Ava won. ") -> dict[str, Any]:
    return {"history_1": {"passage": passage, "qa_pairs": list(pairs), "wiki_url": "x"}}


def test_rows_of_text_are_split_into_passage_and_question(tmp_path: Path) -> None:
    (problem,) = read_drop(write(tmp_path, TEXT), "train")
    assert problem.context == "Ava won 3 of 5.\nQuestion: asked."
    assert problem.question == "How many – lost?"
    assert (problem.answer, problem.alternatives) == ("2", ("two",))
    assert (problem.id, problem.dataset, problem.domain) == ("drop/train/0", "drop", "qa")
    (given,) = read_drop(write(tmp_path, TEXT | {"id": 4032}), "val")
    assert given.id == "drop/val/4032"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (NUMBER, "2"),
        (NUMBER | {"number": 2.5}, "2.5"),
        (SPANS, "Ava and Bo"),
        (SPANS | {"spans": ["Ava"]}, "Ava"),
        (DATE, "7 May 1453"),
        (DATE | {"date": {"year": "1453"}}, "1453"),
        ({"spans": ["x"]}, "x"),
        (DATE | {"number": "9", "spans": ["x"]}, "9"),
    ],
)
def test_published_answers_become_text(tmp_path: Path, answer: dict[str, Any], text: str) -> None:
    path = write(tmp_path, published(PAIR | {"answer": answer, "validated_answers": []}))
    (problem,) = read_drop(path, "val")
    assert (problem.answer, problem.alternatives) == (text, ())
    assert (problem.id, problem.context) == ("drop/val/q1", "Ava won.")


def test_validated_answers_are_alternatives(tmp_path: Path) -> None:
    pair = PAIR | {"validated_answers": [NUMBER, SPANS, NONE, DATE, SPANS]}
    (problem,) = read_drop(write(tmp_path, published(pair)), "val")
    assert (problem.answer, problem.alternatives) == ("2", ("Ava and Bo", "7 May 1453"))
    (other,) = read_drop(write(tmp_path, published(pair | {"answer": NONE})), "val")
    assert other.answer == "2"


def test_the_published_file_is_read_indented_too(tmp_path: Path) -> None:
    pairs = [PAIR, without(PAIR, "validated_answers") | {"query_id": "q2", "question": "Zoë?"}]
    whole = published(*pairs) | {"nfl_2": {"passage": "P", "qa_pairs": [PAIR | {"query_id": "q3"}]}}
    (tmp_path / "a.json").write_text(json.dumps(whole, indent=1, ensure_ascii=False))
    problems = read_drop(tmp_path / "a.json", "val")
    assert [p.id for p in problems] == ["drop/val/q1", "drop/val/q2", "drop/val/q3"]
    assert problems == read_drop(write(tmp_path, whole), "val")


def test_every_shape_of_file_is_read(tmp_path: Path) -> None:
    assert_same_in_every_shape(tmp_path, read_drop, TEXT, TEXT | {"completion": "é"})
    crlf = TEXT | {"context": TEXT["context"].replace("\n", "\r\n")}
    assert read_drop(write(tmp_path, crlf), "train") == read_drop(write(tmp_path, TEXT), "train")


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (
            TEXT | {"context": "How many?"},
            r"line 1, field 'context': found str 'How many\?', expec",
        ),
        (TEXT | {"context": "Passage: x\nQuestion: \nAnswer:"}, "field 'context': found str 'Pass"),
        (TEXT | {"context": "Passage: \nQuestion: x\nAnswer:"}, "field 'context': found str 'Pass"),
        (TEXT | {"context": None}, "field 'context': found NoneType None, expected a string"),
        (TEXT | {"completion": " "}, "field 'completion': found an empty string"),
        (TEXT | {"ref_text": 2}, "field 'ref_text': found int 2"),
        (TEXT | {"id": {}}, "field 'id': found dict {}"),
        (without(TEXT, "ref_text"), "field 'ref_text': found no such field"),
        ({"history_1": "text"}, "line 1, field 'history_1': found str 'text', expected an object"),
        ({"history_1": {}}, "passage 'history_1', field 'passage': found no such field"),
        (published(PAIR, passage=" "), "passage 'history_1', field 'passage': found an empty str"),
        ({"h": {"passage": "P"}}, "passage 'h', field 'qa_pairs': found no such field"),
        ({"h": {"passage": "P", "qa_pairs": {}}}, "field 'qa_pairs': found dict {}, expected a l"),
        ({"h": {"passage": "P", "qa_pairs": [1]}}, "'qa_pairs': found a list that holds int 1"),
        (published(PAIR | {"question": ""}), "question 1, field 'question': found an empty"),
        (published(PAIR, PAIR), "question 2, field 'id': found 'drop/val/q1' again.*question 1 ha"),
        (published(without(PAIR, "query_id")), "question 1, field 'query_id': found no such field"),
        (published(without(PAIR, "answer")), "question 1, field 'answer': found no such field"),
        (published(PAIR | {"answer": "2"}), "question 1, field 'answer': found str '2', expected"),
        (published(PAIR | {"answer": NONE, "validated_answers": []}), "found no number, date or s"),
        (
            published(PAIR | {"answer": NUMBER | {"number": []}}),
            "answer, field 'number': found lis",
        ),
        (published(PAIR | {"answer": SPANS | {"spans": "x"}}), "answer, field 'spans': found str"),
        (published(PAIR | {"answer": NONE | {"date": "x"}}), "answer, field 'date': found str 'x'"),
        (published(PAIR | {"answer": NONE | {"date": {"day": 1}}}), "date, field 'day': found int"),
        (published(PAIR | {"validated_answers": "x"}), "field 'validated_answers': found str 'x'"),
    ],
)
def test_malformed_rows_are_refused(tmp_path: Path, row: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        read_drop(write(tmp_path, row), "val")


def test_the_real_files_are_read_whole() -> None:
    train = read_drop(real("drop/drop_pool.jsonl.gz"), "train")
    val = read_drop(real("aflow_format/drop_validate.jsonl"), "val")
    assert (len(train), len(val)) == (2136, 200)
    assert not any("Question:" in problem.context for problem in train + val)
    assert any("Hernán Peraza" in (p.answer, *p.alternatives) for p in val)
