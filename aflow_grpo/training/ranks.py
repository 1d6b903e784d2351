"""What the processes of a distributed run tell each other besides gradients.

Lightning's strategy starts the processes and averages gradients. What is left is small: numbers of
every rollout, so that advantages and normalisers are those of the whole batch, and bad news. Both
go through one place, because a rank that leaves early makes all others wait for ever: whoever fails
inside `together` says so in the same gathering in which the others say that they are well.

Not here: which rank draws which problems (`data.sampler`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

import lightning as L
import torch.distributed as dist

from aflow_grpo.errors import AFlowError, RankFailed, RolloutFault

__all__ = ["TOLD", "Ranks"]

TOLD = "Every rank knows of it."
"""The note on an error that the first rank speaks of, so that the others need not."""

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """The processes of a run; all of them call the same methods in the same order."""

    rank: int = 0
    """This process's number, from 0."""
    world_size: int = 1
    """How many there are."""

    @classmethod
    def of(cls, trainer: L.Trainer) -> Ranks:
        """Those of the trainer's strategy."""
        return cls(trainer.global_rank, trainer.world_size)

    def gather(self, mine: T) -> list[T]:
        """Everybody's value, by rank; it has to be picklable."""
        if self.world_size == 1:
            return [mine]
        everybody: list[T | None] = [None] * self.world_size
        dist.all_gather_object(everybody, mine)
        return everybody  # type: ignore[return-value] # every place has been filled

    @contextmanager
    def together(self) -> Iterator[None]:
        """Ends on all ranks or on none: an exception inside is raised on the others too.

        No rank may gather anything inside, since a failed one would not. A signal is not told of:
        it has to stop this process at once, which the others notice by its closed connection.

        Raises:
            AFlowError: That of the lowest rank that failed, if it is one for a person.
            RankFailed: Another rank failed otherwise.
        """
        try:
            yield
        except Exception as error:
            with suppress(RuntimeError):  # torch's, when somebody is not there any more
                self.gather(_portable(error))
                error.add_note(TOLD)
            raise
        well: AFlowError | None = None
        for rank, told in enumerate(self.gather(well)):
            if told is not None:
                theirs = type(told)(f"rank {rank}: {told}")
                theirs.add_note(TOLD)
                raise theirs


def _portable(error: Exception) -> AFlowError:
    """Something that another process can raise: our own errors have a message and nothing else."""
    if isinstance(error, AFlowError) and not isinstance(error, RolloutFault):
        return error
    return RankFailed(f"{type(error).__name__}: {error}")
