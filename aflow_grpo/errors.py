"""What can go wrong, as a tree.

Two kinds of trouble never mix:

* **A bad rollout is data.** Whatever a policy can do wrong (unparsable text, an unknown operator,
  an endless loop) and whatever an endpoint can do to us ends as a `Status` and a `FaultKind` on a
  record; the exceptions under `RolloutFault` carry it there and never reach a user.
* **Everything else is for a person**: settings, files, keys. Those errors say what was given, what
  was expected and what to do, in the words of the config key. A bug of ours is none of these
  and propagates as it is.

    AFlowError
    ├── ConfigError (ValueError)         a setting is wrong or two settings contradict each other
    ├── DataError (ValueError)           a file or a row is missing or malformed
    ├── SandboxUnavailable (RuntimeError)  no way to run untrusted code safely on this machine
    ├── ExecutorError (RuntimeError)     an endpoint cannot be used (no key, no price, no answer)
    │   └── OutageError                  a run ended because no endpoint answered any more
    ├── BudgetSpent (RuntimeError)       the run's money is spent: it ends before the next call
    ├── RankFailed (RuntimeError)        another process of a distributed run has failed
    ├── DivergedError (RuntimeError)     training has gone wrong: not finite, too far, not valid
    └── RolloutFault                     becomes a status on a record; never shown as a traceback
        ├── WorkflowFault                the workflow's own doing
        └── Unavailable                  the endpoint's doing, nobody's fault: masked from learning
"""

from __future__ import annotations

from aflow_grpo.records import FaultKind, Status

__all__ = [
    "AFlowError",
    "BudgetSpent",
    "ConfigError",
    "DataError",
    "DivergedError",
    "ExecutorError",
    "OutageError",
    "RankFailed",
    "RolloutFault",
    "SandboxUnavailable",
    "Unavailable",
    "WorkflowFault",
    "rollout_fault",
]


class AFlowError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigError(AFlowError, ValueError):
    """A setting is wrong; the message names the key, the value given and what is expected."""


class DataError(AFlowError, ValueError):
    """A data file or row is missing or malformed; the message names file, line and field."""


class SandboxUnavailable(AFlowError, RuntimeError):
    """Untrusted code cannot be run safely on this machine; the message says what is missing."""


class ExecutorError(AFlowError, RuntimeError):
    """An endpoint cannot be used (no key, no price, no answer); the message says what to do."""


class BudgetSpent(AFlowError, RuntimeError):
    """The next call could pass the run's budget; the message says how to go on."""


class OutageError(ExecutorError):
    """No endpoint answered any more, so that the run was ended; a checkpoint continues it."""


class RankFailed(AFlowError, RuntimeError):
    """Another process of a distributed run has failed; the message is what it failed with."""


class DivergedError(AFlowError, RuntimeError):
    """Training has gone wrong; the message says how and names the last good checkpoint."""


class RolloutFault(AFlowError):
    """Trouble inside one rollout; caught by the execution, which turns it into a status.

    Args:
        kind: What precisely went wrong.
        message: One line for a person, without secrets or host paths.
    """

    def __init__(self, kind: FaultKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message

    def __reduce__(self) -> tuple[type[RolloutFault], tuple[FaultKind, str]]:
        return type(self), (self.kind, self.message)


class WorkflowFault(RolloutFault):
    """The workflow's own doing: it raised, looped, or overspent its call budget."""


class Unavailable(RolloutFault):
    """No endpoint answered, or the step's deadline passed: the rollout is masked."""


def rollout_fault(kind: FaultKind, message: str) -> RolloutFault:
    """The fault that carries `kind`: `Unavailable` where it is nobody's, else `WorkflowFault`."""
    cls = Unavailable if kind.status is Status.UNAVAILABLE else WorkflowFault
    return cls(kind, message)
