"""The process that compares formulas which others wrote; only `equivalence` starts it.

Computer algebra on hostile text may evaluate, loop or eat memory: here it may, since nothing else
lives here. One request a line on stdin (JSON: `rule`, `answer`, `gold`, `seconds`), one reply a
line on what was stdout; the end of stdin ends the process, so it dies with its parent. Where the
kernel can (landlock, seccomp: `sandbox.lockdown`) the process can open no file but its libraries,
write none and start nothing; everywhere it has limits on memory and time.

Rules: `verify` is math-verify's comparison (LaTeX grammar only, its route over `eval` is not
used); `sympy` is AFlow's symbolic comparison (`math_aflow`), whose `parse_expr` does evaluate:
only text of plain arithmetic reaches it.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["main"]

_MEMORY_BYTES = 2 << 30
"""Address space, the libraries' 200 MB included."""
_PLAIN_ARITHMETIC = re.compile(r"[\w\s.,+\-*/^()=<>!|\[\]]*")
_EVALUATES = re.compile(
    r"__|[A-Za-z_\])]\s*\.\s*[A-Za-z_]|(?<![\w.])(?:lambda|import|exec|eval|open|compile|print)\b"
    r"|\*\*.*\*\*|\d{40}|\*\*\s*\(?\s*-?\d{5}|!.*!|\d{5}!|(?:factorial|Pow|range)\b"
)


class _TimeIsUp(BaseException):
    """No `Exception`: the libraries catch those."""


def main() -> None:
    """Serve requests until stdin ends."""
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    rules: dict[str, Callable[[str, str], bool]] = {"verify": _verify, "sympy": _sympy_equal}
    for rule in rules.values():  # imports and first-use caches, before the doors close
        rule("x+1", "1+x")
    _lock()
    signal.signal(signal.SIGALRM, _ring)
    print(json.dumps({"ready": True}), file=replies, flush=True)
    for line in requests:
        request = json.loads(line)
        reply = _answer(rules[request["rule"]], request)
        print(json.dumps(reply), file=replies, flush=True)


def _ring(_signal: int, _frame: FrameType | None) -> None:
    raise _TimeIsUp


def _answer(rule: Callable[[str, str], bool], request: dict[str, Any]) -> dict[str, Any]:
    try:
        signal.setitimer(signal.ITIMER_REAL, request["seconds"])
        try:
            return {"equal": rule(request["answer"], request["gold"])}
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except _TimeIsUp:
        return {"equal": False, "why": "timeout"}
    except MemoryError:
        return {"equal": False, "why": "memory"}
    except Exception as error:  # whatever the libraries raise on hostile text: not equal
        return {"equal": False, "why": type(error).__name__}


def _lock() -> None:
    """Give up what comparing needs not; the kernel's part where the kernel has it."""
    for limit, value in (
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        _, hard = resource.getrlimit(limit)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    if not sys.platform.startswith("linux"):
        return
    from aflow_grpo.sandbox.lockdown import load_libc, lock_process
    from aflow_grpo.sandbox.seccomp import build_filter, current_architecture, install_filter

    libraries = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib")}
    libraries |= {entry for entry in sys.path if entry and Path(entry).is_dir()}
    architecture = current_architecture()
    if architecture is None:
        return
    libc = load_libc()
    try:
        lock_process(libc, readable=sorted(libraries), listable=sorted(libraries))
        install_filter(libc, build_filter(architecture, os.getpid()))
    except OSError:
        return  # an old kernel; no rule evaluates text, and the limits above hold


def _verify(answer: str, gold: str) -> bool:
    from math_verify import (  # type: ignore[import-untyped]
        LatexExtractionConfig,
        parse,
        verify,
    )

    config = [LatexExtractionConfig(boxed_match_priority=0)]
    values = [
        parse(rf"\boxed{{{text}}}", config, fallback_mode="no_fallback", parsing_timeout=None)
        for text in (gold, answer)
    ]
    if not all(values):
        return False
    return bool(verify(values[0], values[1], timeout_seconds=None, allow_set_relation_comp=True))


def _sympy_equal(answer: str, gold: str) -> bool:
    """AFlow's `symbolic_equal` without a LaTeX parser: equal, or the difference is 0."""
    import math

    from sympy import N, simplify  # type: ignore[import-untyped]
    from sympy.parsing.sympy_parser import parse_expr  # type: ignore[import-untyped]

    def value(text: str) -> Any:
        harmless = _PLAIN_ARITHMETIC.fullmatch(text) and not _EVALUATES.search(text)
        if not harmless:
            return text
        try:
            return parse_expr(text)
        except Exception:
            return text

    one, other = value(answer), value(gold)
    try:
        if simplify(one - other) == 0:
            return True
    except Exception:
        pass
    try:
        return math.isclose(N(one), N(other), abs_tol=1e-3)
    except Exception:
        return False


if __name__ == "__main__":
    main()
