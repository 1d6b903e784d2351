"""Puts a folder or a file in its place whole or not at all.

What is being written lies beside its place under a hidden name, so a kill or a full disk leaves
nothing that looks finished. What is there already is replaced only on request, and a folder only
when an export wrote it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from aflow_grpo.errors import ConfigError

__all__ = ["FACTS", "filled_folder", "require_free", "written_file"]

FACTS = "aflow_grpo.json"
"""In every exported folder: what it is; by this file it is known as one that may be replaced."""


@contextmanager
def filled_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yields where to write, which does not exist yet; it takes `target`'s name at the end.

    Raises:
        ConfigError: `target` is taken, or the disk does not take it.
    """
    require_free(target, overwrite=overwrite)
    part, old = _beside(target, "part"), _beside(target, "old")
    try:
        with _storage(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(part, ignore_errors=True)
            yield part
            _sync(part)
            if target.exists():
                target.rename(old)
            part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def require_free(target: Path, *, overwrite: bool) -> None:
    """Called early, before anything that takes long.

    Raises:
        ConfigError: `target` is taken.
    """
    if target.exists() and not _replaceable(target, overwrite=overwrite):
        raise ConfigError(_taken(target, overwrite=overwrite))


def written_file(target: Path, text: str, *, overwrite: bool) -> None:
    """Write a text file.

    Raises:
        ConfigError: `target` is taken, or the disk does not take it.
    """
    if target.is_dir():
        raise ConfigError(f"--output={target}: a folder. Expected the name of a file.")
    if target.exists() and not overwrite:
        raise ConfigError(f"--output={target}: exists. Give another name, or --overwrite true.")
    part = _beside(target, "part")
    try:
        with _storage(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with part.open("w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _beside(target: Path, end: str) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.{end}")


def _replaceable(target: Path, *, overwrite: bool) -> bool:
    if not target.is_dir():
        return False
    empty = next(target.iterdir(), None) is None
    return empty or (overwrite and (target / FACTS).is_file())


def _taken(target: Path, *, overwrite: bool) -> str:
    if not target.is_dir():
        return f"--output={target}: a file. Expected a new folder."
    if overwrite:
        return (
            f"--output={target}: holds no {FACTS}, so no export wrote it, and --overwrite replaces "
            "nothing else. Give another folder, or remove it yourself."
        )
    return f"--output={target}: exists. Give another folder, or --overwrite true to replace it."


@contextmanager
def _storage(target: Path) -> Iterator[None]:
    """Says of a disk that is full or read-only what to do."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"--output={target}: cannot be written ({why}). Nothing was left there. Make room, or "
            "give a place that you may write to."
        ) from error


def _sync(folder: Path) -> None:
    """To the disk, before the name says that it is whole."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
