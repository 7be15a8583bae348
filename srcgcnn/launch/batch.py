"""The interface of a batch system, and what a job has to know about the allocation that it runs in.

Everything that names a scheduler's commands, options or variables is behind these two Protocols: `launch/slurm` has the
implementation that ships.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from srcgcnn.launch.slurm_site import HeadRequest, SlurmSite
    from srcgcnn.run.paths import RunPaths

HELD_STATES = ("REQUEUE_HOLD", "SPECIAL_EXIT")


class BatchError(RuntimeError):
    """The batch system is missing, does not answer, or refuses; the message holds its answer."""


@dataclass(frozen=True)
class QueuedJob:
    """A job, or one task of an array, that waits or runs.

    Attributes:
        job_id: `17`, or `17_3` for a task of an array.
        state: as the batch system calls it.
        node: where it runs, "" while it waits.
        used: time used.
        limit: time limit.
        reason: why it waits.
        waits: whether it has not started.
        ending: whether it was ended and its node is still cleaning up.
    """

    job_id: str
    state: str
    node: str
    used: str
    limit: str
    reason: str
    waits: bool = False
    ending: bool = False

    @property
    def stuck(self) -> bool:
        """Whether it waits for a person: SLURM holds a job whose node failed it when it was to start."""
        return self.state in HELD_STATES or "requeued held" in self.reason.replace("_", " ").lower()

    def belongs_to(self, submitted: str) -> bool:
        """Whether this is the job of that id, or one task of that array."""
        return self.job_id.split("_")[0] == submitted


@dataclass(frozen=True)
class Usage:
    """What jobs were charged for, in hours: of devices, and of cores."""

    gpu_hours: float
    core_hours: float


@dataclass(frozen=True)
class Finding:
    """One check of a site: what, whether it passed, and what was found or has to be changed."""

    what: str
    good: bool
    detail: str


@dataclass(frozen=True)
class Devices:
    """Devices of an allocation: how many, and the variables that show it."""

    count: int
    evidence: str


class Allocation(Protocol):
    """The part of a cluster that this process was given."""

    @property
    def id(self) -> str:
        """Id of this job; every task of an array has one of its own."""

    @property
    def shown_id(self) -> str:
        """The id as people see it in the queue: `17_3` for a task of an array."""

    @property
    def task_id(self) -> str:
        """An id that no other process of the cluster has, also in jobs of several tasks."""

    @property
    def restarts(self) -> int:
        """How often this job was started again."""

    @property
    def end_requested(self) -> bool:
        """Whether this job is being cancelled, requeued or preempted; seconds are left."""

    @property
    def warned(self) -> bool:
        """Whether the end was announced: the time limit, or a preemption."""

    @property
    def devices(self) -> Devices:
        """The devices of this job."""

    def listen(self) -> None:
        """Record the batch system's signals from now on."""

    def ends_at(self, time_min: int) -> float:
        """Return when this job will be ended, by this machine's `time.monotonic`; `time_min` is the requested limit."""


class BatchSystem(Protocol):
    """Jobs on a cluster. Every method raises `BatchError`."""

    @property
    def name(self) -> str:
        """Human-readable name."""

    def texts(self, site: SlurmSite, paths: RunPaths, name: str, groups: int) -> dict[str, str]:
        """Return what would be submitted for so many groups, by a human-readable name."""

    def verdict(self, text: str, folder: Path) -> tuple[bool, str]:
        """Return whether a text would be accepted, and the answer to it; nothing is submitted."""

    def submit_head(self, site: SlurmSite, paths: RunPaths, name: str) -> str:
        """Submit the job of the head and return its id."""

    def submit_gang(self, site: SlurmSite, paths: RunPaths, name: str, groups: int) -> str:
        """Submit one job with the head and all workers and return its id."""

    def worker_arrays(self, site: SlurmSite, groups: int) -> list[WorkerArray]:
        """Return the arrays that so many groups make use of."""

    def submit_workers(self, site: SlurmSite, paths: RunPaths, name: str, array: WorkerArray) -> str:
        """Submit one array of workers and return its id."""

    def jobs(self, ids: tuple[str, ...]) -> list[QueuedJob]:
        """Return the jobs among `ids` (array ids stand for all their tasks) that wait or run."""

    def cancel(self, ids: tuple[str, ...], *, waiting_only: bool = False) -> None:
        """Cancel jobs; those that are over are left alone."""

    def requeue(self, job_id: str) -> None:
        """Put a running job back in the queue; it is ended for that."""

    def answer_of(self, call: Callable[[], Any], site: SlurmSite, request: HeadRequest, folder: Path) -> Any:
        """Run a call (a record that `launch/start.py` knows) in a job of its own; waits, and returns what it returned.

        Its files and its log go to `folder`.
        """

    def check(self, site: SlurmSite, folder: Path, *, on_node: bool) -> list[Finding]:
        """Try a site file from here, with files in `folder`; on request also with short jobs."""

    def usage(self, ids: tuple[str, ...]) -> Usage | None:
        """Return what jobs have been charged for so far, restarts included; None if there is no accounting."""


@dataclass(frozen=True)
class WorkerArray:
    """An array of worker jobs: which of the site's kinds, and how many."""

    kind: int
    size: int
