"""Which process of a distributed run this is, before anything heavy has been imported.

Lightning's launcher runs the command once for each device of a machine; torchrun, srun and their
like start all of them. Each says so in environment variables. The first process speaks, holds the
run's directory and writes the lab book; the others are silent. Not here: what they tell each other
(`ranks`), how they end (`rank_watch`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping

__all__ = ["is_child_of_first", "is_first_rank"]

_OF_ALL = ("RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Numbers among all processes, by launcher."""
_OF_A_PART = ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK")
"""Numbers on a machine, and of machines: the first process has 0 in all of them."""


def is_first_rank(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is rank 0, or the only process."""
    if "LOCAL_RANK" in environment and "RANK" not in environment:
        # Lightning's own launcher; inside a SLURM allocation its children inherit SLURM's number.
        names = [*_OF_A_PART]
    else:
        names = [*_OF_ALL, *_OF_A_PART]
    return all(environment.get(name, "0") == "0" for name in names)


def is_child_of_first(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether Lightning's launcher has started this process, which ends with its parent."""
    return "RANK" not in environment and environment.get("LOCAL_RANK", "0") != "0"
