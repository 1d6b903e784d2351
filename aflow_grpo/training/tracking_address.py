"""Where a run is tracked, and what of that address a person or a file may see.

Given by `mlflow.tracking_uri`, else by MLflow's own MLFLOW_TRACKING_URI, else SQLite under the
run's directory. A password in a server's address goes to the environment, where MLflow's client
looks for it, so that nothing else ever holds it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from aflow_grpo.errors import ConfigError

__all__ = ["CREDENTIALS", "TrackingAddress", "plain_reason", "resolve_address", "without_password"]

_VARIABLE = "MLFLOW_TRACKING_URI"
CREDENTIALS = _USER, _PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
_CREDENTIALS = re.compile(r"\b([a-zA-Z][\w+.\-]*://)[^/\s]*@")
_OF_DATABASES = re.compile(r"\b((?!https?:)[a-zA-Z][\w+.\-]*://)[^:/@\s]*:[^@\s]*@")
"""SQLAlchemy's passwords may hold what would end them in a server's address."""
_SECRETS = re.compile(r"(?i)([?&;](?:\w*(?:password|passwd|pwd|secret|token|key))=)[^&;\s]+")
"""In a database's query; SQLAlchemy takes a password there too."""


@dataclass(frozen=True)
class TrackingAddress:
    """A store of MLflow runs."""

    uri: str
    """For MLflow's client; of a database it may hold a password."""
    shown: str
    """The same without credentials."""
    is_own: bool
    """Whether it is the SQLite file in the run's directory."""

    @property
    def is_server(self) -> bool:
        """Whether it is a tracking server."""
        return self.uri.startswith(("http://", "https://"))


def resolve_address(root: Path, given: str | None = None) -> TrackingAddress:
    """Where a run in `root` is tracked.

    Args:
        root: The run's directory.
        given: `mlflow.tracking_uri`.

    Raises:
        ConfigError: The address is a folder, which MLflow no longer tracks runs in.
    """
    own = f"sqlite:///{root.resolve() / 'mlflow.db'}"
    uri = (given or os.environ.get(_VARIABLE) or own).strip()
    if uri == own:
        return TrackingAddress(own, own, is_own=True)
    if ("://" not in uri and not uri.startswith(("databricks", "sqlite:"))) or uri[:5] == "file:":
        said = f"mlflow.tracking_uri={uri}" if given else f"{_VARIABLE}={uri}"
        raise ConfigError(
            f"{said}: expected a server such as http://127.0.0.1:5000 or a database such as "
            "sqlite:///FILE.db. MLflow no longer tracks runs in plain folders."
        )
    if uri.startswith(("http://", "https://")):
        uri = _credentials_to_environment(uri)
    return TrackingAddress(uri, without_password(uri), is_own=False)


def without_password(text: str) -> str:
    """A text as a person may see it, whatever addresses it holds."""
    plain = _OF_DATABASES.sub(r"\1", _CREDENTIALS.sub(r"\1", text))
    return _SECRETS.sub(r"\1(hidden)", plain)


def plain_reason(error: BaseException) -> str:
    """The root of an error in one line, without the credentials that an address may hold."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    text = " ".join(str(cause).split()) or type(cause).__name__
    return without_password(text)[:300]


def _credentials_to_environment(uri: str) -> str:
    parts = urlsplit(uri)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return uri
    name, _, password = user.partition(":")
    os.environ[_USER], os.environ[_PASSWORD] = unquote(name), unquote(password)
    return urlunsplit(parts._replace(netloc=host))
