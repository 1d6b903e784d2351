"""`train` and `evaluate`: what `aflow-grpo fit`, `validate` and `test` do, called from Python.

The same LightningCLI makes the run from the same layers, so that a run from a notebook can be
continued, judged and compared on the command line. What belongs to the caller's process is left as
it was: `sys.argv`, signal handlers, warnings; settings that are wrong raise instead of ending it.
Generators are seeded, torch's threads set and other libraries' loggers quietened, as there.
Not here: a Trainer of one's own (`GRPOModule`, `RolloutCallback`, `WorkflowDataModule`).
"""

from __future__ import annotations

import json
import signal
import tempfile
import threading
import warnings
from argparse import ArgumentError
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jsonargparse import set_parsing_settings

from aflow_grpo.cli import TrainerCLI, quieten
from aflow_grpo.errors import ConfigError
from aflow_grpo.mistakes import explain
from aflow_grpo.training.rank_watch import RankWatch
from aflow_grpo.training.tracking import run_of
from aflow_grpo.workbench.executor_settings import config_path, nested
from aflow_grpo.workbench.policies import find_checkpoint, recorded_settings

__all__ = ["TrainedRun", "evaluate", "train"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_JUDGED_BY = ("model", "data", "llm", "rollout", "seed_everything")
"""Groups of a run's settings that say how it is judged; the others are of its training."""
_HIDDEN = "(hidden)"


@dataclass(frozen=True)
class TrainedRun:
    """A run that has ended."""

    directory: Path
    """`trainer.default_root_dir`: what `read_run`, `write_report` and `Solver` take."""
    run_id: str | None
    """The MLflow run; None where another logger was set."""
    before: Mapping[str, float] = field(default_factory=dict, repr=False)
    """The full evaluation before the first step; empty where there was none."""
    after: Mapping[str, float] = field(default_factory=dict, repr=False)
    """The one at the end, empty without `model.evaluation.at_end`; of `evaluate` the only one."""
    metrics: Mapping[str, float] = field(default_factory=dict, repr=False)
    """The last value of everything that was logged."""

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint."""
        return self.directory / "checkpoints" / "last.ckpt"


def train(
    *configs: str | Path,
    settings: Mapping[str, Any] | None = None,
    ckpt_path: str | Path | None = None,
    **overrides: Any,
) -> TrainedRun:
    """Train a policy: `aflow-grpo fit`.

    Args:
        *configs: YAML files over `configs/base.yaml`, the later ones over the earlier.
        settings: Single settings above them by dotted key, e.g. ``{"trainer.max_steps": 20}``; a
            value may be a settings record.
        ckpt_path: Continue: ``last``, or a checkpoint file.
        **overrides: Further settings, ``__`` for the dot: ``trainer__max_steps=20``.

    Raises:
        AFlowError: A setting is wrong, the budget is spent, the executor is down, or training has
            gone wrong.
        KeyboardInterrupt: The run was interrupted; its checkpoint continues it.

    Example:
        >>> run = train("configs/minimal.yaml", trainer__default_root_dir="runs/mine")
        >>> run.after["val/accuracy"]
    """
    above = {**(settings or {}), **_dotted(overrides)}
    return _run("fit", [config_path(path) for path in configs], above, ckpt_path)


def evaluate(
    run_or_checkpoint: str | Path,
    *configs: str | Path,
    split: Literal["val", "test"] = "val",
    settings: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> TrainedRun:
    """Judge a trained policy on `data.val` or `data.test`: `aflow-grpo validate` and `test`.

    Args:
        run_or_checkpoint: A run's directory or a checkpoint; its recorded settings are the first
            layer, so that nothing has to be said again.
        *configs: YAML files above them.
        split: Which problems.
        settings: As of `train`.
        **overrides: As of `train`.

    Raises:
        AFlowError: As `train`.

    Example:
        >>> evaluate("runs/quickstart", split="test").after["test/accuracy"]
    """
    checkpoint, root = find_checkpoint(run_or_checkpoint)
    recorded = recorded_settings(run_or_checkpoint) or {}
    layer = {group: _shown(recorded[group]) for group in _JUDGED_BY if group in recorded}
    if root is not None:
        layer["trainer"] = {"default_root_dir": str(root)}
    above = {**(settings or {}), **_dotted(overrides)}
    verb = "validate" if split == "val" else "test"
    with _file(layer) as first:
        return _run(verb, [first, *map(config_path, configs)], above, checkpoint)


def _run(
    verb: str,
    configs: list[Path],
    settings: Mapping[str, Any],
    ckpt_path: str | Path | None,
) -> TrainedRun:
    set_parsing_settings(docstring_parse_attribute_docstrings=False)
    with _file(nested(settings)) as last, _callers_process():
        arguments = [verb, *(f"--config={path}" for path in [*configs, last])]
        if ckpt_path is not None:
            arguments.append(f"--ckpt_path={ckpt_path}")
        options: set[str] = set()
        try:
            with RankWatch() as watch, ExitStack() as stack:
                cli = _RaisingCLI(options, stack, watch, args=arguments)
        except ArgumentError as error:
            said = " ".join(explain(str(error), sorted(options)).split())
            raise ConfigError(said) from error
        except SystemExit as end:
            if isinstance(end.__context__, KeyboardInterrupt):  # Lightning's answer to Ctrl-C
                raise KeyboardInterrupt from None
            raise
    return _told(verb, cli)


def _told(verb: str, cli: TrainerCLI) -> TrainedRun:
    trainer, module = cli.trainer, cli.model
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    full = list(module.evaluations)
    ended = verb == "fit" and bool(full) and module.evaluation.at_end
    first = full[0] if verb == "fit" and len(full) > ended else {}
    return TrainedRun(
        Path(trainer.default_root_dir),
        run_of(trainer.logger),
        before=first,
        after=metrics if verb != "fit" else full[-1] if ended else {},
        metrics=metrics,
    )


class _RaisingCLI(TrainerCLI):
    """Raises for a wrong option what the command line prints before it ends the process.

    Args:
        options: Where the names of all options are put, for the message.
        *args: Of `TrainerCLI`.
        **kwargs: Of `TrainerCLI`.
    """

    def __init__(self, options: set[str], *args: Any, **kwargs: Any) -> None:
        self._options = options
        super().__init__(*args, **kwargs)

    def init_parser(self, **kwargs: Any) -> Any:
        """Parsers that raise."""
        return super().init_parser(**{**kwargs, "exit_on_error": False})

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Remember the names, whatever comes of it."""
        for verb_parser in self._subcommand_parsers.values():
            self._options |= set(verb_parser.option_names)  # type: ignore[attr-defined]
        super().parse_arguments(parser, args)


@contextmanager
def _callers_process() -> Iterator[None]:
    """Afterwards signal handlers and warnings are as they were; Lightning changes both."""
    main = threading.current_thread() is threading.main_thread()
    usual = {name: signal.getsignal(name) for name in _SIGNALS} if main else {}
    try:
        with warnings.catch_warnings():
            quieten()
            # Between Lightning and jsonargparse, or about arguments of this very process.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
            yield
    finally:
        for name, handler in usual.items():
            signal.signal(name, handler)


@contextmanager
def _file(settings: Mapping[str, Any]) -> Iterator[Path]:
    """The settings as a file that a parser can overlay."""
    with tempfile.TemporaryDirectory(prefix="aflow-grpo-") as folder:
        path = Path(folder) / "settings.json"
        path.write_text(json.dumps(settings, default=str), encoding="utf-8")
        yield path


def _dotted(overrides: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace("__", "."): value for key, value in overrides.items()}


def _shown(value: Any) -> Any:
    """Settings without the keys that were hidden when they were recorded."""
    if isinstance(value, Mapping):
        return {key: _shown(part) for key, part in value.items() if part != _HIDDEN}
    return [_shown(part) for part in value] if isinstance(value, list) else value
