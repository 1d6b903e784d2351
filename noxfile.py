"""`nox` runs lint, types, layers and tests in one shared environment; slow sessions go by name.

nox                  check + tests: what CI runs
nox -s quickstart    the README's first command and its promises, three seeds
nox -s slow          the tests that take minutes
nox -s docs          the documentation as a site, in docs/_build/html
nox -s calibration   simulated beside recorded figures; needs AFLOW_GRPO_DATA
nox -s experiments -- NAME   an experiment, whole; `-- NAME --short` for minutes of it
nox -s bench         speed figures; `-- executor`, `-- grpo`, `-- sampling` ... for one section
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import nox

nox.options.sessions = ["check", "tests"]

ROOT = Path(__file__).resolve().parent
# One environment for all sessions: the dependencies are 2 GB and take minutes to install.
ENVIRONMENT = ROOT / ".nox" / "shared"
BIN = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin")


def prepare(session: nox.Session) -> None:
    """Create or refresh the shared environment when pyproject.toml has changed."""
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    stamp = ENVIRONMENT / "installed-for"
    if not stamp.is_file() or stamp.read_text() != wanted:
        session.run(sys.executable, "-m", "venv", str(ENVIRONMENT), external=True)
        run(session, "python", "-m", "pip", "install", "-q", "-e", f"{ROOT}[dev,parity]")
        stamp.write_text(wanted)


def run(session: nox.Session, program: str, *arguments: str, **kwargs: object) -> None:
    """Run a program of the shared environment."""
    session.run(str(BIN / program), *arguments, external=True, **kwargs)  # type: ignore[arg-type]


@nox.session(venv_backend="none")
def check(session: nox.Session) -> None:
    """Lint, format, types, layers."""
    prepare(session)
    run(session, "ruff", "check", ".")
    run(session, "ruff", "format", "--check", ".")
    run(session, "mypy")
    run(session, "lint-imports")


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """The tests, on two workers; arguments after -- go to pytest."""
    prepare(session)
    # A file stays on one worker, so that what its tests share is made once.
    arguments = session.posargs or ["-n", "2", "--dist", "loadfile", "-m", "not slow"]
    run(session, "pytest", *arguments, env={"HF_HUB_OFFLINE": "1"})


@nox.session(venv_backend="none")
def slow(session: nox.Session) -> None:
    """The tests that take minutes."""
    prepare(session)
    run(session, "pytest", "-m", "slow", *session.posargs, env={"HF_HUB_OFFLINE": "1"})


@nox.session(venv_backend="none")
def quickstart(session: nox.Session) -> None:
    """Train the quickstart with three seeds and check what it promises."""
    prepare(session)
    run(session, "pytest", "-s", "tests/slow/test_quickstart.py", *session.posargs)


@nox.session(venv_backend="none")
def experiments(session: nox.Session) -> None:
    """Repeat an experiment by its name, in the worlds that no recipe was chosen in."""
    prepare(session)
    run(session, "aflow-grpo", "experiment", *session.posargs)


@nox.session(venv_backend="none")
def bench(session: nox.Session) -> None:
    """Speed figures: workflows, sandbox jobs, executor calls, policy tokens per second."""
    prepare(session)
    run(session, "python", "-m", "tests.bench", *session.posargs)


@nox.session(venv_backend="none")
def docs(session: nox.Session) -> None:
    """The documentation as a site; a warning is an error."""
    prepare(session)
    run(session, "sphinx-build", "-W", "--keep-going", "-q", "docs", "docs/_build/html")
    session.log(f"{ROOT}/docs/_build/html/index.html")


@nox.session(venv_backend="none")
def calibration(session: nox.Session) -> None:
    """The simulator's figures beside the recorded ones; `-- --short` for half a minute of it."""
    prepare(session)
    run(session, "python", "-m", "aflow_grpo.evaluation.calibration", *session.posargs)
