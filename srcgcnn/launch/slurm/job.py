"""The allocation of a SLURM job: its ids, its clock, its devices, and signals turned into notes.

A job that starts again finds its work by itself: nothing of it is kept but the files of the sweep.
"""

from __future__ import annotations

import os
import re
import signal
import time
from typing import TYPE_CHECKING

from srcgcnn.launch.batch import Devices

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

# Each of them may hide devices from a process: CUDA's, HIP's and the ROCm runtime's. SLURM sets those of its plugin.
VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
GRANTED = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS")  # lists; SLURM_GPUS_ON_NODE is a number


class SlurmAllocation:
    """The allocation that this process runs in."""

    def __init__(self) -> None:
        self.end_requested = self.warned = False
        self._started = time.monotonic()

    def listen(self) -> None:
        """Install the handlers; they only record signals, so that the loop stays in control."""
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGCONT, signal.SIG_IGN)  # scancel sends it first
        signal.signal(signal.SIGUSR2, self._on_warning)

    def _on_term(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.end_requested = True

    def _on_warning(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.warned = True

    @property
    def id(self) -> str:
        """Id of this job; every task of an array has one of its own."""
        return os.environ["SLURM_JOB_ID"]

    @property
    def shown_id(self) -> str:
        """The id as squeue shows it: `17`, or `17_3` for a task of an array; in a gang with the rank behind it."""
        array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
        return f"{array}_{task}" if array and task else self.task_id

    @property
    def task_id(self) -> str:
        """An id that no other task of the cluster has: that of the job, with the rank in jobs of several tasks."""
        rank = os.environ.get("SLURM_PROCID", "0")
        return self.id if rank == "0" else f"{self.id}t{rank}"

    @property
    def restarts(self) -> int:
        """How often SLURM started this job again."""
        return int(os.environ.get("SLURM_RESTART_COUNT") or 0)

    @property
    def devices(self) -> Devices:
        """The devices of this job."""
        return devices_of(os.environ)

    def ends_at(self, time_min: int) -> float:
        """Return when SLURM will end this job, by `time.monotonic`: as SLURM reports it, else the requested limit.

        SLURM's times are those of its controller. The clock of this node may differ from that one, or be set meanwhile.
        """
        start, end = os.environ.get("SLURM_JOB_START_TIME"), os.environ.get("SLURM_JOB_END_TIME")
        if start and end:
            return self._started + float(end) - float(start)
        left = float(end) - time.time() if end else 0.0
        return self._started + (left if 0.0 < left <= 60.0 * time_min else 60.0 * time_min)


def devices_of(variables: Mapping[str, str]) -> Devices:
    """Count the devices of a job from its variables.

    What hides devices decides: the fewest that any of CUDA's and ROCm's variables leaves visible. Where none
    of them is set, as on sites whose SLURM confines devices by cgroups alone, SLURM's own variables count.
    """
    if visible := [name for name in VISIBLE if name in variables]:
        evidence = ", ".join(f"{name}={variables[name]!r}" for name in visible)
        return Devices(min(_listed(variables[name]) for name in visible), evidence)
    for name in GRANTED:
        if name in variables:
            return Devices(_listed(variables[name]), f"{name}={variables[name]!r}")
    if "SLURM_GPUS_ON_NODE" in variables:
        number = re.search(r"\d+$", variables["SLURM_GPUS_ON_NODE"])
        return Devices(int(number[0]) if number else 0, f"SLURM_GPUS_ON_NODE={variables['SLURM_GPUS_ON_NODE']!r}")
    return Devices(0, f"none of {', '.join((*VISIBLE, *GRANTED, 'SLURM_GPUS_ON_NODE'))} is set")


def _listed(text: str) -> int:
    """Count a list such as `0,1`, `0-3`, `GPU-8f2a,GPU-91cc`; `NoDevFiles`, `none` and -1 are no device."""
    count = 0
    for part in (part.strip() for part in text.split(",")):
        if span := re.fullmatch(r"(\d+)-(\d+)", part):
            count += int(span[2]) - int(span[1]) + 1
        elif part.startswith("-"):
            break  # CUDA sees none of those behind an invalid one
        elif part and part.lower() not in ("nodevfiles", "none", "void"):
            count += 1
    return count
