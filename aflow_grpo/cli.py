"""`fit`, `validate` and `test`: a LightningCLI over layered YAML files.

`configs/base.yaml` is always the first layer; each `--config` overlays it, flags come last. The
rollout callback, the checkpoints and the progress are always present, under the keys `rollout`,
`checkpoint` and `progress`. Runs log to MLflow under `trainer.default_root_dir` unless the YAML
names another logger.
"""

from __future__ import annotations

import difflib
import logging
import re
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import set_parsing_settings
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import SIGTERMException

from aflow_grpo.assets import shipped_path
from aflow_grpo.errors import AFlowError
from aflow_grpo.training.checkpoint import AtomicCheckpointIO, BoundaryCheckpoint, last_checkpoint
from aflow_grpo.training.datamodule import WorkflowDataModule
from aflow_grpo.training.module import GRPOModule
from aflow_grpo.training.progress import ProgressReporter
from aflow_grpo.training.rollout_callback import RolloutCallback
from aflow_grpo.training.tracking import ConfigArtifact, RunLogger, read_run_id

__all__ = ["TerseParser", "TrainerCLI", "run_trainer_verb"]

EXIT_OK, EXIT_SETTINGS = 0, 2
EXIT_INTERRUPTED, EXIT_TERMINATED = 128 + int(signal.SIGINT), 128 + int(signal.SIGTERM)
_VERBS = ("fit", "validate", "test")
_UNKNOWN_OPTION = re.compile(r"(?:option '|arguments: --)([\w.]+)")


class TerseParser(LightningArgumentParser):
    """Answers a wrong option with the error and the nearest known option, not with every option.

    Options are not abbreviated: a mistyped one would silently be taken for another.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print `message` and leave with code 2."""
        if not self.exit_on_error:
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        program = parser.prog.replace(" [options]", "")
        unknown = _UNKNOWN_OPTION.search(message)
        options = [option.lstrip("-") for option in parser._option_string_actions]
        near = difflib.get_close_matches(unknown[1], options, n=1) if unknown else []
        hint = f" Did you mean {near[0]}?" if near else ""
        print(f"{program}: {message.rstrip('.')}.{hint}", file=sys.stderr)
        print(f"`{program} --help` lists every option.", file=sys.stderr)
        self.exit(EXIT_SETTINGS)


class TrainerCLI(LightningCLI):
    """LightningCLI with the always-present callbacks, run directories and MLflow."""

    def __init__(self, **kwargs: Any) -> None:
        base = [str(shipped_path("configs/base.yaml"))]
        super().__init__(
            GRPOModule,
            WorkflowDataModule,
            save_config_callback=ConfigArtifact,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            # Otherwise hyperparameters in a checkpoint silently win over the command line.
            load_from_checkpoint_support=False,
            parser_class=TerseParser,
            parser_kwargs={
                "prog": "aflow-grpo",
                **{verb: {"default_config_files": base} for verb in _VERBS},
            },
            **kwargs,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The trainer verbs that exist."""
        verbs = LightningCLI.subcommands()
        return {verb: verbs[verb] for verb in _VERBS}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The always-present callbacks, and one seed for everything."""
        parser.add_lightning_class_args(RolloutCallback, "rollout")
        parser.add_lightning_class_args(BoundaryCheckpoint, "checkpoint")
        parser.add_lightning_class_args(ProgressReporter, "progress")
        parser.link_arguments("seed_everything", "model.seed", compute_fn=int)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)

    def before_instantiate_classes(self) -> None:
        """Resolve ``--ckpt_path last`` before Lightning looks for a ModelCheckpoint."""
        config = self.config[self.subcommand]
        if config.get("ckpt_path") == "last":
            config["ckpt_path"] = str(last_checkpoint(config.trainer.default_root_dir))

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """A Trainer with atomic checkpoints and, unless the YAML says otherwise, MLflow."""
        config = self.config[self.subcommand]
        plugins = [AtomicCheckpointIO(), *(config.trainer.get("plugins") or [])]
        if config.trainer.get("logger") in (None, True):
            kwargs["logger"] = self._run_logger(config)
        return super().instantiate_trainer(plugins=plugins, **kwargs)

    def _run_logger(self, config: Any) -> RunLogger:
        root = Path(config.trainer.default_root_dir)
        fit_run = read_run_id(root)
        resuming = self.subcommand == "fit" and bool(config.get("ckpt_path"))
        tags = {"aflow_grpo.verb": str(self.subcommand)}
        if fit_run is not None and self.subcommand != "fit":
            tags["mlflow.parentRunId"] = fit_run
        return RunLogger(
            root,
            run_name=f"{self.subcommand}-seed{config.seed_everything}",
            run_id=fit_run if resuming else None,
            tags=tags,
        )


def run_trainer_verb(arguments: Sequence[str]) -> int:
    """Run `fit`, `validate` or `test` and return the exit code (see `__main__.main`)."""
    _quieten()
    # The settings' own docstrings make the help; reading them takes a second.
    helping = any(a == "-h" or a.partition("=")[0].endswith("help") for a in arguments)
    set_parsing_settings(docstring_parse_attribute_docstrings=helping)
    sys.argv[1:] = [_resolve_config(a) for a in arguments]
    try:
        TrainerCLI()
    except AFlowError as error:
        print(f"\naflow-grpo {arguments[0]}: {error}", file=sys.stderr)
        return EXIT_SETTINGS
    except SIGTERMException:  # a SystemExit with code 0, which would look like success
        return _stopped(arguments[0], "terminated", EXIT_TERMINATED)
    except KeyboardInterrupt:
        return _stopped(arguments[0], "interrupted", EXIT_INTERRUPTED)
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # Lightning's answer to Ctrl-C
            return _stopped(arguments[0], "interrupted", EXIT_INTERRUPTED)
        return int(end.code or EXIT_OK)
    return EXIT_OK


def _stopped(verb: str, how: str, code: int) -> int:
    more = " The same command with `--ckpt_path last` continues." if verb == "fit" else ""
    print(f"\naflow-grpo {verb}: {how}.{more}", file=sys.stderr)
    return code


def _resolve_config(argument: str) -> str:
    """A shipped config can be named as in the checkout from anywhere: ``configs/minimal.yaml``."""
    prefix, _, name = argument.rpartition("=")
    if name.startswith("configs/") and name.endswith(".yaml") and not Path(name).exists():
        try:
            return f"{prefix}={shipped_path(name)}" if prefix else str(shipped_path(name))
        except FileNotFoundError:
            return argument  # the parser's own message names the file
    return argument


def _quieten() -> None:
    """Hide what other libraries say that a user can do nothing about."""
    for name in ("lightning.fabric", "lightning.pytorch", "mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.loggers.mlflow").setLevel(logging.ERROR)
    for message in (
        ".*does not have many workers.*",
        ".*The number of training batches.*",
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
        "\\s*``instantiate_classes`` was deprecated",
        "\\s*By default only one JsonargparseDeprecationWarning",
    ):
        warnings.filterwarnings("ignore", message=message)
