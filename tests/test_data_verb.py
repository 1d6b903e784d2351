"""`aflow-grpo data`: what each of its verbs prints, writes and returns."""

import json
import math
import os
from pathlib import Path

import pytest
import yaml

from aflow_grpo.assets import shipped_path
from aflow_grpo.commands.data import run_data
from aflow_grpo.commands.measure import MeasureSettings, choose, interval, measure, render_costs
from aflow_grpo.data.jsonl import read_problems, write_problems
from aflow_grpo.errors import ConfigError, ExecutorError
from aflow_grpo.llm.settings import LLMSettings
from aflow_grpo.llm.simulator import SimulatorSettings
from aflow_grpo.llm.tiers import Tier
from aflow_grpo.records import Problem

_SAMPLE = str(shipped_path("data/sample/val.jsonl"))


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of data with a small GSM8K, set as AFLOW_GRPO_DATA; the working directory."""
    names, things = ("Ann", "Ben", "Cleo", "Dan"), ("apples", "pears", "plums", "nuts", "eggs")
    rows = [
        {"question": f"{n} has {t} and {n} eats all {t} of {n}: how many {t}?", "answer": "#### 0"}
        for n in names
        for t in things
    ]
    (tmp_path / "data/gsm8k").mkdir(parents=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "data/gsm8k/train.jsonl").write_text(text)
    monkeypatch.setenv("AFLOW_GRPO_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_prepare(pool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_data(["prepare", "gsm8k", "openai/gsm8k"]) == 0
    said = capsys.readouterr().out
    assert "gsm8k: train 16, val 2, test 2" in said
    assert "known overlap: AFlow's validation and test splits of GSM8K" in said
    assert len(read_problems(pool / "data/prepared/gsm8k/train.jsonl")) == 16
    assert run_data(["prepare", "gsm8k"]) == 2
    assert "add --overwrite" in capsys.readouterr().err
    assert run_data(["prepare", "gsm8k", "--overwrite"]) == 0


def test_prepare_writes_nothing_when_one_of_several_is_missing(
    pool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_data(["prepare", "gsm8k", "drop"]) == 2
    assert "no file of drop" in capsys.readouterr().err
    assert not (pool / "data/prepared").exists()


def test_prepare_needs_a_source(
    pool: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AFLOW_GRPO_DATA")
    assert run_data(["prepare", "gsm8k"]) == 2
    assert "neither --source nor AFLOW_GRPO_DATA is set" in capsys.readouterr().err
    assert run_data(["prepare", "gsm8k", "--source", str(pool / "data")]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gsm9k"], "did you mean gsm8k?"),
        (["gsm8k", "--val", "0.6", "--test", "0.6"], "add up to 1.2"),
        (["gsm8k", "--threshold", "0"], "threshold is 0"),
        (["gsm8k", "--source", "nowhere"], "no such folder"),
    ],
)
def test_wrong_settings(
    pool: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run_data(["prepare", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (pool / "data/prepared").exists()


def test_sample_makes_the_shipped_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = ["sample", "--output_dir", str(tmp_path / "sample")]
    assert run_data(target) == 0
    for split in ("train", "val", "test"):
        shipped = shipped_path(f"data/sample/{split}.jsonl").read_bytes()
        assert (tmp_path / f"sample/{split}.jsonl").read_bytes() == shipped
    assert run_data(target) == 0  # the same are there already
    assert run_data([*target, "--val", "7"]) == 2
    assert "other problems are there" in capsys.readouterr().err
    assert run_data([*target, "--val", "7", "--overwrite"]) == 0
    assert len(read_problems(tmp_path / "sample/val.jsonl")) == 7
    assert len([*(tmp_path / "sample").iterdir()]) == 3
    assert run_data(["sample", "--train", "0"]) == 2


def test_check_finds_no_fault_in_the_sample(capsys: pytest.CaptureFixture[str]) -> None:
    train = str(shipped_path("data/sample/train.jsonl"))
    assert run_data(["check", _SAMPLE, train]) == 0
    said = capsys.readouterr().out
    assert "100 problems" in said
    assert "no faults found" in said


def test_check_finds_copies_leaks_and_bad_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = Problem("a", "x", "math", "What is 3 + 4?", "7")
    path = tmp_path / "own.jsonl"
    write_problems(path, [one, Problem("b", "x", "math", "what is 3 + 4", "7"),
                          Problem("c\x1b[2J", "x", "qa", "Who?", "--")])  # fmt: skip
    write_problems(tmp_path / "held.jsonl", [one])
    assert run_data(["check", str(path), "--leaks_with", str(tmp_path / "held.jsonl")]) == 1
    said = capsys.readouterr().out
    assert "b repeats a" in said
    assert "a gives away a (text" in said
    assert "gold answer is '--'" in said
    assert "\x1b" not in said
    with path.open("a") as file:
        file.write('{"id": "d"}\n')
    assert run_data(["check", str(path)]) == 1
    assert "line 4" in capsys.readouterr().out
    assert run_data(["check", str(path), "--on_bad_row", "skip"]) == 1
    assert "1 bad rows" in capsys.readouterr().out
    assert run_data(["check", str(tmp_path / "none.jsonl")]) == 1
    assert "no such file" in capsys.readouterr().out


def test_describe(pool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_data(["describe", "gsm8k"]) == 0
    assert "gsm8k           math          20" in capsys.readouterr().out
    assert run_data(["describe", "data/gsm8k/train.jsonl", "--dataset", "gsm8k"]) == 0
    assert run_data(["describe", "gsm9k"]) == 2
    assert "did you mean gsm8k?" in capsys.readouterr().err


def test_describe_measures_on_the_simulator(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["describe", _SAMPLE, "--examples", "0", "--measure", "--rollout.problems", "5"]
    assert run_data(arguments) == 0
    said = capsys.readouterr().out
    assert "sample/math: 0.000" in said
    assert "n = 5" in said
    config = yaml.safe_load(said[said.index("rollout:") :])
    costs = config["rollout"]["reward"]["io_cost_usd"]
    assert sorted(costs) == ["sample/code", "sample/math", "sample/qa"]
    assert all(0 < cost < 0.001 for cost in costs.values())


def test_the_config_of_a_real_executor_is_taken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    config = str(shipped_path("configs/llm/openai.yaml"))
    assert run_data(["describe", _SAMPLE, "--measure", "--config", config]) == 2
    assert "No API key for tier 'primary'" in capsys.readouterr().err


def test_a_dead_executor_gives_no_figure() -> None:
    tier = Tier(base_url="http://127.0.0.1:9/v1", api_key="none", max_attempts=1, backoff_s=0.0)
    problems = read_problems(_SAMPLE)[:3]
    with pytest.raises(ExecutorError):
        measure(problems, MeasureSettings(problems=2), LLMSettings(tiers=[tier]))


def test_measuring_twice_gives_the_same() -> None:
    problems, settings = read_problems(_SAMPLE), MeasureSettings(problems=3)
    llm = LLMSettings(simulator=SimulatorSettings())
    first = measure(problems, settings, llm)
    assert first == measure(problems, settings, llm)
    assert "simulated" in render_costs(first, llm)


def test_interval_by_hand() -> None:
    mean, low, high = interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert high - mean == pytest.approx(4.303 / math.sqrt(3))
    assert low == pytest.approx(2 * mean - high)
    assert interval([5.0]) == (5.0, -math.inf, math.inf)


def test_choice_is_seeded_and_in_proportion() -> None:
    problems = [
        Problem(str(n), "x", "math", f"{n}", "1", difficulty=1 if n < 30 else 2) for n in range(40)
    ]
    chosen = choose(problems, 20, 0)
    assert [p.difficulty for p in chosen].count(1) == 15
    assert chosen == choose(problems, 20, 0) != choose(problems, 20, 1)
    assert choose(problems, 99, 0) == problems


def test_one_problem_is_too_few() -> None:
    with pytest.raises(ConfigError, match="problems is 1"):
        MeasureSettings(problems=1)


@pytest.mark.skipif("AFLOW_GRPO_DATA" not in os.environ, reason="AFLOW_GRPO_DATA is not set")
def test_check_knows_the_overlap_of_the_real_pool(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["check", "mbpp/mbpp_pool.jsonl", "--dataset", "mbpp"]
    held_out = ["--leaks_with", "aflow_format/mbpp_validate.jsonl"]
    assert run_data([*arguments, *held_out]) == 1
    assert "87 leaks" in capsys.readouterr().out
