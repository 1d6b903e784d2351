"""The inside of one job: reads the request, runs the source, evaluates, reports.

It runs in a locked-down fork of the zygote, in one process with the untrusted code. So whatever
it reports may be forged by that code, which gains nothing: a forged value is no more than a value
that the code could have returned. Verdicts are formed elsewhere (`judge.py`).

On the channel: the request as one length-prefixed JSON object, then one JSON line for the source
and one per expression, as each is known, so that a killed job keeps what it had.
"""

from __future__ import annotations

import json
import linecache
import os
import random
import struct
import sys
import traceback
import types
from typing import Any

from aflow_grpo.sandbox import values

__all__ = ["CHANNEL", "LENGTH_PREFIX", "run_job"]

CHANNEL = 3
"""File descriptor of the job's end of the channel."""
LENGTH_PREFIX = struct.Struct("!Q")
"""In front of the request: its length in bytes."""

_SOURCE, _EXPRESSION = "solution.py", "<expression>"
_MODULE = "solution"  # not "__main__": a script's main block must not run
_MAX_FRAMES = 6
_MAX_ERROR = 4000


def _read_exactly(length: int) -> bytes:
    parts: list[bytes] = []
    while length > 0:
        part = os.read(CHANNEL, min(length, 1 << 20))
        if not part:
            raise EOFError("the request is cut short")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _read_request() -> dict[str, Any]:
    (length,) = LENGTH_PREFIX.unpack(_read_exactly(LENGTH_PREFIX.size))
    request: dict[str, Any] = json.loads(_read_exactly(length))
    return request


def _report(line: dict[str, Any]) -> None:
    data = json.dumps(line).encode() + b"\n"
    while data:
        data = data[os.write(CHANNEL, data) :]


def _describe(error: BaseException) -> str:
    """The last lines of the traceback: the code's own frames with lines, others without path."""
    told = traceback.TracebackException.from_exception(error, limit=-30)
    own = [frame for frame in told.stack if frame.filename != __file__]
    for frame in own:
        frame.filename = os.path.basename(frame.filename)
    told.stack = traceback.StackSummary.from_list(own[-_MAX_FRAMES:])
    told.__cause__ = told.__context__ = None
    text = "".join(told.format()).strip()
    return text if len(text) <= _MAX_ERROR else text[:1000] + "\n...\n" + text[-2900:]


def _failure(error: BaseException, *, compiling: bool = False) -> dict[str, Any]:
    # The parser answers too deep nesting with MemoryError: that is no matter of memory.
    memory = isinstance(error, MemoryError) and not compiling
    return {"ok": False, "memory": memory, "error": "MemoryError" if memory else _describe(error)}


def _run_source(source: str, module: types.ModuleType) -> dict[str, Any]:
    try:
        code = compile(source, _SOURCE, "exec", dont_inherit=True)
    except BaseException as error:
        return _failure(error, compiling=True)
    try:
        exec(code, module.__dict__)
    except BaseException as error:  # SystemExit and KeyboardInterrupt too
        return _failure(error)
    return {"ok": True}


def _evaluate(expression: str, module: types.ModuleType) -> dict[str, Any]:
    try:
        code = compile(expression, _EXPRESSION, "eval", dont_inherit=True)
        return {"ok": True, "value": values.dumps(eval(code, module.__dict__))}
    except values.UnsupportedValue as error:
        return {"ok": False, "error": str(error)}
    except BaseException as error:
        return _failure(error)


def run_job() -> None:
    """Serve the one request on the channel; the process must be locked down already."""
    request = _read_request()
    module = types.ModuleType(_MODULE)
    sys.modules[_MODULE] = module  # dataclasses and typing look their module up
    source = request["source"]
    lines = source.splitlines(keepends=True)
    linecache.cache[_SOURCE] = (len(source), None, lines, _SOURCE)
    random.seed(0)  # the same request gives the same answer
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed(0)
    for name, data in request["inputs"].items():
        setattr(module, name, values.decode(data))
    _report(_run_source(source, module))
    for expression in request["expressions"]:
        _report(_evaluate(expression, module))
    for stream in (sys.stdout, sys.__stdout__):
        if stream is not None:
            stream.flush()
