"""What the machine of a worker does while it trains, under the names of MLflow's own system metrics."""

from __future__ import annotations

import time
from contextlib import suppress

import psutil

SAMPLE_INTERVAL_S = 10.0  # as MLflow's own sampling
MEGABYTE = 1e6


class UsageMeter:
    """Looks at processors, memory and devices now and then."""

    def __init__(self) -> None:
        psutil.cpu_percent()  # the first call only starts its clock
        self._looked = -SAMPLE_INTERVAL_S

    def look_if_due(self) -> dict[str, float]:
        """Return `system/...` values, shares in percent; nothing before it is time."""
        if time.monotonic() - self._looked < SAMPLE_INTERVAL_S:
            return {}
        self._looked = time.monotonic()
        with suppress(Exception):  # a driver or a kernel may refuse; no reading is worth a trial
            return _processors_and_memory() | _devices()
        return {}


def _processors_and_memory() -> dict[str, float]:
    memory = psutil.virtual_memory()
    return {
        "system/cpu_utilization_percentage": psutil.cpu_percent(),
        "system/system_memory_usage_megabytes": memory.used / MEGABYTE,
        "system/system_memory_usage_percentage": memory.percent,
    }


def _devices() -> dict[str, float]:
    import torch

    values = {}
    for device in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(device)
        values[f"system/gpu_{device}_memory_usage_megabytes"] = (total - free) / MEGABYTE
        values[f"system/gpu_{device}_memory_usage_percentage"] = 100.0 * (1.0 - free / total)
        with suppress(Exception):  # needs nvidia-ml-py and the driver's permission; the rest is still known
            values[f"system/gpu_{device}_utilization_percentage"] = float(torch.cuda.utilization(device))
    return values
