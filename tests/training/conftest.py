"""What the training tests share: one MLflow store, since making one takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def runs_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory that is not yet there, with everything in its name that a path may hold."""
    return tmp_path_factory.mktemp("runs") / "my runs/[red]bold[/red] :fire: $HOME it's & more"
