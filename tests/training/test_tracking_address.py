"""Where a run is tracked, by setting, environment or neither; and passwords that nobody sees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aflow_grpo.errors import ConfigError
from aflow_grpo.training.plain_settings import without_keys
from aflow_grpo.training.tracking_address import plain_reason, resolve_address, without_password

VARIABLE = "MLFLOW_TRACKING_URI"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (VARIABLE, "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")


def test_without_any_it_is_sqlite_in_the_runs_directory(tmp_path: Path) -> None:
    address = resolve_address(tmp_path / "run")
    assert address.uri == address.shown == f"sqlite:///{tmp_path}/run/mlflow.db"
    assert address.is_own and not address.is_server


def test_the_setting_wins_over_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "http://everyone:5000")
    assert resolve_address(tmp_path).uri == "http://everyone:5000"
    assert resolve_address(tmp_path, "http://mine:5000/sub").uri == "http://mine:5000/sub"
    own = f"sqlite:///{tmp_path}/mlflow.db"
    assert resolve_address(tmp_path, own).is_own, "the own store can be asked for"


def test_a_servers_password_goes_where_only_mlflows_client_looks(tmp_path: Path) -> None:
    address = resolve_address(tmp_path, "https://me:p%40ss@host:8443/mlflow")
    assert address.uri == address.shown == "https://host:8443/mlflow"
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "me"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "p@ss"


def test_a_databases_password_stays_in_its_address_and_is_not_shown(tmp_path: Path) -> None:
    address = resolve_address(tmp_path, "postgresql+psycopg2://me:pass@host/runs")
    assert address.uri == "postgresql+psycopg2://me:pass@host/runs"
    assert address.shown == "postgresql+psycopg2://host/runs"


@pytest.mark.parametrize("folder", ["mlruns", "/tmp/mlruns", "file:///tmp/mlruns", "file:mlruns"])
def test_a_folder_is_refused_with_what_to_give_instead(tmp_path: Path, folder: str) -> None:
    with pytest.raises(ConfigError, match=rf"mlflow.tracking_uri={folder}: expected a server"):
        resolve_address(tmp_path, folder)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://u:p@h:1/x", "http://h:1/x"),
        ("API request to http://u:p@h/api failed", "API request to http://h/api failed"),
        ("http://token@h", "http://h"),
        ("http://h/a@b", "http://h/a@b"),
        ("https://host:8443/models@v2", "https://host:8443/models@v2"),
        ("http://u:p@ss@h:1/x", "http://h:1/x"),
        ("postgresql://u:p/w@h/runs", "postgresql://h/runs"),
        ("postgresql://u:p?w#x@h/runs", "postgresql://h/runs"),
        ("postgresql://h/runs?user=u&password=pw&ssl=1",
         "postgresql://h/runs?user=u&password=(hidden)&ssl=1"),
        ("sqlite:////tmp/me@home/x.db", "sqlite:////tmp/me@home/x.db"),
        ("someone@example.org", "someone@example.org"),
    ],
)  # fmt: skip
def test_only_credentials_are_taken_out(text: str, shown: str) -> None:
    assert without_password(text) == shown
    assert without_keys({"mlflow": [text]}) == {"mlflow": [shown]}


def test_the_root_of_an_error_is_told_in_one_line() -> None:
    try:
        try:
            raise ConnectionError("no\nroute to http://u:p@h")
        except ConnectionError as cause:
            raise RuntimeError("wrapped") from cause
    except RuntimeError as error:
        assert plain_reason(error) == "no route to http://h"
    assert plain_reason(TimeoutError()) == "TimeoutError"
