"""Which back-end a machine gets: kernels that deny something are simulated by a filter of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = """
import asyncio, ctypes, logging, struct, sys
from aflow_grpo.sandbox.pool import Sandbox
from aflow_grpo.sandbox.seccomp import install_filter

ERRNO, ALLOW, LOAD, EQUAL, ANY_BIT, RETURN = 0x50000, 0x7FFF0000, 0x20, 0x15, 0x45, 0x06
DENIED = {
    "nothing": [],
    # unshare, clone3, setns; then clone with a flag of a new namespace
    "namespaces": [272, 435, 308, (56, ANY_BIT, 0x7E020000)],
    "landlock": [444],
    "seccomp": [317, (157, EQUAL, 22)],
    "timers of processor time": [222],
}

def deny(what):
    program = []
    for rule in DENIED[what]:
        number, test, value = rule if isinstance(rule, tuple) else (rule, EQUAL, rule)
        offset = 16 if isinstance(rule, tuple) else 0
        program += [(LOAD, 0, 0, 0), (EQUAL, 0, 3, number), (LOAD, 0, 0, offset)]
        program += [(test, 0, 1, value), (RETURN, 0, 0, ERRNO | (38 if number == 435 else 1))]
    program.append((RETURN, 0, 0, ALLOW))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    install_filter(libc, b"".join(struct.pack("=HBBI", *part) for part in program))

async def main():
    async with Sandbox(mode=sys.argv[2]) as sandbox:
        result = await sandbox.evaluate("x = 20", ["x + 1"])
        print(sandbox.mode, result.values[0].value)

logging.basicConfig(level=logging.WARNING)
deny(sys.argv[1])
asyncio.run(main())
"""


def _run(
    denied: str, mode: str = "auto", *, python: str = sys.executable, user: int | None = None
) -> subprocess.CompletedProcess[str]:
    if os.uname().machine != "x86_64":
        pytest.skip("the simulation's numbers are of x86_64")
    other = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    return subprocess.run(
        [python, "-B", "-c", _PROGRAM, denied, mode],
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        **other,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("denied", ["nothing", "namespaces"])
def test_the_jail_needs_no_namespaces(denied: str) -> None:
    ran = _run(denied)
    assert ran.stdout in ("jail 21\n", "jail+bwrap 21\n"), ran
    assert denied == "nothing" or ran.stdout == "jail 21\n", ran
    assert ran.stderr == ""


@pytest.mark.parametrize("denied", ["nothing", "namespaces"])
def test_an_ordinary_user_has_the_jail(denied: str) -> None:
    python = "/usr/bin/python3"
    recent = "import sys; sys.exit(sys.version_info < (3, 11))"
    if os.geteuid() != 0:
        pytest.skip("the other tests run as an ordinary user already")
    if not Path(python).exists() or subprocess.run([python, "-c", recent]).returncode:
        pytest.skip("no system Python of 3.11 or later that another account could start")
    ran = _run(denied, python=python, user=65534)
    assert ran.stdout.endswith(" 21\n") and ran.stdout.startswith("jail"), ran


@pytest.mark.parametrize("denied", ["landlock", "seccomp", "timers of processor time"])
def test_code_runs_in_monty_where_the_kernel_cannot_enforce_the_jail(denied: str) -> None:
    ran = _run(denied)
    assert ran.stdout == "monty 21\n", ran
    assert "Code that operators run has no jail here (the jail " in ran.stderr
    assert "it runs in Monty instead" in ran.stderr


def test_a_demanded_jail_is_never_replaced() -> None:
    ran = _run("landlock", "jail")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "No way to run untrusted code safely on this machine" in ran.stderr
