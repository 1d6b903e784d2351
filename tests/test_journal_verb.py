"""`aflow-grpo journal` on real journals: worked numbers, several ranks, whoever else has them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from journaled_world import FAILED, FIRST, INVALID, RANK_0, RANK_1, RIGHT, T0, batch, write

from aflow_grpo.__main__ import main
from aflow_grpo.llm.journal import Journal, journal_path, request_key

PAGE = Path(__file__).parent.parent / "docs" / "journal.md"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two ranks of run `a`, and a run `b`."""
    rollouts = batch("a", "train", RIGHT, INVALID), batch("b", "val", RIGHT)
    write(journal_path(tmp_path), RANK_0, *rollouts)
    write(journal_path(tmp_path, 1), RANK_1)
    return tmp_path


def figures(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["journal", *map(str, arguments), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_the_figures_of_all_ranks_and_runs(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = figures(capsys, root)
    assert found["paths"] == [str(root / "journal.db"), str(root / "journal-rank1.db")]
    assert found["runs"] == ["b", "a"], "in the order in which they began"
    assert found["executions"] == 4
    assert (found["first_s"], found["last_s"]) == (T0 - 5, T0 + 70)
    assert found["tiers"] == {"primary": 6, "backup": 2}
    assert found["faults"] == {"HTTP 503: busy": 1}
    assert found["rollouts"] == {"train": {"ok": 1, "invalid": 1}, "val": {"ok": 1}}
    assert found["size_bytes"] == sum(Path(path).stat().st_size for path in found["paths"])
    custom, review = found["groups"]["custom"], found["groups"]["review"]
    assert custom == pytest.approx(
        {
            "operator_calls": 5, "rollout_operator_calls": 2, "api_calls": 5, "failed": 0,
            "attempts": 5, "prompt_tokens": 500, "completion_tokens": 100, "cached_tokens": 0,
            "cost_usd": 5e-4, "billed_usd": 5e-4, "tokens_per_call": 120,
        }
    )  # fmt: skip
    assert review == pytest.approx(
        {
            "operator_calls": 1, "rollout_operator_calls": 2, "api_calls": 2, "failed": 1,
            "attempts": 5, "prompt_tokens": 410, "completion_tokens": 50, "cached_tokens": 256,
            "cost_usd": 4e-4, "billed_usd": 3.2e-4, "tokens_per_call": 230,
        }
    )  # fmt: skip
    assert found["groups"]["test"]["rollout_operator_calls"] == 2, "and it asked nobody"
    assert found["groups"][""]["billed_usd"] == 5e-4
    total = found["total"]
    assert (total["operator_calls"], total["rollout_operator_calls"]) == (6, 6)
    assert (total["api_calls"], total["failed"], total["attempts"]) == (8, 1, 11)
    assert total["billed_usd"] == pytest.approx(1.32e-3)


def test_one_run_only(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = figures(capsys, root, "--run=b")
    assert found["runs"] == ["b"] and found["executions"] == 1
    assert found["total"]["api_calls"] == 1
    assert found["faults"] == {} and found["rollouts"] == {"val": {"ok": 1}}
    assert main(["journal", str(root), "--run=c"]) == 2
    error = capsys.readouterr().err
    assert "--run=c" in error and "but of b, a" in error


def test_other_groupings(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def calls(by: str) -> dict[str, tuple[int, int, int]]:
        groups = figures(capsys, root, f"--by={by}")["groups"]
        names = "operator_calls", "rollout_operator_calls", "api_calls"
        return {k: tuple(v[name] for name in names) for k, v in groups.items()}

    # The operator call `review` asked both tiers; the total counts it once.
    assert calls("tier") == {"primary": (6, 0, 6), "backup": (1, 0, 2)}
    assert calls("model") == {"gpt-4o-mini": (6, 0, 7), "gpt-4o": (0, 0, 1)}
    assert calls("run") == {"a": (5, 3, 7), "b": (1, 3, 1)}
    assert figures(capsys, root, "--by=tier")["total"]["operator_calls"] == 6


def test_what_a_person_sees(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = replace(FAILED, key=b"2", run="[b]x[/b]", fault="HTTP 500: \x1b[31mred\n[link] \ud83d")
    write(journal_path(root), [odd])
    assert main(["journal", str(root)]) == 0
    out = capsys.readouterr().out
    assert "journal.db, journal-rank1.db" in out and "[b]x[/b]" in out
    assert "8 answered, 2 failed, 14 HTTP attempts" in out
    assert "0.001340 billed, 0.001000 by the price list" in out
    assert "primary 75.0%, backup 25.0%" in out
    assert "1 x HTTP 500: �[31mred [link] �" in out
    assert re.search(r"train: 2 \(ok 1, invalid 1\)", out)
    cells = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.split()}
    assert cells["review"] == ["2", "2", "2", "2", "410", "50", "230", "0.000400", "0.000340"]
    assert cells["total"][:4] == ["7", "6", "8", "2"]


def test_what_rollouts_do_not_say_is_no_zero(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["journal", str(root), "--by=model"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"gpt-4o-mini +6 +- +7 ", out)
    assert re.search(r"total +6 +6 +8 ", out)


def test_a_journal_without_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Journal(tmp_path / "journal.db").close()
    found = figures(capsys, tmp_path, f"--parquet={tmp_path / 'out'}")
    assert found["total"]["api_calls"] == 0 and found["first_s"] is None
    assert pq.read_table(tmp_path / "out" / "rollouts.parquet").num_rows == 0
    assert main(["journal", str(tmp_path)]) == 0
    assert "0 answered" in capsys.readouterr().out


def test_a_run_that_is_writing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal(root / "journal.db")
    asyncio.run(journal.write(replace(FIRST, execution=9)))
    found = figures(capsys, root)
    assert found["total"]["api_calls"] == 9
    assert found["size_bytes"] > (root / "journal.db").stat().st_size
    asyncio.run(journal.write(replace(FIRST, execution=10)))
    journal.close()


# Parquet


def test_parquet_files_hold_every_row(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = root / "new" / "out"
    assert main(["journal", str(root), f"--parquet={out}"]) == 0
    assert f"3 rows: {out / 'rollouts.parquet'}" in capsys.readouterr().out
    calls = pq.read_table(out / "calls.parquet").to_pylist()
    assert len(calls) == 9
    assert calls[2] == {
        "key": request_key({}).hex(), "run": "a", "execution": 1, "place": "1.0",
        "operator": "review", "model": "gpt-4o-mini", "tier": "backup", "attempts": 1,
        "answered": True, "reply": "yes", "finish_reason": "stop", "prompt_tokens": 200,
        "completion_tokens": 40, "cached_tokens": 128, "cost_usd": 2e-4, "billed_usd": 1.5e-4,
        "started": datetime.fromtimestamp(T0 + 60, UTC), "seconds": 10.0, "fault": "",
    }  # fmt: skip
    right, invalid, _ = pq.read_table(out / "rollouts.parquet").to_pylist()
    assert right == {
        "run": "a", "part": "train", "step": 4, "group": 0, "member": 0, "problem_id": "math/?",
        "dataset": "sample", "domain": "math", "text": "text", "finished": True,
        "context_cut": False, "prompt_ids": [5, 6], "token_ids": [7, 8, 9],
        "logprobs": [-0.5, -0.25, -1e-17], "policy_usd": 0.0, "graph_code": "class W: 'ü'",
        "prompts": [("custom", "Add.")], "repaired": False, "direct": True, "status": "ok",
        "fault_kind": None, "message": "", "answer": "2", "fallback_answer": None,
        "operators": ["custom", "review", "test"], "score": 1.0, "correct": True, "masked": False,
        "reward": 9.5, "correctness": 65, "efficiency": 12, "simplicity": 8, "format": 5,
        "repetition": 5, "penalty": 0, "calls": 3, "attempts": 5, "prompt_tokens": 410,
        "completion_tokens": 60, "cost_usd": 3e-4, "billed_usd": 2.5e-4, "fallback_usd": 0.0,
        "seconds": 2.5,
    }  # fmt: skip
    assert (invalid["fault_kind"], invalid["graph_code"]) == ("no_workflow", None)
    (problem,) = pq.read_table(out / "problems.parquet").to_pylist()
    assert (problem["problem_id"], problem["alternatives"]) == ("math/?", ["two"])


def test_parquet_of_one_run_replaces_an_older_export(root: Path) -> None:
    assert main(["journal", str(root), f"--parquet={root}"]) == 0
    assert main(["journal", str(root), "--run=b", f"--parquet={root}"]) == 0
    assert pq.read_table(root / "calls.parquet").column("run").to_pylist() == ["b"]
    assert pq.read_table(root / "rollouts.parquet").column("part").to_pylist() == ["val"]
    assert list(root.glob(".*")) == []


def test_a_folder_that_cannot_be_written(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "file").touch()
    assert main(["journal", str(root), f"--parquet={root / 'file' / 'out'}"]) == 2
    assert "--parquet=" in capsys.readouterr().err


# Files that are not as they should be


@pytest.fixture
def open_root(root: Path) -> Iterator[Path]:
    """A copy of the journals where another user can reach it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        for path in root.glob("journal*.db"):
            (Path(folder) / path.name).write_bytes(path.read_bytes())
        yield Path(folder)
        Path(folder).chmod(0o755)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing in `folder` may be written, also where the tests run as root."""
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    try:
        with pytest.raises(PermissionError):
            (folder / "new").touch()
        yield
    finally:
        if was_root:
            os.seteuid(0)


def test_a_read_only_directory(open_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = figures(capsys, open_root)
    with read_only(open_root):
        assert figures(capsys, open_root) == expected


def test_a_read_only_directory_in_which_another_user_is_writing(
    open_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = Journal(open_root / "journal.db")
    asyncio.run(journal.write(replace(FIRST, execution=9)))
    with read_only(open_root):
        assert figures(capsys, open_root)["total"]["api_calls"] == 9
    journal.close()


def test_a_directory_without_a_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert main(["journal", str(folder)]) == 2
        error = capsys.readouterr().err
        assert "holds no journal.db" in error and "trainer.default_root_dir" in error
    assert list(tmp_path.iterdir()) == [], "nothing is made by asking"


def test_a_damaged_journal_is_told_of(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = root / "journal.db"
    whole = path.read_bytes()
    path.write_text("dear diary " * 500)
    assert main(["journal", str(root)]) == 2
    assert "journal.db: cannot be read as a journal" in capsys.readouterr().err
    path.write_bytes(whole[:100] + b"\xff" * 5000 + whole[5100:])
    assert main(["journal", str(root)]) == 2
    assert "cannot be read" in capsys.readouterr().err
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    assert main(["journal", str(root)]) == 2
    assert ".recover" in capsys.readouterr().err
    path.write_bytes(whole)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE rollouts SET content = x'00'")
    assert main(["journal", str(root)]) == 2
    assert "a stored rollout cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(("version", "remedy"), [(3, "resume its run"), (5, "that wrote it")])
def test_another_version(
    root: Path, capsys: pytest.CaptureFixture[str], version: int, remedy: str
) -> None:
    with closing(sqlite3.connect(root / "journal-rank1.db")) as database:
        database.execute(f"PRAGMA user_version={version}")
    assert main(["journal", str(root)]) == 2
    error = capsys.readouterr().err
    assert f"schema version {version}, not 4" in error and remedy in error


def test_no_heavy_library_is_imported(root: Path) -> None:
    code = (
        "import sys; from aflow_grpo.__main__ import main; main(sys.argv[1:]); "
        "print([m for m in ('torch', 'mlflow', 'openai', 'pyarrow') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, "journal", str(root)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


# The page that describes the file


def queries() -> list[str]:
    return re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_queries_of_the_page(root: Path) -> None:
    with closing(sqlite3.connect(root / "journal.db")) as database:
        by_operator, dearest, by_minute = (database.execute(q).fetchall() for q in queries())
    assert by_operator == [
        ("review", 1, 2, 410, 50, 0.0004, 0.00032), ("custom", 3, 3, 300, 60, 0.0003, 0.0003)
    ]  # fmt: skip
    assert dearest == [("a", 1, 5, 0.00052, 70.0), ("a", 2, 1, 0.0001, 2.0)]
    assert by_minute == [
        ("2023-11-14 22:13", "primary", 4, 1, 7, 2.0), ("2023-11-14 22:14", "backup", 2, 0, 2, 10.0)
    ]  # fmt: skip


def test_the_page_lists_every_column_and_no_other(root: Path) -> None:
    sections = re.split(r"^### ", PAGE.read_text(), flags=re.MULTILINE)[1:]
    with closing(sqlite3.connect(root / "journal.db")) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        columns = {
            name: [(c[1], c[2]) for c in database.execute(f"PRAGMA table_info({name})")]
            for (name,) in tables.fetchall()
        }
    told = {
        section.split()[0]: re.findall(r"^\| `(\w+)` \| (\w+) \|", section, re.MULTILINE)
        for section in sections
    }
    assert told == columns


def test_the_page_lists_every_column_of_the_parquet_files(root: Path) -> None:
    assert main(["journal", str(root), f"--parquet={root}"]) == 0
    page = PAGE.read_text().split("## Parquet")[1]
    for name in ("rollouts", "problems"):
        for column in pq.read_schema(root / f"{name}.parquet").names:
            assert f"`{column}`" in page, column
