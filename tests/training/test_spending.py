"""A run's money: a hard budget, a forecast, an end when nobody answers any more."""

import math
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from made_rollouts import rollout
from trainer_runs import checkpoint_of, metrics_of, new_root, run_verb, write_settings

from aflow_grpo.errors import ConfigError, OutageError
from aflow_grpo.llm.settings import LLMSettings
from aflow_grpo.records import OperatorCall, Rollout, Status, Usage
from aflow_grpo.training.outage import OutageGuard

WORST_CALL_USD = 2048 * 0.60e-6 + 2000 * 0.15e-6
"""Of the simulator's tier: max_tokens, and more bytes than these prompts have."""


def journal_usd(root: Path) -> float:
    """What all calls in the journal of `root` were billed."""
    with closing(sqlite3.connect(root / "journal.db")) as database:
        return float(database.execute("select sum(billed_usd) from calls").fetchone()[0])


def draw(statuses: str) -> list[Rollout]:
    """``x`` lost, ``.`` answered, ``i`` invalid, so that it asked nobody."""
    call = OperatorCall("custom", {}, {}, Usage(), 0.0)
    kinds: dict[str, dict[str, Any]] = {
        "x": {"status": Status.UNAVAILABLE},
        ".": {"calls": (call,)},
        "i": {"status": Status.INVALID},
    }
    return [rollout(member=member, **kinds[kind]) for member, kind in enumerate(statuses)]


@pytest.mark.parametrize(
    ("draws", "allowed", "stops"),
    [
        (["xxx"], 0.0, False),  # too few to say
        (["xxxx"], 0.5, True),
        (["xx.."], 0.5, False),  # not more than the share
        (["xx.", "x"], 0.5, True),  # over draws
        (["xxiiiix", "x"], 0.5, True),  # who asked nobody dilutes nothing
        (["....", "....", "xxx"], 0.5, True),  # the latest four
        (["x...", "...."], 0.0, True),
        (["xxxx", "xxxx"], 1.0, False),
        ([], 0.0, False),
    ],
)
def test_the_share_that_may_be_lost(draws: list[str], allowed: float, stops: bool) -> None:
    guard = OutageGuard(allowed, over_workflows=4)
    try:
        for statuses in draws:
            guard.check(draw(statuses))
        stopped = False
    except OutageError as error:
        assert "of the last 4 workflows" in str(error) and "llm.max_unavailable" in str(error)
        stopped = True
    assert stopped == stops


@pytest.mark.parametrize(
    ("key", "value"), [("budget_usd", 0.0), ("max_unavailable", 1.5), ("unavailable_over", 0)]
)
def test_settings_that_make_no_sense(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"llm.{key}={value}"):
        LLMSettings(**{key: value})  # type: ignore[arg-type]


def test_a_budget_needs_the_journal_that_knows_what_was_paid() -> None:
    with pytest.raises(ConfigError, match=r"llm\.budget_usd=1\.0 needs llm\.journal: true"):
        LLMSettings(budget_usd=1.0, journal=False)


def test_a_budget_ends_the_run_with_a_checkpoint_and_is_never_passed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = write_settings(tmp_path, trainer__val_check_interval=100)
    straight = new_root(tmp_path / "straight")
    common = ["--config", settings]
    assert run_verb("fit", *common, "--trainer.default_root_dir", straight) == 0
    whole_usd = journal_usd(straight)
    root = new_root(tmp_path / "short")
    at = ["--trainer.default_root_dir", root]
    # A call is refused when its worst case does not fit, so less than that is always left over.
    budget_usd = WORST_CALL_USD + whole_usd / 4
    assert budget_usd < whole_usd
    assert run_verb("fit", *common, *at, "--llm.budget_usd", repr(budget_usd)) == 3
    said = capsys.readouterr().err
    assert "llm.budget_usd=" in said and "--ckpt_path last" in said and "Traceback" not in said
    first_usd = journal_usd(root)
    assert 0 < first_usd <= budget_usd
    assert 0 <= checkpoint_of(root)["aflow_grpo"]["iteration"] < 4
    # The same budget is spent already, whatever the new process has paid.
    again = [*common, *at, "--ckpt_path", "last"]
    assert run_verb("fit", *again, "--llm.budget_usd", repr(budget_usd)) == 3
    assert journal_usd(root) <= budget_usd
    assert run_verb("fit", *again, "--llm.budget_usd", repr(2 * whole_usd)) == 0
    assert math.isclose(journal_usd(root), whole_usd, rel_tol=1e-9), "something was paid twice"
    assert metrics_of(root) == pytest.approx(metrics_of(straight), nan_ok=True)


def test_a_run_without_anyone_to_ask_ends_with_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as closed:  # bound, so that nobody else gets the port, and not listening
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        tier = f"[{{name: dead, base_url: '{url}', api_key: x, max_attempts: 1, backoff_s: 0}}]"
        arguments = ["--llm.simulator=null", f"--llm.tiers={tier}", "--llm.check_endpoints=false"]
        arguments += ["--llm.unavailable_over=2"]
        root = new_root(tmp_path / "run")
        place = ["--config", write_settings(tmp_path), "--trainer.default_root_dir", root]
        assert run_verb("fit", *place, *arguments) == 3
        said = capsys.readouterr().err
    assert "llm.max_unavailable=0.5" in said and "llm.tiers" in said and "Traceback" not in said
    assert checkpoint_of(root)["aflow_grpo"]["iteration"] < 4, "it went to its end"
