"""What head and worker jobs have in common: signals turned into wishes, and the clock of the allocation.

submitit's own handlers are replaced: it ignores SIGTERM, and its `checkpoint()` is called neither on requeue nor on
preemption nor when a node fails (measured). Our jobs need neither: one that starts again finds its work by itself.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from srcgcnn.files import open_log

if TYPE_CHECKING:
    from types import FrameType

EXIT_TERMINATED = 143  # as a shell reports SIGTERM; sys.exit writes no result file, so SLURM may start the job again


@dataclass
class Wishes:
    """What SLURM asked for since the job started.

    Attributes:
        end: SIGTERM: the job is cancelled, requeued or preempted; seconds are left.
        warned: the signal ahead of the time limit or of a preemption.
    """

    end: bool = False
    warned: bool = False

    def listen(self) -> None:
        """Install the handlers; they only take notes, so that the loop stays in charge."""
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGCONT, signal.SIG_IGN)  # scancel sends it first; submitit's handler logs it only
        signal.signal(signal.SIGUSR2, self._on_warning)

    def _on_term(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.end = True

    def _on_warning(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.warned = True


def job_id() -> str:
    """Return the id of this job; every task of an array has one of its own."""
    return os.environ["SLURM_JOB_ID"]


def shown_job_id() -> str:
    """Return the id as squeue shows it: `17`, or `17_3` for a task of an array; in a gang with the rank behind it."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else task_id()


def task_id() -> str:
    """Return an id that no other task of the cluster has: that of the job, with the rank in jobs of several tasks."""
    rank = os.environ.get("SLURM_PROCID", "0")
    return job_id() if rank == "0" else f"{job_id()}t{rank}"


def end_of_allocation(time_min: int) -> float:
    """Return when SLURM will end this job, in Unix time: its own word, else now and the limit that was asked for."""
    return float(os.environ.get("SLURM_JOB_END_TIME") or time.time() + 60.0 * time_min)


def device_count() -> int:
    """Return how many devices SLURM gave to this job."""
    return len([name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()])


def outlive_full_disk() -> None:
    """Let this process lose what it prints, and go on, while the disk of its log is full."""
    sys.stdout, sys.stderr = open_log(1), open_log(2)


def say(text: str) -> None:
    """Write a line with the time into the job's log."""
    print(f"{time.strftime('%F %T')} {text}", flush=True)
