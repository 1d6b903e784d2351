"""HotpotQA as published, by Hugging Face, and in AFlow's format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from reader_files import assert_same_in_every_shape, real, without, write

from aflow_grpo.data.readers import read_hotpotqa
from aflow_grpo.errors import DataError

HOTPOT = {
    "_id": "5a7613c1",
    "answer": " Malmö ",
    "question": "Where was the founder of Zoo born? ",
    "supporting_facts": [["Zoo", 0]],
    "context": [["Zoo", ["Zoo is a firm.", " Ada founded it."]], ["Ada", ["Ada is", "of Malmö."]]],
    "type": "bridge",
    "level": "medium",
}
RENDERED = "Zoo\nZoo is a firm. Ada founded it.\n\nAda\nAda is of Malmö."


def test_the_context_is_paragraphs_under_their_titles(tmp_path: Path) -> None:
    (problem,) = read_hotpotqa(write(tmp_path, HOTPOT), "val")
    assert problem.context == RENDERED
    assert problem.id == "hotpotqa/val/5a7613c1"
    assert (problem.question, problem.answer) == ("Where was the founder of Zoo born?", "Malmö")
    assert (problem.dataset, problem.domain, problem.difficulty) == ("hotpotqa", "qa", 2)


def test_hugging_face_s_columns_mean_the_same(tmp_path: Path) -> None:
    titles = [title for title, _ in HOTPOT["context"]]
    columns = {"title": titles, "sentences": [sentences for _, sentences in HOTPOT["context"]]}
    row = without(HOTPOT, "_id") | {"id": "5a7613c1", "context": columns}
    assert read_hotpotqa(write(tmp_path, row), "val") == read_hotpotqa(
        write(tmp_path, HOTPOT, name="published.jsonl"), "val"
    )


def test_paragraphs_without_text_are_left_out_and_numbers_are_ids(tmp_path: Path) -> None:
    row = HOTPOT | {"_id": 37, "context": [["Empty", []], ["Blank", [" "]], ["Ada", ["Is."]]]}
    (problem,) = read_hotpotqa(write(tmp_path, row), "val")
    assert (problem.context, problem.id) == ("Ada\nIs.", "hotpotqa/val/37")
    (bare,) = read_hotpotqa(write(tmp_path, without(row, "level") | {"context": []}), "val")
    assert (bare.context, bare.difficulty) == ("", 0)


def test_every_shape_of_file_is_read(tmp_path: Path) -> None:
    assert_same_in_every_shape(tmp_path, read_hotpotqa, HOTPOT, HOTPOT | {"_id": "b"})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"answer": ""}, "line 2, field 'answer': found an empty string"),
        ({"question": 3}, "field 'question': found int 3"),
        ({"_id": None}, "field '_id': found NoneType None, expected text or a whole number"),
        ({"_id": "a"}, "line 2, field 'id': found 'hotpotqa/val/a' again.*line 1 has it"),
        ({"context": "Zoo is a firm."}, "field 'context': found str 'Zoo is.*expected pairs of a"),
        ({"context": ["Zoo is a firm."]}, "found an entry str 'Zoo is a firm.', expected pairs"),
        ({"context": [["Zoo", "a firm"]]}, r"found an entry list \['Zoo', 'a firm'\]"),
        ({"context": [["Zoo"]]}, r"found an entry list \['Zoo'\]"),
        ({"context": [["Zoo", [1]]]}, "field 'context': found a list that holds int 1"),
        ({"context": [[None, ["x"]]]}, "field 'context': found a list that holds NoneType None"),
        ({"context": {"title": ["Zoo"]}}, "field 'context': found dict .* lists title and sent"),
        ({"context": {"title": ["Zoo"], "sentences": []}}, "found 1 titles for 0 lists of sent"),
        ({"context": {"title": ["Zoo"], "sentences": ["x"]}}, "found an entry list"),
    ],
)
def test_malformed_rows_are_refused(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        read_hotpotqa(write(tmp_path, HOTPOT | {"_id": "a"}, HOTPOT | change), "val")


@pytest.mark.parametrize("field", ["_id", "question", "answer", "context"])
def test_a_missing_field_is_named(tmp_path: Path, field: str) -> None:
    with pytest.raises(DataError, match=f"line 1, field '{field}': found no such field"):
        read_hotpotqa(write(tmp_path, without(HOTPOT, field)), "val")


def test_the_row_of_an_array_is_named(tmp_path: Path) -> None:
    path = tmp_path / "hotpot_dev_distractor_v1.json"
    path.write_text('[{"_id": "a"}]')
    with pytest.raises(DataError, match=r"v1\.json, row 1, field 'question': found no such field"):
        read_hotpotqa(path, "val")


def test_the_real_file_is_read_whole() -> None:
    problems = read_hotpotqa(real("aflow_format/hotpotqa_validate.jsonl"), "val")
    assert len(problems) == 200
    assert all(problem.context.count("\n\n") >= 1 for problem in problems)
    assert problems[0].context.startswith("Constantin Medien\nConstantin Medien AG (formerly EM.")
