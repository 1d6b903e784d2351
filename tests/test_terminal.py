"""One console for all verbs: progress on a real terminal, in a log and in silence."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pseudo_terminal import HIDE, SHOW, PseudoTerminal

from aflow_grpo.errors import ConfigError
from aflow_grpo.terminal import (
    VERBOSITY,
    complain,
    console,
    printable,
    progress,
    show_log,
    verbosity,
)

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def terminal() -> Iterator[PseudoTerminal]:
    opened = PseudoTerminal()
    yield opened
    opened.close()


def start(terminal: PseudoTerminal, code: str, **options: object) -> subprocess.Popen[str]:
    """A process of its own whose stderr, and stdout unless said otherwise, is the terminal."""
    streams = {"stdin": terminal.slave, "stdout": terminal.slave, "stderr": terminal.slave}
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", VERBOSITY)}
    return subprocess.Popen(
        [sys.executable, "-c", "from aflow_grpo.terminal import *\n" + code],
        env={**environment, "TERM": "xterm-256color", **options.pop("env", {})},  # type: ignore[dict-item]
        text=True,
        start_new_session=True,
        **{**streams, **options},  # type: ignore[call-overload]
    )


def frames(shown: str) -> list[str]:
    """What was written, without control characters."""
    lines = re.split(r"[\r\n]+", CONTROL.sub("", shown))
    return [line.rstrip() for line in lines if line.strip()]


# On a terminal


def test_a_step_is_shown_live_and_gone_afterwards(terminal: PseudoTerminal) -> None:
    code = """
with progress("judging answers", 4) as step:
    step.advance(1, "$0.01")
    input()
print("done")
"""
    process = start(terminal, code)
    terminal.wait_for("$0.01")
    terminal.type("\n")
    assert process.wait(30) == 0
    shown = terminal.close()
    assert shown.count(HIDE) == shown.count(SHOW) == 1
    (line,) = [x for x in frames(shown) if "1/4" in x][:1]
    assert re.fullmatch(r"judging answers  ━{7}─{23}  1/4  [\d.]+/s  0:00 left", line)
    # The last thing that is done to the lines is to clear them.
    assert shown.rindex("\x1b[2K") > shown.rindex("judging")
    assert frames(shown)[-1] == "done"


def test_what_is_printed_meanwhile_stands_above_and_is_whole(terminal: PseudoTerminal) -> None:
    code = """
import logging, sys
show_log()
with progress("working", 2) as step:
    print("to stdout")
    print("to stderr", file=sys.stderr)
    logging.getLogger("aflow_grpo.x").debug("in the log")
    console(stderr=True).print("by the console")
    step.advance(1)
"""
    assert start(terminal, code, env={VERBOSITY: "debug"}).wait(30) == 0
    lines = frames(terminal.close())
    for told in ("to stdout", "to stderr", "by the console"):
        assert told in lines, lines
    assert [x for x in lines if re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} aflow_grpo\.x: in the log", x)]


def test_a_pipe_gets_what_is_printed_while_a_step_is_live(
    terminal: PseudoTerminal, tmp_path: Path
) -> None:
    code = 'with progress("x", 2) as step:\n    step.advance(1)\n    print("{}")'
    with (tmp_path / "out").open("w") as out:
        assert start(terminal, code, stdout=out).wait(30) == 0
    assert (tmp_path / "out").read_text() == "{}\n"
    assert HIDE in terminal.close(), "it was live"


def test_an_inner_step_is_shown_below_the_outer_one(terminal: PseudoTerminal) -> None:
    code = """
with progress("outer", 3) as outer:
    with progress("inner", 2) as inner:
        inner.advance(1)
        input()
    outer.advance(1, "one inner step")
    input()
"""
    process = start(terminal, code)
    terminal.wait_for("1/2")
    lines = frames(terminal.shown)
    outer = max(i for i, line in enumerate(lines) if line.startswith("outer"))
    assert lines[outer + 1].startswith("inner  ━"), lines
    terminal.type("\n")
    terminal.wait_for("one inner step")
    terminal.type("\n")
    assert process.wait(30) == 0
    assert terminal.close().count(SHOW) == 1


def test_an_exception_gives_the_terminal_back_before_its_traceback(
    terminal: PseudoTerminal,
) -> None:
    assert start(terminal, 'with progress("x", 3): raise RuntimeError("broken")').wait(30) == 1
    shown = terminal.close()
    assert shown.count(HIDE) == shown.count(SHOW) == 1
    assert shown.index(SHOW) < shown.index("RuntimeError: broken")


@pytest.mark.parametrize(
    ("unwinds", "code"), [(True, -2), (False, 130)], ids=["unwinding", "on the spot"]
)
def test_ctrl_c_gives_the_terminal_back(terminal: PseudoTerminal, unwinds: bool, code: int) -> None:
    """By an exception, and where a command that can lose nothing just leaves."""
    # A shell may have started the tests in the background, where Ctrl-C is ignored from the start.
    text = """
import signal, threading
signal.signal(signal.SIGINT, signal.default_int_handler)
with progress("x", 3) as step:
    step.advance(1, "waiting")
    threading.Event().wait()
"""
    if not unwinds:
        text = "from aflow_grpo.training.interrupts import stop_signals\n" + text.replace(
            "with progress", 'with stop_signals("x"), progress'
        )
    process = start(terminal, text)
    terminal.wait_for("waiting")
    os.kill(process.pid, 2)
    assert process.wait(30) == code
    terminal.wait_for("KeyboardInterrupt" if unwinds else "aflow-grpo x: interrupted.")
    shown = terminal.close()
    assert shown.rindex(SHOW) > shown.rindex(HIDE)


def test_no_line_is_wider_than_the_terminal_whatever_is_told(terminal: PseudoTerminal) -> None:
    """A line that wraps is not cleared, and the next one is drawn below it."""
    code = """
with progress("\N{CJK UNIFIED IDEOGRAPH-4F60}" * 30 + "\x1b[2J\\n" + "y" * 70, 10**9) as step:
    step.advance(5, "\N{CJK UNIFIED IDEOGRAPH-4F60}" * 60 + "\x1b]0;title\x07\\nnext line")
    input()
"""
    process = start(terminal, code)
    terminal.wait_for("…")
    terminal.type("\n")
    assert process.wait(30) == 0
    shown = terminal.close()
    assert "\x1b[2J" not in shown and "\x1b]0" not in shown and "\x07" not in shown
    for line in frames(shown):
        assert (
            sum(2 if ord(c) > 0x2FFF else 1 for c in line.replace("\N{REPLACEMENT CHARACTER}", "?"))
            <= 80
        )


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_cannot_move_its_cursor_gets_lines(
    terminal: PseudoTerminal, term: str
) -> None:
    code = 'with progress("x", 3) as step:\n    step.advance(1, "a note")\n    step.say()'
    assert start(terminal, code, env={"TERM": term}).wait(30) == 0
    shown = terminal.close()
    assert "\x1b" not in shown and "x: 1/3, " in shown


# In a log


def test_a_log_gets_plain_lines_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("reading", 10, done=4, line_every_s=0) as step:
        step.advance(3, "a note")
        step.advance(0)
        step.advance(3)
    first, second, last = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"reading: 7/10, [\d.]+/s, 0:00 left  a note", first)
    assert re.fullmatch(r"reading: 10/10, [\d.]+/s, 0:00 left  a note", second)
    assert re.fullmatch(r"reading: 10/10 in 0:00  a note", last)


def test_a_short_step_says_nothing_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("reading", 10) as step:
        step.advance(10, "a note")
    with progress("nothing to do", 0) as step:
        pass
    assert "".join(capsys.readouterr()) == ""


def test_ci_that_forces_colour_gets_no_moving_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress("x", 2, line_every_s=0) as step:
        step.advance(1)
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("total", "done", "told"),
    [(None, 0, "x: 5, "), (0, 0, "x: 5/0, "), (3, 0, "x: 5/3, "), (10, 10, "x: 15/10, ")],
)
def test_totals_that_are_unknown_or_wrong_are_survived(
    capsys: pytest.CaptureFixture[str], total: int | None, done: int, told: str
) -> None:
    with progress("x", total, done=done) as step:
        step.say()  # nothing is known yet: no rate, no time left
        step.advance(5)
        step.say()
    before, after, _ = capsys.readouterr().err.splitlines()
    assert "/s" not in before and "left" not in before
    assert after.startswith(told) and "-" not in after


def test_a_log_that_cannot_be_written_does_not_end_the_work(tmp_path: Path) -> None:
    """As with `aflow-grpo … 2>&1 | head`."""
    code = """
from aflow_grpo.terminal import progress
with progress("x", 3, line_every_s=0) as step:
    for _ in range(3):
        step.advance(1)
open("worked", "w").close()
"""
    read, write = os.pipe()
    os.close(read)
    subprocess.run([sys.executable, "-c", code], stderr=write, cwd=tmp_path, timeout=30)
    os.close(write)
    assert (tmp_path / "worked").exists()


# How much is said


@pytest.mark.parametrize(
    ("value", "level"),
    [
        ("quiet", "quiet"),
        ("debug", "debug"),
        ("normal", "normal"),
        ("loud", "normal"),
        ("", "normal"),
    ],
)
def test_the_environment_says_how_much(
    monkeypatch: pytest.MonkeyPatch, value: str, level: str
) -> None:
    monkeypatch.setenv(VERBOSITY, value)
    assert verbosity() == level
    monkeypatch.delenv(VERBOSITY)
    assert verbosity() == "normal"


@pytest.mark.parametrize("by", ["environment", "argument"])
def test_quiet_shows_no_progress(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setenv(VERBOSITY, "quiet" if by == "environment" else "normal")
    with progress("x", 3, quiet=by == "argument", line_every_s=0) as step:
        step.advance(1)
        step.say()
    assert "".join(capsys.readouterr()) == ""


def test_an_error_is_one_line_and_with_debug_says_where_it_was_raised(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> ConfigError:
        try:
            raise ConfigError("x=1: expected 2.\x1b[2J")
        except ConfigError as error:
            return error

    monkeypatch.delenv(VERBOSITY, raising=False)
    complain("aflow-grpo infer", fail())
    line = "aflow-grpo infer: x=1: expected 2.\N{REPLACEMENT CHARACTER}[2J\n"
    assert capsys.readouterr().err == line
    monkeypatch.setenv(VERBOSITY, "debug")
    complain("aflow-grpo infer", fail())
    said = capsys.readouterr().err
    assert said.startswith("Traceback") and "in fail" in said and said.endswith(line)
    assert "\x1b" not in said


@pytest.fixture
def our_logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("aflow_grpo")
    handlers, level = list(logger.handlers), logger.level
    yield logger
    logger.handlers, logger.level = handlers, level


def test_the_log_is_shown_with_debug_only_and_once(
    our_logger: logging.Logger,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VERBOSITY, "normal")
    show_log()
    our_logger.getChild("llm").debug("unheard")
    monkeypatch.setenv(VERBOSITY, "debug")
    show_log()
    show_log()
    our_logger.getChild("llm").debug("model wrote %s", "\x1b[2J")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(" aflow_grpo.llm: model wrote \N{REPLACEMENT CHARACTER}[2J")


def test_a_warning_cannot_steer_the_terminal(
    our_logger: logging.Logger,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    our_logger.handlers = []
    monkeypatch.setenv(VERBOSITY, "normal")
    show_log()
    our_logger.getChild("llm").info("unheard")
    our_logger.getChild("llm").warning("the endpoint said %s", "\x1b]0;pwned\x07")
    mark = "\N{REPLACEMENT CHARACTER}"
    assert capsys.readouterr().err == f"the endpoint said {mark}]0;pwned{mark}\n"


def test_text_of_a_model_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2J\r\tb\nc\u202e\x9b") == "a�[2J�\tb\nc��"
    assert (
        printable("Größe\u00a0你好\u3000½ \N{BLACK RIGHT-POINTING POINTER}")
        == "Größe\u00a0你好\u3000½ ►"
    )


def test_a_console_takes_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("[red]x[/red] :fire: 12")
    assert capsys.readouterr().out == "[red]x[/red] :fire: 12\n"
