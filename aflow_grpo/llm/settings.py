"""Everything that can be set about the executor: the group `llm` of the YAML files.

Not here: one endpoint's settings (`tiers`), the simulator's (`simulator.settings`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from aflow_grpo.errors import ConfigError
from aflow_grpo.llm.session import SpendLimits
from aflow_grpo.llm.simulator.settings import SimulatorSettings
from aflow_grpo.llm.tiers import Tier
from aflow_grpo.llm.trace_settings import TraceSettings

__all__ = ["LLMSettings"]


@dataclass(frozen=True)
class LLMSettings:
    """Who executes the workflows' operators, what is kept of it, and what it may cost."""

    tiers: list[Tier] = field(default_factory=list)
    """The endpoints in order of preference; empty: gpt-4o-mini of OpenAI."""
    simulator: SimulatorSettings | None = None
    """The simulated executor, then the only one; null asks `tiers`."""
    check_endpoints: bool = True
    """Ask every real endpoint for one token before the run begins, and stop if none answers
    (0.000002 USD each for gpt-4o-mini). Off, a run can be repeated from the journal without a
    network."""
    journal: bool = True
    """Keep every call of an endpoint in `journal.db`, so that none is paid for twice."""
    journal_dir: Path | None = None
    """The folder of that file; null: the run's directory. Runs that share a folder go one after
    the other."""
    store_rollouts: bool = True
    """Keep every rollout there too, for `aflow-grpo rescore`; needs the journal."""
    cache: Literal["off", "run", "shared"] = "run"
    """Which calls the journal answers, free of charge: none, those that this run has made before
    (it was stopped and resumed), or also those of the other runs in the same file."""
    budget_usd: float | None = None
    """What the run may really pay, resumed or not; before the call that could pass it the run
    stops with a checkpoint. Null for no limit. Needs the journal, which knows what was paid."""
    workflow: SpendLimits = field(default_factory=SpendLimits)
    """What one workflow may consume."""
    max_unavailable: float = 0.5
    """Share of the latest workflows that may be lost because no endpoint answered; when more are,
    the run stops."""
    unavailable_over: int = 20
    """So many latest workflows that asked the executor; before there are as many, none stops."""
    traces: TraceSettings = field(default_factory=TraceSettings)
    """Which rollouts MLflow shows call by call."""

    def __post_init__(self) -> None:
        if self.budget_usd is not None and self.budget_usd <= 0:
            raise ConfigError(
                f"llm.budget_usd={self.budget_usd!r}: expected more than 0 USD, or null for no "
                "limit."
            )
        if self.budget_usd is not None and not self.journal:
            raise ConfigError(
                f"llm.budget_usd={self.budget_usd!r} needs llm.journal: true: without it, a "
                "run that is resumed would not know what it has paid."
            )
        if not 0 <= self.max_unavailable <= 1:
            raise ConfigError(
                f"llm.max_unavailable={self.max_unavailable!r}: expected a share, 0 to 1; 1 never "
                "stops a run."
            )
        if self.unavailable_over < 1:
            raise ConfigError(
                f"llm.unavailable_over={self.unavailable_over!r}: expected at least 1 workflow."
            )
