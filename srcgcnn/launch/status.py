"""The status of a sweep. Asks the batch system once for all jobs, and does not ask Ray."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from srcgcnn.driver.noted import SILENT_S
from srcgcnn.driver.progress import Backlog, read_progress
from srcgcnn.launch.batch import BatchError, QueuedJob
from srcgcnn.launch.deaths import HeadDeaths, read_deaths
from srcgcnn.launch.rendezvous import HeadAddress, SweepEndRecord, WorkerNote, read_jobs
from srcgcnn.launch.systems import batch_system
from srcgcnn.processes import find_process
from srcgcnn.records import read_if_whole
from srcgcnn.run.folder import open_run
from srcgcnn.run.spent import Spent, spent_line, write_charged
from srcgcnn.sweep.record import read_record

if TYPE_CHECKING:
    from srcgcnn.driver.progress import SweepProgress
    from srcgcnn.launch.rendezvous import JobIds
    from srcgcnn.run.paths import RunPaths


@dataclass(frozen=True)
class SweepStatus:
    """Where a sweep stands.

    Attributes:
        trials: distinct trials of the sweep; of a search, those of the proposals so far.
        finished: those with a result.
        failed: those with a failure and no result.
        stopped: those that a scheduler stopped early.
        left: whether anything is left to train or to propose.
        submitted: whether it runs as jobs of a cluster, not on one machine.
        progress: what the driver wrote last, None if none has run.
        alive: whether that driver seems to run still.
        backlog: groups waiting and running, None before the driver has written it.
        jobs: its jobs in the batch system; None if that did not answer.
        head_job: id of the head's job.
        head: the head, as it recorded itself.
        deaths: of heads, since the last new result.
        end: exit status of the driver, None while the sweep is not over.
        end_reason: why it gave up.
        spent: what the sweep has used, and according to whom.
        broken: worker jobs that found their node unfit, and why.
    """

    trials: int
    finished: int
    failed: int
    stopped: int
    left: bool
    submitted: bool
    progress: SweepProgress | None
    alive: bool
    backlog: Backlog | None
    jobs: tuple[QueuedJob, ...] | None
    head_job: str
    head: HeadAddress | None
    deaths: HeadDeaths
    end: int | None
    end_reason: str
    spent: str
    broken: tuple[WorkerNote, ...]


def status_of(paths: RunPaths) -> SweepStatus:
    """Collect the state of a sweep."""
    from srcgcnn.sweep.plan import plan_sweep

    record = read_record(paths)
    run = open_run(paths)
    plan = plan_sweep(record.spec, record.data, run)
    ids = read_jobs(paths)
    progress = read_progress(paths)
    try:
        jobs: tuple[QueuedJob, ...] | None = tuple(batch_system().jobs(ids.all)) if ids.all else ()
    except BatchError:
        jobs = None
    end = read_if_whole(SweepEndRecord, paths.sweep_end)
    return SweepStatus(
        trials=len(plan.trials),
        finished=len(plan.finished),
        failed=len(plan.failed),
        stopped=len(plan.stopped),
        left=not plan.over,
        submitted=paths.launch_request.exists(),
        progress=progress,
        alive=progress is not None and driver_lives(progress),
        backlog=read_if_whole(Backlog, paths.backlog),
        jobs=jobs,
        head_job=ids.head,
        head=read_if_whole(HeadAddress, paths.head_address),
        deaths=read_deaths(paths),
        end=end.status if end else None,
        end_reason=end.reason if end else "",
        spent=_spent(paths, ids),
        broken=tuple(note for note in worker_notes(paths) if note.state == "broken"),
    )


def _spent(paths: RunPaths, ids: JobIds) -> str:
    """Ask what was charged, and keep the answer for the report."""
    if ids.all and (usage := batch_system().usage((*ids.all, *ids.earlier))):
        with suppress(OSError):
            write_charged(paths, Spent(usage.gpu_hours, usage.core_hours))
    return spent_line(paths)


def worker_notes(paths: RunPaths) -> list[WorkerNote]:
    """Return the last note of every worker job."""
    files = sorted(paths.worker_note("any").parent.glob("*.json"))
    return [note for note in (read_if_whole(WorkerNote, file) for file in files) if note]


def driver_lives(progress: SweepProgress) -> bool:
    """Whether the driver that wrote this seems to run: by its process on this machine, else by the file's age."""
    if progress.ended:
        return False
    if progress.host != socket.gethostname():
        return time.time() - progress.updated_at < SILENT_S
    return find_process(progress.pid, progress.started_s_after_boot) is not None
