"""What the training room asks of whatever writes the workflows.

Two kinds exist: `Policy`, a model in this process, which can learn, and `EndpointPolicy`, a model
behind an OpenAI-compatible endpoint, which can only be judged. `model.policy.class_path` in the
YAML files chooses. Here are the answers of a policy that holds no weights.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from aflow_grpo.errors import ConfigError
from aflow_grpo.policy.scoring import Scored
from aflow_grpo.records import Completion, VisibleProblem
from aflow_grpo.workflow.contract import TEN_OPERATORS, OperatorSet

__all__ = ["BasePolicy", "OnWritten"]

OnWritten = Callable[[int, Completion], None]
"""Called with a workflow's place among those asked for (axis B) and the workflow."""


class BasePolicy(nn.Module):
    """Writes workflows; a model in this process can also be trained."""

    operators: OperatorSet = TEN_OPERATORS
    """What its prompts offer; a run with operators of its own replaces it."""

    def setup(self) -> None:
        """Make ready for use, loading what is heavy; does nothing the second time."""

    @abstractmethod
    def describe(self) -> str:
        """One line for a person."""

    @abstractmethod
    def fingerprint(self) -> str:
        """What it is, in short; equal where a checkpoint fits."""

    @property
    def sampler_differs(self) -> bool:
        """Whether recorded log-probabilities may differ from those that `score` gives.

        Where the weights have not changed in between, that is: because another engine or another
        arithmetic drew the tokens. Then the update corrects for it. A policy that cannot say what
        it would score answers as whoever trains on it must: they differ.
        """
        return True

    @abstractmethod
    def write(
        self,
        problems_P: Sequence[VisibleProblem],
        seeds_B: Sequence[int],
        *,
        greedy: bool = False,
        on_written: OnWritten | None = None,
    ) -> list[Completion]:
        """Groups of workflows, problem-major: B = P x G, with G = len(seeds_B) / len(problems_P).

        Args:
            problems_P: What to write workflows for.
            seeds_B: Non-negative, one per workflow; unused when greedy.
            greedy: The most probable workflow instead of a sampled one.
            on_written: Called once for each workflow, in this thread, as soon as it is there, while
                others are still being written. It must not use the policy.
        """

    def keep_reference(self) -> None:
        """Called before `setup` when training will need the initial policy."""

    def too_long(self, problems: Sequence[VisibleProblem]) -> dict[str, int]:
        """The problems that it cannot be asked: id -> prompt tokens without any context."""
        return {}

    def trainable_state_dict(self) -> dict[str, Tensor]:
        """Trainable tensors by their name in this module, detached, not copied."""
        return {}

    def score(self, completions: Sequence[Completion], *, with_entropy: bool = False) -> Scored:
        """Log-probabilities under the current weights, with gradient."""
        raise self._no_weights()

    def reference_logprobs(self, completions: Sequence[Completion]) -> Tensor:
        """Log-probabilities under the initial policy, (B, T), without gradient."""
        raise self._no_weights()

    def require_weights(self) -> None:
        """Called where training begins or a checkpoint is loaded.

        Raises:
            ConfigError: It holds no weights.
        """
        raise self._no_weights()

    def _no_weights(self) -> ConfigError:
        return ConfigError(
            f"model.policy is {self.describe()}, which has no weights here: it can neither be "
            "trained nor take a checkpoint. Use `validate` or `test` without --ckpt_path, or a "
            "policy in this process: model.policy.class_path: aflow_grpo.policy.policy.Policy."
        )
