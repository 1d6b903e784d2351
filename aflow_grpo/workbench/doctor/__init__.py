"""`doctor`: is this machine ready for a run with these settings?

It looks and reports; it changes nothing, ends no process, and sends nothing over the network unless
`probe` asks for it. It imports neither torch nor mlflow, so that it answers in a second even where
they are broken. Not here: whether a model fits the memory and how long a run takes (`fit
--preflight` measures that), whether settings are valid (`fit --print_config`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from aflow_grpo.workbench.doctor.check import GROUPS, Check, Group, Task, run_tasks, worst

if TYPE_CHECKING:
    from aflow_grpo.workbench.doctor.endpoints import Endpoints

__all__ = ["GROUPS", "Check", "doctor", "worst"]

_CHECK_LIMIT_S = 10.0


def doctor(
    configs: Sequence[str | Path] = (),
    *,
    root: str | Path | None = None,
    gpus: Sequence[int] | None = None,
    protected_pids: Sequence[int] = (),
    require_free: bool = False,
    probe: bool = False,
) -> list[Check]:
    """Look at everything that a run needs.

    Args:
        configs: YAML layers of the run, as `--config` takes them; the shipped defaults without.
        root: The run's directory; None: `trainer.default_root_dir` of the settings.
        gpus: Those that are meant, by nvidia-smi's index; None: what `CUDA_VISIBLE_DEVICES` leaves.
        protected_pids: Processes that are shown as protected.
        require_free: A GPU that is in use is a failure, not a warning.
        probe: Ask every tier for one token (really paid) and the tracking server whether it is
            well.

    Returns:
        One line per finding, in the order of `GROUPS`.

    Raises:
        ConfigError: A layer cannot be read.
    """
    # Here, not above: `--help` needs none of it.
    from aflow_grpo.workbench.doctor import devices, isolation, machine, software, store
    from aflow_grpo.workbench.doctor.endpoints import endpoint_checks, endpoints_of, softened
    from aflow_grpo.workbench.doctor.run_settings import read_settings

    settings = read_settings(configs)
    place = settings.root if root is None else Path(root)
    endpoints = endpoints_of(settings)
    look_at_devices = partial(
        devices.device_checks,
        settings,
        software.torch_build(),
        gpus=gpus,
        protected_pids=protected_pids,
        require_free=require_free,
    )
    tasks = [
        # The slowest first: they start processes.
        Task("sandbox", "isolation", isolation.sandbox_checks, _CHECK_LIMIT_S),
        Task("interpreter", "isolation", isolation.interpreter_check, _CHECK_LIMIT_S),
        Task("devices", "devices", look_at_devices, _CHECK_LIMIT_S),
        Task("python", "software", partial(software.python_checks, settings)),
        Task("versions", "software", software.versions),
        Task("model", "software", partial(software.model_check, settings)),
        Task("git", "software", software.git_check),
        Task("disk", "machine", partial(machine.disk_checks, place)),
        Task("limits", "machine", partial(machine.limit_checks, settings)),
        Task("endpoints", "endpoints", partial(endpoint_checks, settings, endpoints)),
        Task("mlflow_store", "lab book", partial(store.store_checks, settings, place)),
    ]
    if probe:
        tasks += _questions(endpoints, store.tracking_uri(settings))
    return softened(run_tasks(tasks), endpoints)


def _questions(endpoints: Endpoints, tracking_uri: str) -> list[Task]:
    """What is asked over the network."""
    from aflow_grpo.workbench.doctor import probing

    asked: dict[str, tuple[Group, Callable[[], Iterable[Check]]]] = {
        f"probe.{tier.name}": ("endpoints", partial(probing.probe_tier, tier, index))
        for index, tier in endpoints.tiers
    }
    if endpoints.backend_url:
        asked["probe.sampler"] = ("endpoints", partial(probing.probe_backend, endpoints))
    if tracking_uri.startswith(("http://", "https://")):
        asked["mlflow_server"] = ("lab book", partial(probing.probe_tracking, tracking_uri))
    return [Task(name, group, ask, probing.LIMIT_S) for name, (group, ask) in asked.items()]
