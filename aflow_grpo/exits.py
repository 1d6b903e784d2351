"""The exit codes of the command line: one table, which the documentation prints."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Exit"]


class Exit(IntEnum):
    """How a command ended."""

    DONE = 0
    """Everything that was asked for is done."""
    FAILED = 1
    """Something broke, a full disk too; or a check (`data check`, `doctor`) found a fault."""
    USAGE = 2
    """Wrong usage or settings; nothing was begun."""
    LIMIT = 3
    """Ended by a limit: `llm.budget_usd`, `llm.max_unavailable`. The run can be continued."""
    DIVERGED = 4
    """Training has gone wrong; the message names the last good checkpoint."""
    INTERRUPTED = 130
    """Ctrl-C. The run can be continued."""
    TERMINATED = 143
    """SIGTERM. The run can be continued."""
