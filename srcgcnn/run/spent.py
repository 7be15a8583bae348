"""What a sweep has used, in GPU-hours and core-hours: by a cluster's accounting if there is one, else by our clocks.

The driver adds up how long groups train, attempts that failed included, in `OUT/spent.json`; sweeps of earlier versions
have the times of their results only. `OUT/charged.json` holds what a batch system reported last.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from srcgcnn.files import write_text
from srcgcnn.records import as_dict, read_if_whole, record
from srcgcnn.run.folder import open_run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from srcgcnn.run.paths import RunPaths
    from srcgcnn.run.trial_result import TrialResult

GPU_NAMES = ("NVIDIA", "Tesla", "GeForce", "Instinct", "Radeon")


@record
class Spent:
    """Hours of devices and of cores."""

    gpu_hours: float
    core_hours: float

    def plus(self, seconds: float, gpus: float, cpus: float) -> Spent:
        """Return the sum with what a group has used."""
        return Spent(self.gpu_hours + seconds * gpus / 3600, self.core_hours + seconds * cpus / 3600)

    @property
    def text(self) -> str:
        """For people: GPU-hours if there are any, else core-hours."""
        return f"{self.gpu_hours:.3g} GPU-hours" if self.gpu_hours else f"{self.core_hours:.3g} core-hours"


def is_gpu(result: TrialResult) -> bool:
    """Whether a trial ran on a GPU, from the device's name: processors are not called so."""
    return any(maker in result.provenance.hardware for maker in GPU_NAMES)


def spent_by(results: Iterable[TrialResult]) -> Spent:
    """Return what finished trials used: a device each, or the cores that their threads ran on."""
    spent = Spent(0.0, 0.0)
    for result in results:
        spent = spent.plus(result.cost.seconds, float(is_gpu(result)), result.provenance.threads)
    return spent


def read_spent(paths: RunPaths) -> Spent:
    """Return what the sweep has used so far by our own clocks."""
    return read_if_whole(Spent, paths.spent) or spent_by(open_run(paths).results)


def write_spent(paths: RunPaths, spent: Spent) -> None:
    """Write down what was used so far; if the disk is full, the next time."""
    write_text(paths.spent, json.dumps(as_dict(spent)) + "\n", space_patience_s=0.0)


def write_charged(paths: RunPaths, charged: Spent) -> None:
    """Write down what a batch system has charged so far."""
    write_text(paths.charged, json.dumps(as_dict(charged)) + "\n", space_patience_s=0.0)


def spent_line(paths: RunPaths) -> str:
    """Return one line for status and report: what was used, and according to whom."""
    if charged := read_if_whole(Spent, paths.charged):
        return f"{charged.text} (according to the cluster's accounting)"
    return f"{read_spent(paths).text} (measured by srcgcnn: training only)"
