"""The options of the trainer verbs: their parser, and settings that Lightning answers badly.

Not here: what the verbs do with them (`cli`), the short help (`trainer_help`).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from copy import copy
from pathlib import Path
from typing import Any

import lightning as L
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

from aflow_grpo.assets import shipped_path
from aflow_grpo.errors import ConfigError
from aflow_grpo.mistakes import TerseErrors, explain
from aflow_grpo.trainer_help import ALIASES
from aflow_grpo.training.launched import is_first_rank
from aflow_grpo.training.tracking import without_keys

__all__ = ["TerseParser", "as_written", "check_strategy", "check_trainer_settings"]

_DECIDED = ("rollout.llm", "model.seed", "data.seed")
"""What other options decide."""


class TerseParser(TerseErrors, LightningArgumentParser):
    """Of one trainer verb, and of all of them together."""

    every_option = "--help all"

    def __init__(self, *args: Any, verb: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.verb = verb

    def help_on(self, prefix: str) -> str:
        """The help of the options whose names begin with `prefix`; ``all`` for every one.

        Raises:
            ConfigError: There is none.
        """
        wanted = "" if prefix == "all" else prefix
        whole, shown = self._action_groups, []
        for group in whole:
            part = copy(group)
            part._group_actions = [a for a in group._group_actions if _is_option_on(a, wanted)]
            if part._group_actions:
                shown.append(part)
        if not shown:
            unknown = explain(f"unrecognized arguments: --{prefix}", self.option_names)
            raise ConfigError(f"--help {prefix}: {unknown}")
        try:
            self._action_groups = shown
            text = self.format_help()
        finally:
            self._action_groups = whole
        return text[text.index(f"\n{shown[0].title}:") + 1 :]  # the usage names every option

    def dump(self, cfg: Any, *args: Any, **kwargs: Any) -> str:
        """The settings as YAML, for `--print_config` and the lab book, with every key hidden."""
        settings = cfg.as_dict() if isinstance(cfg, Namespace) else dict(cfg)
        return str(super().dump(without_keys(settings), *args, **kwargs))


def _is_option_on(action: argparse.Action, prefix: str) -> bool:
    names = [option.lstrip("-") for option in action.option_strings]
    free = not any(name.startswith(_DECIDED) for name in names)
    return free and any(name.startswith(prefix) for name in names)


def as_written(arguments: Iterable[str]) -> list[str]:
    """The arguments as the parser knows them: shipped configs found, short forms in full."""
    return [_resolve_config(_in_full(argument)) for argument in arguments]


def _in_full(argument: str) -> str:
    name, equals, value = argument.partition("=")
    return f"{ALIASES.get(name, name)}{equals}{value}"


def _resolve_config(argument: str) -> str:
    """A shipped config can be named as in the checkout from anywhere: ``configs/minimal.yaml``."""
    prefix, _, name = argument.rpartition("=")
    if name.startswith("configs/") and name.endswith(".yaml") and not Path(name).exists():
        try:
            return f"{prefix}={shipped_path(name)}" if prefix else str(shipped_path(name))
        except FileNotFoundError:
            return argument  # the parser's own message names the file
    return argument


def check_trainer_settings(config: Any) -> None:
    """What Lightning answers with a traceback."""
    seed, trainer = config.seed_everything, config.trainer
    if seed is not None and not 0 <= seed < 2**32:
        raise ConfigError(f"seed_everything={seed}: expected 0 to {2**32 - 1}.")
    if trainer.use_distributed_sampler:
        raise ConfigError(
            "trainer.use_distributed_sampler=true: expected false. Problems are shared out among "
            "the ranks already."
        )
    interval = trainer.val_check_interval
    if isinstance(interval, int | float) and interval <= 0:
        raise ConfigError(f"trainer.val_check_interval={interval}: expected 1 or more iterations.")
    if str(trainer.precision) not in ("32", "32-true", "bf16-mixed", "None"):
        raise ConfigError(
            f"trainer.precision={trainer.precision}: expected 32-true or bf16-mixed. The weights' "
            "own type is model.policy.init_args.dtype."
        )


def check_strategy(trainer: L.Trainer) -> None:
    """Every process holds all weights and runs this command: one device, or DDP by subprocess."""
    strategy, launcher = trainer.strategy, trainer.strategy.launcher
    if not is_first_rank() and trainer.world_size == 1:
        raise ConfigError(
            "trainer.devices x trainer.num_nodes=1: a launcher has started several processes of "
            "this command. Set trainer.devices (per machine) and trainer.num_nodes to what it "
            "starts, and trainer.strategy: ddp."
        )
    # Not isinstance: DeepSpeed's is derived from DDP's.
    replicated = type(strategy) in (SingleDeviceStrategy, DDPStrategy)
    if not replicated or isinstance(launcher, _MultiProcessingLauncher):
        raise ConfigError(
            f"trainer.strategy: {type(strategy).__name__} with {type(launcher).__name__}: "
            "expected auto or ddp. Sharded strategies (fsdp, deepspeed) and started copies of a "
            "process (ddp_spawn, ddp_fork, ddp_notebook) are not supported; docs/scaling.md says "
            "what fits on one device."
        )
