"""Processor, memory, disk, network and GPUs of this machine, now and then, by MLflow's own meters.

MLflow's thread around them asks the store about the run each time and ends when it does not answer,
so the thread here is our own. Their names and steps are MLflow's: ``system/...``, counted from 0, a
resumed run counts on. MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL and _SAMPLES_BEFORE_LOGGING hold.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from aflow_grpo.training.tracking_address import plain_reason

__all__ = ["SYSTEM", "SystemMetrics"]

SYSTEM = "system/"
"""Prefix of the names; MLflow shows them on a page of their own."""
_INTERVAL_S = 10.0
_LOG = logging.getLogger(__name__)


class SystemMetrics:
    """Measures from its construction on, in a thread.

    Args:
        log: Takes metrics and their step.
        first_step: Where to count from.
    """

    def __init__(
        self, log: Callable[[Mapping[str, float], int], object], first_step: int = 0
    ) -> None:
        self._log = log
        self._step = first_step
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="system metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        self._thread.join(_INTERVAL_S)

    def _work(self) -> None:
        try:
            self._measure()
        except Exception as error:  # meters ask drivers and kernels: never the run's concern
            _LOG.warning("No more system metrics: %s", plain_reason(error))

    def _measure(self) -> None:
        # Imported late and here: MLflow takes seconds, and nothing of training waits for them.
        from mlflow import environment_variables as variables

        interval: Any = variables.MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL
        samples: Any = variables.MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING
        interval_s, per_log = interval.get() or _INTERVAL_S, samples.get() or 1
        meters = _meters()
        while True:
            for _ in range(per_log):
                for meter in meters:
                    meter.collect_metrics()
                if self._closing.wait(interval_s):
                    return
            figures = {f"{SYSTEM}{k}": v for m in meters for k, v in m.aggregate_metrics().items()}
            self._log(figures, self._step)
            self._step += 1
            for meter in meters:
                meter.clear_metrics()


def _meters() -> list[Any]:
    from mlflow.system_metrics.metrics import cpu_monitor, disk_monitor, network_monitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

    # MLflow types none of them.
    kinds: list[Any] = [
        cpu_monitor.CPUMonitor,
        disk_monitor.DiskMonitor,
        network_monitor.NetworkMonitor,
        GPUMonitor,
    ]
    meters = []
    for kind in kinds:
        # No NVIDIA GPU, or nothing that could ask it.
        with suppress(ImportError, RuntimeError):
            meters.append(kind())
    return meters
