"""The end of a sweep on a cluster: all of its jobs, or some."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from srcgcnn.exit_status import INTERRUPTED
from srcgcnn.launch.batch import BatchError
from srcgcnn.launch.rendezvous import SweepEndRecord, read_jobs, write_record_file
from srcgcnn.launch.systems import batch_system

if TYPE_CHECKING:
    from srcgcnn.run.paths import RunPaths

CANCEL_TIMEOUT_S = 120.0


def cancel_jobs(paths: RunPaths, chosen: list[str] | None, *, waiting_only: bool) -> list[str]:
    """Cancel some jobs of a sweep and return their ids; the sweep continues without them.

    Args:
        paths: the sweep.
        chosen: ids as `status` shows them; None takes all workers.
        waiting_only: only those that have not started.

    Raises:
        ValueError: a job is not one of this sweep, or has ended; those that remain are listed.
    """
    ids = read_jobs(paths)
    alive = {job.job_id: job for job in batch_system().jobs(ids.all)}
    if unknown := [job for job in chosen or () if job not in alive]:
        raise ValueError(f"no job {', '.join(unknown)} of {paths.out}; there: {', '.join(alive) or 'none'}")
    workers = [job_id for job_id in alive if job_id != ids.head]
    selected = [job for job in chosen or workers if not waiting_only or alive[job].waits]
    batch_system().cancel(tuple(selected))
    return selected


def cancel_sweep(paths: RunPaths) -> list[str]:
    """Cancel all jobs of a sweep and wait until they are gone; returns their ids.

    A head may submit workers, or be requeued, in its last second, so jobs that are not ending are cancelled again. The
    end is written down for workers that outlive the head: they must not replace it. Not before the jobs are cancelled,
    or workers would leave at their leisure and be killed meanwhile.

    Raises:
        BatchError: the batch system refuses, or jobs are still there after two minutes.
    """
    cancelled: list[str] = []
    system = batch_system()
    deadline, pause = time.monotonic() + CANCEL_TIMEOUT_S, 0.5
    while left := system.jobs(read_jobs(paths).all):
        if not all(job.ending for job in left):
            jobs = read_jobs(paths)
            system.cancel(jobs.all)
            if not paths.sweep_end.exists():
                write_record_file(paths.sweep_end, SweepEndRecord(INTERRUPTED, jobs.head, "cancelled"))
        cancelled += [job.job_id for job in left if job.job_id not in cancelled]
        if time.monotonic() > deadline:
            names = ", ".join(job.job_id for job in left)
            raise BatchError(f"still there after {CANCEL_TIMEOUT_S:.0f} s: {names}")
        time.sleep(pause)
        pause = min(2 * pause, 8.0)
    return cancelled
