"""Files that are there whole or not at all: where to write first, and how it gets to its place.

What is no file (a pipe, `/dev/stdout`, `/dev/null`) is written to, never replaced: a rename over it
would put a file where a device was. Of a link the file that it names is replaced, not the link.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path

__all__ = ["WholeFile"]


@dataclass(frozen=True)
class WholeFile:
    """The place of a file that is being made."""

    target: Path
    part: Path
    """What to write to."""

    @classmethod
    def at(cls, path: Path) -> WholeFile:
        """Makes the folder, if there is none.

        Raises:
            OSError: `path` is a folder, or no folder can be made for it.
        """
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if path.exists() and not path.is_file():
            return cls(path, path)
        target = path.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        return cls(target, target.with_name(f".{target.name}.part"))

    def keep(self) -> None:
        """It is whole: to its place."""
        if self.part != self.target:
            self.part.replace(self.target)

    def discard(self) -> None:
        """It will not be whole."""
        if self.part != self.target:
            self.part.unlink(missing_ok=True)
