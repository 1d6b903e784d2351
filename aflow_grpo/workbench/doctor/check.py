"""One line of the doctor's answer, and how many of them are found at once.

Checks are isolated: each task runs in a thread of its own under a time limit; one that crashes or
hangs becomes a failure line, and the others are not kept waiting. Not here: what is checked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

__all__ = ["GROUPS", "Check", "Group", "Status", "Task", "run_tasks", "worst"]

Status = Literal["ok", "warning", "failure"]
Group = Literal["software", "devices", "isolation", "machine", "endpoints", "lab book"]
GROUPS: tuple[Group, ...] = (
    *("software", "devices", "isolation"),
    *("machine", "endpoints", "lab book"),
)
"""In the order in which they are shown."""
_ORDER: tuple[Status, ...] = ("ok", "warning", "failure")


@dataclass(frozen=True)
class Check:
    """What one look at the machine found."""

    name: str
    """Stable, for programs: ``torch``, ``gpu.0``, ``key.primary``."""
    group: Group
    status: Status
    found: str
    """What is there, in one line; never a whole key."""
    remedy: str = ""
    """What to do about it; empty where nothing has to be done."""

    def as_dict(self) -> dict[str, str]:
        """The JSON form."""
        return asdict(self)


@dataclass(frozen=True)
class Task:
    """A look at something, which gives one line or more."""

    name: str
    """Of the line that says so when the look itself fails."""
    group: Group
    look: Callable[[], Iterable[Check]]
    limit_s: float = 5.0


def worst(checks: Iterable[Check]) -> Status:
    """The gravest status among `checks`; ok for none."""
    return max((check.status for check in checks), key=_ORDER.index, default="ok")


def run_tasks(tasks: Sequence[Task]) -> list[Check]:
    """Everything that the tasks found, in the order of groups and then of tasks.

    The threads are daemons: one that hangs is left behind and does not keep the process alive.
    """
    found: dict[int, list[Check]] = {}

    def look(index: int, task: Task) -> None:
        try:
            found[index] = list(task.look())
        except Exception as error:  # a bug, or a machine that nobody thought of
            found[index] = [_crashed(task, error)]

    started = time.monotonic()
    threads = [
        threading.Thread(target=look, args=(index, task), name=f"doctor {task.name}", daemon=True)
        for index, task in enumerate(tasks)
    ]
    for thread in threads:
        thread.start()
    for index, (task, thread) in enumerate(zip(tasks, threads, strict=True)):
        thread.join(max(0.0, started + task.limit_s - time.monotonic()))
        found.setdefault(index, [_hung(task)])
    lines = [line for index in range(len(tasks)) for line in found[index]]
    return sorted(lines, key=lambda line: GROUPS.index(line.group))


def _crashed(task: Task, error: Exception) -> Check:
    return Check(
        task.name,
        task.group,
        "failure",
        f"the check itself failed: {type(error).__name__}: {str(error)[:200]}",
        "Please report this line with your platform; the other lines hold.",
    )


def _hung(task: Task) -> Check:
    return Check(
        task.name,
        task.group,
        "failure",
        f"no answer within {task.limit_s:g} s",
        "Something that it asks hangs (a file system, a driver, a server); ask again later.",
    )
