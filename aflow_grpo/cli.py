"""`fit`, `validate`, `test` and `predict`: a LightningCLI over layered YAML files.

`configs/base.yaml` is always the first layer; each `--config` overlays it, flags come last. The
rollout callback, the checkpoints and the progress are always present, under the keys `rollout`,
`checkpoint` and `progress`. Runs log to MLflow under `trainer.default_root_dir` unless the YAML
names another logger. Not here: the parser itself (`trainer_options`).
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
from jsonargparse import set_parsing_settings
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import SIGTERMException

from aflow_grpo.assets import shipped_path
from aflow_grpo.errors import (
    AFlowError,
    BudgetSpent,
    ConfigError,
    DivergedError,
    OutageError,
    RankFailed,
)
from aflow_grpo.exits import Exit
from aflow_grpo.llm.settings import LLMSettings
from aflow_grpo.mistakes import refuse_ignored
from aflow_grpo.terminal import printable, show_origin, verbosity
from aflow_grpo.trainer_options import (
    TerseParser,
    as_written,
    check_strategy,
    check_trainer_settings,
)
from aflow_grpo.training.checkpoint import AtomicCheckpointIO, BoundaryCheckpoint, last_checkpoint
from aflow_grpo.training.datamodule import WorkflowDataModule
from aflow_grpo.training.interrupts import Terminated
from aflow_grpo.training.lab_book import LabBook
from aflow_grpo.training.launched import is_first_rank
from aflow_grpo.training.module import GRPOModule
from aflow_grpo.training.prediction_file import PredictionFile
from aflow_grpo.training.preflight import Preflight
from aflow_grpo.training.progress import ProgressReporter
from aflow_grpo.training.rank_watch import RankWatch
from aflow_grpo.training.ranks import TOLD
from aflow_grpo.training.rollout_callback import RolloutCallback
from aflow_grpo.training.run_directory import RunDirectory, storage_trouble
from aflow_grpo.training.tracking import ConfigArtifact, start_run
from aflow_grpo.verbs import TRAINER_VERBS

__all__ = ["TrainerCLI", "quieten", "run_trainer_verb", "trainer_parser"]

_CONTINUE = "The same command with `--ckpt_path last` continues."
_PREFLIGHT_HELP = (
    "Make one iteration of the run, print what it shows (direct execution, lengths, memory, time, "
    "cost, settings known to fail) and a forecast of the whole run, and keep nothing but the "
    "executor's answers, which the run will then not pay for again. Your own trainer.callbacks, "
    "trainer.logger and trainer.profiler are left out."
)
_OUTPUT_HELP = (
    "Where the answers go, a JSON line for each problem; default: predictions.jsonl in "
    "trainer.default_root_dir."
)
_PREFLIGHT_TRAINER = {
    "logger": False,
    "callbacks": None,
    "profiler": None,
    "enable_checkpointing": False,
    "min_steps": None,
    "min_epochs": None,
}
"""Whatever would write files or keep the trainer from stopping after one iteration."""


class TrainerCLI(LightningCLI):
    """LightningCLI with the always-present callbacks, run directories and MLflow.

    Args:
        stack: Leaves the run's directory when it is closed.
        watch: Looks after the other processes of a distributed run.
        started: `time.perf_counter()` when the command began; default is now.
    """

    def __init__(
        self, stack: ExitStack, watch: RankWatch, started: float | None = None, **kwargs: Any
    ) -> None:
        self._stack = stack
        self._watch = watch
        self._started = time.perf_counter() if started is None else started
        self._preflight: Preflight | None = None
        self._answers: PredictionFile | None = None
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
                **{verb: {"default_config_files": base, "verb": verb} for verb in TRAINER_VERBS},
            },
            **kwargs,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The trainer verbs that exist."""
        verbs = LightningCLI.subcommands()
        return {verb: verbs[verb] for verb in TRAINER_VERBS}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The always-present callbacks, one seed for everything, and what only one verb has."""
        if isinstance(parser, TerseParser) and parser.verb == "fit":
            parser.add_argument("--preflight", action="store_true", help=_PREFLIGHT_HELP)
        if isinstance(parser, TerseParser) and parser.verb == "predict":
            parser.add_argument("--output", type=Path | None, default=None, help=_OUTPUT_HELP)
        parser.add_class_arguments(LLMSettings, "llm")
        parser.add_lightning_class_args(RolloutCallback, "rollout")
        parser.link_arguments("llm", "rollout.llm", apply_on="instantiate")
        parser.add_lightning_class_args(BoundaryCheckpoint, "checkpoint")
        parser.add_lightning_class_args(ProgressReporter, "progress")
        parser.add_lightning_class_args(LabBook, "mlflow")
        parser.link_arguments("seed_everything", "model.seed", compute_fn=int)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, and complain about what would be ignored or fail late."""
        super().parse_arguments(parser, args)
        config = self.config[self.config.subcommand]
        verb_parser = self._parser(self.config.subcommand)
        assert isinstance(verb_parser, TerseParser)
        refuse_ignored(config, verb_parser.option_names)
        check_trainer_settings(config)

    def _parse_ckpt_path(self) -> None:
        """Not here: Lightning's reads hyperparameters that our checkpoints do not hold."""

    def instantiate_classes(self) -> None:
        """Enter the run's directory before anything in it is touched."""
        config = self.config[self.subcommand]
        # A question to this command, no setting of the run: it is not logged with them.
        preflight = bool(config.pop("preflight", False))
        output = config.pop("output", None)
        root = Path(config.trainer.default_root_dir)
        directory = self._stack.enter_context(RunDirectory(root, guest=not is_first_rank()))
        if config.get("ckpt_path") == "last":
            config["ckpt_path"] = self._last_checkpoint(directory)
        elif config.get("ckpt_path") and not Path(config["ckpt_path"]).is_file():
            raise ConfigError(
                f"--ckpt_path={config['ckpt_path']}: no such file. Give the path of a checkpoint, "
                "or `last` for that of trainer.default_root_dir."
            )
        if preflight:
            self._preflight = Preflight(self._started)
            self.save_config_callback = None
            config.llm.store_rollouts = False
            for key, value in _PREFLIGHT_TRAINER.items():
                config.trainer[key] = value
        elif self.subcommand == "predict":
            # It leaves a file, and nothing to compare with other runs.
            config.trainer.logger = False
            config.return_predictions = False
            self._answers = PredictionFile(output or root / "predictions.jsonl")
        elif config.trainer.get("logger") in (None, True):
            config.trainer.logger = False  # `start_run` makes it when everything has been loaded
            self.save_config_kwargs["start"] = partial(
                start_run,
                directory,
                str(self.subcommand),
                resuming=bool(config.get("ckpt_path")),
            )
        try:
            super().instantiate_classes()
        except ValueError as error:
            # Of an optional group inside the policy: wrapped, with every setting, keys among them.
            if isinstance(error.__cause__, AFlowError):
                raise error.__cause__ from None
            raise

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """A Trainer with atomic checkpoints; for a preflight one that keeps nothing."""
        plugins = self.config[self.subcommand].trainer.get("plugins") or []
        kwargs["plugins"] = [AtomicCheckpointIO(), *plugins]
        if self._preflight is None:
            try:
                return self._watched(super().instantiate_trainer(**kwargs))
            except (TypeError, ValueError) as error:
                raise ConfigError(f"trainer: {error}") from error
        config = self.config_init[self.subcommand]
        keys = set(self._parser(self.subcommand).callback_keys) - {"checkpoint", "progress"}
        callbacks = [config[key] for key in sorted(keys)]
        return self._watched(
            self._instantiate_trainer({**config.trainer, **kwargs}, [*callbacks, self._preflight])
        )

    def _watched(self, trainer: L.Trainer) -> L.Trainer:
        check_strategy(trainer)
        trainer.callbacks.insert(0, self._watch)  # type: ignore[attr-defined]
        if self._answers is not None:
            trainer.callbacks.append(self._answers)  # type: ignore[attr-defined]
        return trainer

    def before_fit(self) -> None:
        """Refuse, before other processes are started, what each of them would refuse."""
        self.datamodule.check_ranks(self.trainer.world_size)

    def _last_checkpoint(self, directory: RunDirectory) -> str | None:
        """What ``--ckpt_path last`` means, before Lightning looks for a ModelCheckpoint."""
        if self.subcommand == "fit" and directory.can_restart:
            return None
        return str(last_checkpoint(directory.root))


class _Built(Exception):
    """Carries a parser out of LightningCLI, which would go on to run what it has parsed."""

    def __init__(self, parser: LightningArgumentParser) -> None:
        super().__init__()
        self.parser = parser


class _ParserOnly(TrainerCLI):
    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> NoReturn:
        """The parser is all that is wanted."""
        raise _Built(parser)


def trainer_parser(verb: str) -> TerseParser:
    """The parser of a trainer verb, with every option and its help."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    with RankWatch() as watch, ExitStack() as stack:
        try:
            _ParserOnly(stack, watch)
        except _Built as built:
            verbs = built.parser._subcommands_action
            parser = verbs._name_parser_map[verb] if verbs else None
            assert isinstance(parser, TerseParser)
            return parser
    raise AssertionError("LightningCLI parses when it is made")


def run_trainer_verb(arguments: Sequence[str], started: float | None = None) -> int:
    """Run a trainer verb and return the exit code, one of `exits.Exit`.

    `started` is `time.perf_counter()` from before the imports, for a preflight's account.
    """
    quieten()
    # The settings' own docstrings make the help; reading them takes a second.
    helping = any(a == "-h" or a.partition("=")[0].endswith("help") for a in arguments)
    set_parsing_settings(docstring_parse_attribute_docstrings=helping)
    sys.argv[1:] = as_written(arguments)
    verb = "fit --preflight" if "--preflight" in arguments else arguments[0]
    try:
        if len(arguments) == 3 and arguments[1] in ("-h", "--help"):
            print(trainer_parser(verb).help_on(arguments[2].lstrip("-")))
            return Exit.DONE
        with RankWatch() as watch, ExitStack() as stack:
            TrainerCLI(stack, watch, started)
    except (BudgetSpent, OutageError) as end:
        _say(f"\naflow-grpo {verb}: {end}{_how_to_continue(verb)}", end)
        return Exit.LIMIT
    except DivergedError as end:
        _say(f"\naflow-grpo {verb}: {end}", end)
        return Exit.DIVERGED
    except RankFailed as error:
        _say(f"\naflow-grpo {verb}: {error}{_how_to_continue(verb)}")
        return Exit.FAILED
    except AFlowError as error:
        _say(f"\naflow-grpo {verb}: {error}", error)
        return Exit.USAGE
    except MisconfigurationException as error:  # Lightning's word for a wrong trainer setting
        _say(f"\naflow-grpo {verb}: trainer: {error}")
        return Exit.USAGE
    except (Terminated, SIGTERMException):
        return _stopped(verb, "terminated", Exit.TERMINATED)
    except KeyboardInterrupt:
        return _stopped(verb, "interrupted", Exit.INTERRUPTED)
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # Lightning's answer to Ctrl-C
            return _stopped(verb, "interrupted", Exit.INTERRUPTED)
        return int(end.code or Exit.DONE)
    except Exception as error:
        trouble = storage_trouble(error)
        if trouble is None:
            raise
        _say(f"\naflow-grpo {verb}: {_no_storage(verb, trouble)}")
        return Exit.FAILED
    return Exit.DONE


def _no_storage(verb: str, trouble: str) -> str:
    return (
        f"the disk refuses to take more ({trouble}). The last whole checkpoint is kept. "
        f"Make room in trainer.default_root_dir.{_how_to_continue(verb)}"
    )


def _stopped(verb: str, how: str, code: int) -> int:
    _say(f"\naflow-grpo {verb}: {how}.{_how_to_continue(verb)}")
    return code


def _say(message: str, error: Exception | None = None) -> None:
    """The first rank speaks; another one only of an error that nobody else knows of."""
    untold = error is not None and TOLD not in getattr(error, "__notes__", ())
    if is_first_rank() or untold:
        if error is not None:
            show_origin(error)
        print(printable(message), file=sys.stderr)  # may quote an endpoint


def _how_to_continue(verb: str) -> str:
    return f" {_CONTINUE}" if verb == "fit" else ""


def quieten() -> None:
    """Hide what other libraries say that a user can do nothing about, and what ranks repeat."""
    if not is_first_rank():
        logging.getLogger("aflow_grpo").setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
    if verbosity() == "debug":
        return
    for name in ("lightning.fabric", "lightning.pytorch", "mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.loggers.mlflow").setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # raised as well
    for message in (
        ".*does not have many workers.*",
        ".*The number of training batches.*",
        "Found \\d+ module\\(s\\) in eval mode at the start of training",  # the KL reference
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
        "\\s*``instantiate_classes`` was deprecated",
        "Be aware that when using `ckpt_path`,callbacks",
        "\\s*By default only one JsonargparseDeprecationWarning",
    ):
        warnings.filterwarnings("ignore", message=message)
