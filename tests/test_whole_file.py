"""A file is whole or not there; what is no file is written to and stays what it is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from aflow_grpo.whole_file import WholeFile


def test_it_is_there_when_it_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.jsonl"
    whole = WholeFile.at(path)
    whole.part.write_text("half")
    assert not path.exists()
    whole.keep()
    assert path.read_text() == "half" and os.listdir(path.parent) == ["out.jsonl"]
    again = WholeFile.at(path)
    again.part.write_text("other")
    again.discard()
    assert path.read_text() == "half" and os.listdir(path.parent) == ["out.jsonl"]


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    whole = WholeFile.at(pipe)
    whole.part.write_text("told")
    whole.keep()
    whole.discard()
    assert os.read(reader, 10) == b"told" and stat.S_ISFIFO(pipe.stat().st_mode)
    os.close(reader)


def test_of_a_link_the_file_is_replaced(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("file")
    whole = WholeFile.at(link)
    whole.part.write_text("told")
    whole.keep()
    assert link.is_symlink() and (tmp_path / "file").read_text() == "told"


@pytest.mark.parametrize("path", [".", "/"])
def test_a_folder_is_refused(path: str) -> None:
    with pytest.raises(IsADirectoryError):
        WholeFile.at(Path(path))
