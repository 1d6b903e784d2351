"""Are two formulas equal? Asks a process of its own, since computer algebra runs others' text.

One worker (`equivalence_worker`) per `Equivalence`, started at the first question, killed and
replaced when it overruns its time or breaks; callers wait in line. Not covered: which texts are
compared and what may be compared at all (`math_scorer`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

__all__ = ["MAX_FORMULA_CHARS", "Comparison", "Equivalence"]

MAX_FORMULA_CHARS = 500
"""What is longer is no answer to a problem, and equal to nothing."""
Comparison = Literal["equal", "different", "timeout", "failed"]
Rule = Literal["verify", "sympy"]

_ROOT = Path(__file__).resolve().parents[2]
_BOOTSTRAP = (
    "import sys; sys.path[:0] = [sys.argv[1]]; sys.path += sys.argv[2:]; "
    "from aflow_grpo.scoring.equivalence_worker import main; main()"
)
_START_TIMEOUT_S = 60.0
_CHILD_SHARE = 0.8
"""Of the time limit, after which the child gives up by itself; at the whole it is killed."""
_MAX_REMEMBERED = 4096


class Equivalence:
    """Compares formulas in a child process; an async context manager, for one event loop.

    Args:
        timeout_s: Most seconds for one comparison, the start of the child not counted.
    """

    def __init__(self, timeout_s: float = 5.0) -> None:
        self._timeout_s = timeout_s
        self._lock = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._known: OrderedDict[tuple[str, str, str], Comparison] = OrderedDict()

    async def __aenter__(self) -> Equivalence:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def equal(self, answer: str, gold: str) -> bool:
        """Whether math-verify calls the two LaTeX formulas equal; False when it takes too long."""
        return await self.compare(answer, gold) == "equal"

    async def compare(self, answer: str, gold: str, rule: Rule = "verify") -> Comparison:
        """Like `equal`, telling apart why two formulas are not equal.

        Args:
            answer: A formula, LaTeX; at most `MAX_FORMULA_CHARS` characters.
            gold: The formula it should equal, likewise.
            rule: `verify` for math-verify, `sympy` for AFlow's comparison without LaTeX.

        Returns:
            `timeout` past the time limit, `failed` when the child broke (its memory limit).
        """
        if max(len(answer), len(gold)) > MAX_FORMULA_CHARS:
            return "different"
        question = (rule, answer, gold)
        async with self._lock:
            if question not in self._known:
                self._known[question] = await self._ask(*question)
                if len(self._known) > _MAX_REMEMBERED:
                    self._known.popitem(last=False)
            return self._known[question]

    async def aclose(self) -> None:
        """Kill the child; a later question starts another one."""
        async with self._lock:
            await self._kill()

    async def _ask(self, rule: str, answer: str, gold: str) -> Comparison:
        process = self._process if self._process is not None else await self._start()
        seconds = self._timeout_s * _CHILD_SHARE
        request = {"rule": rule, "answer": answer, "gold": gold, "seconds": seconds}
        done = False
        try:
            async with asyncio.timeout(self._timeout_s):
                reply = await _exchange(process, json.dumps(request))
            done = True
        except TimeoutError:
            return "timeout"
        except (OSError, ValueError):
            return "failed"
        finally:
            if not done:  # overrun, broken or cancelled: its next line would be out of step
                await self._kill()
        if reply.get("why") == "timeout":
            return "timeout"
        return "equal" if reply["equal"] is True else "different"

    async def _start(self) -> asyncio.subprocess.Process:
        sites = [entry for entry in sys.path if entry and Path(entry).is_dir()]
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-c",
            _BOOTSTRAP,
            str(_ROOT),
            *sites,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            start_new_session=True,
        )
        ready = False
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await _exchange(process, None)
            ready = True
        except (OSError, ValueError, TimeoutError) as error:
            raise RuntimeError(
                "the process that compares formulas does not start; is math-verify installed?"
            ) from error
        finally:
            if not ready:
                await self._kill()
        return process

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        if process.stdin is not None:
            process.stdin.close()
        await process.wait()


async def _exchange(process: asyncio.subprocess.Process, request: str | None) -> dict[str, Any]:
    """Send one line (None: just listen) and read one.

    Raises:
        OSError: The process is gone.
        ValueError: It does not speak JSON.
    """
    assert process.stdin is not None and process.stdout is not None
    if request is not None:
        process.stdin.write(request.encode() + b"\n")
        await process.stdin.drain()
    line = await process.stdout.readline()
    if not line:
        raise ConnectionError("the process ended")
    reply: dict[str, Any] = json.loads(line)
    return reply
