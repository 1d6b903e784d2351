"""Files of a benchmark from the Hugging Face hub, by `huggingface_hub`'s own client and cache.

The endpoint is the client's (`HF_ENDPOINT`), so are cache and token. Nothing is fetched unless this
is called. Not covered: repositories that need a script to make their data.
"""

from __future__ import annotations

import fnmatch
import os
from dataclasses import dataclass
from pathlib import Path

from aflow_grpo.data.catalogue import Benchmark, BenchmarkFile
from aflow_grpo.errors import DataError

__all__ = ["Fetched", "fetch"]


@dataclass(frozen=True)
class Fetched:
    """One file that is here now."""

    path: Path
    """Where it lies (in the client's cache)."""
    name: str
    """Its path in the repository."""
    file: BenchmarkFile
    """The entry of the catalogue that asked for it."""


def fetch(entry: Benchmark) -> tuple[str, list[Fetched]]:
    """The commit and the files of a benchmark, all of one commit.

    Raises:
        DataError: The hub cannot be reached or has no such files; says what to do.
    """
    # Imported here: it reads its environment variables on import, and takes half a second.
    from huggingface_hub import HfApi, errors, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    # What its HTTP client raises without a connection, whichever client that is.
    unconnected = getattr(errors, "HTTPError", OSError)

    try:
        commit = HfApi().dataset_info(entry.hub).sha or "main"
        present = HfApi().list_repo_files(entry.hub, repo_type="dataset", revision=commit)
        fetched = [
            Fetched(Path(hf_hub_download(entry.hub, name, repo_type="dataset", revision=commit)),
                    name, file)
            for file in entry.hub_files
            for name in _matching(entry, file, present)
        ]  # fmt: skip
    except HfHubHTTPError as error:
        raise DataError(
            f"{entry.hub}: the hub answers {_first_line(error)}; expected the files of "
            f"{entry.name}. Log in with `hf auth login` if it asks for that; else download the "
            "files by hand and give --source DIR"
        ) from None
    except (OSError, unconnected) as error:
        raise _unreachable(entry, error) from None
    return commit, fetched


def _matching(entry: Benchmark, file: BenchmarkFile, present: list[str]) -> list[str]:
    names = sorted(name for name in present if fnmatch.fnmatchcase(name, file.path))
    if not names:
        shown = ", ".join(sorted(present)[:8]) or "nothing"
        raise DataError(
            f"{entry.hub}: found no file {file.path} on the hub (it has {shown}), expected the "
            f"{file.role} rows of {entry.name}. Download its files by hand and give --source DIR"
        )
    return names


def _unreachable(entry: Benchmark, error: Exception) -> DataError:
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
    advice = (
        "HF_HUB_OFFLINE is set: unset it to allow the download"
        if offline
        else "check the connection, or HF_ENDPOINT if you use a mirror"
    )
    return DataError(
        f"{entry.hub}: the hub cannot be reached ({_first_line(error)}), expected to fetch "
        f"{entry.name} from it. {advice}; or put the files into a folder and give --source DIR "
        f"(looked for there: {', '.join(file.path for file in entry.local_files)})"
    )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".split("\n")[0][:200]
