"""A submitted sweep for people: where it stands, its logs, its end. Asks SLURM once for all jobs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from srcgcnn.launch.queue import QueuedJob, SlurmError, cancel, queued
from srcgcnn.launch.rendezvous import Backlog, HeadAddress, JobIds, SweepEndRecord, WorkerNote, read_record_file
from srcgcnn.sweep.failures import read_failures
from srcgcnn.sweep.results import finished_keys

if TYPE_CHECKING:
    from pathlib import Path

    from srcgcnn.sweep.paths import RunPaths

CANCEL_TIMEOUT_S = 120.0
ENDS = {0: "finished", 1: "finished, with failed trials", 130: "stopped", 2: "ended with an error"}


@dataclass(frozen=True)
class SweepStatus:
    """Where a submitted sweep stands.

    Attributes:
        trials: distinct trials of the sweep.
        finished: those with a result.
        failed: those with a failure and no result.
        backlog: groups waiting and running, None before the driver has spoken.
        jobs: what SLURM has of it; None where SLURM gave no answer.
        head: the running head.
        end: exit status of the driver, None while the sweep is not over.
        broken: worker jobs that found their node unfit, and why.
    """

    trials: int
    finished: int
    failed: int
    backlog: Backlog | None
    jobs: tuple[QueuedJob, ...] | None
    head: HeadAddress | None
    end: int | None
    broken: tuple[WorkerNote, ...]


def status_of(paths: RunPaths) -> SweepStatus:
    """Collect the state of a sweep."""
    from srcgcnn.sweep.plan import plan_sweep
    from srcgcnn.sweep.record import read_record

    record = read_record(paths)
    plan = plan_sweep(record.spec, record.data, paths)
    ids = read_record_file(paths.jobs, JobIds) or JobIds()
    try:
        jobs: tuple[QueuedJob, ...] | None = tuple(queued(ids.all))
    except SlurmError:
        jobs = None
    end = read_record_file(paths.sweep_end, SweepEndRecord)
    return SweepStatus(
        trials=len(plan.trials),
        finished=len(finished_keys(paths) & {trial.key for trial in plan.trials}),
        failed=len(plan.failed),
        backlog=read_record_file(paths.backlog, Backlog),
        jobs=jobs,
        head=read_record_file(paths.head_address, HeadAddress),
        end=end.status if end else None,
        broken=tuple(note for note in worker_notes(paths) if note.state == "broken"),
    )


def worker_notes(paths: RunPaths) -> list[WorkerNote]:
    """Return the last word of every worker job."""
    files = sorted(paths.worker_note("any").parent.glob("*.json"))
    return [note for note in (read_record_file(file, WorkerNote) for file in files) if note]


def status_text(status: SweepStatus, paths: RunPaths) -> str:
    """Write a status for people."""
    lines = [f"sweep      {paths.out}: {_phase(status, paths)}"]
    failed = f", {status.failed} failed" if status.failed else ""
    lines.append(f"trials     {status.finished} of {status.trials} finished{failed}")
    if status.backlog and status.end is None:
        lines.append(f"groups     {status.backlog.running} train, {status.backlog.waiting} wait for a worker")
    lines += [f"job        {_job_line(job)}" for job in status.jobs or ()]
    lines += [f"broken     job {note.job} on {note.host}: {note.reason}" for note in status.broken]
    lines += [f"failed     {failure.key}: {failure.reason.splitlines()[-1]}" for failure in read_failures(paths)]
    if status.head and paths.tunnel.exists():
        lines.append(f"dashboard  {paths.tunnel.read_text(encoding='utf-8').strip()}")
        lines.append(f"           it asks for the token in {paths.ray_token}")
    return "\n".join(lines)


def _phase(status: SweepStatus, paths: RunPaths) -> str:
    if status.end is not None:
        return ENDS.get(status.end, f"the driver ended with status {status.end}; srcgcnn logs {paths.out}")
    if status.jobs is None:
        return "SLURM gives no answer (not a login node, or busy)"
    if not status.jobs:
        return f"no job is left, and the sweep is not over: srcgcnn resume {paths.out}"
    return "running" if status.head else "waits for its head"


def _job_line(job: QueuedJob) -> str:
    where = f"on {job.node}, {job.used} of {job.limit}" if job.node else f"({job.reason})"
    return f"{job.job_id:12} {job.state.lower():11} {where}"


def log_files(paths: RunPaths, job: str | None) -> list[Path]:
    """Return the logs of one job (`17_3`; `17` is all of an array, or all ranks of a gang), or of the head.

    Raises:
        FileNotFoundError: there is none; those that exist are named.
    """
    ids = read_record_file(paths.jobs, JobIds) or JobIds()
    wanted = job or ids.head
    found = sorted(paths.job_logs.glob(f"{wanted}_*_log.out")) if wanted else []
    if not found:
        # a log is named by job and rank: 17_3_0_log.out
        known = ", ".join(sorted({path.name.rsplit("_", 2)[0] for path in paths.job_logs.glob("*_log.out")}))
        raise FileNotFoundError(f"no log of job {wanted or '(none submitted)'} yet; jobs with a log: {known or 'none'}")
    return found


def tail(path: Path, lines: int) -> str:
    """Return the last lines of a file."""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def cancel_jobs(paths: RunPaths, chosen: list[str] | None, *, waiting_only: bool) -> list[str]:
    """Cancel some jobs of a sweep and return their ids; the sweep goes on without them.

    Args:
        paths: the sweep.
        chosen: ids as `status` shows them; None takes all workers.
        waiting_only: only those that have not started.

    Raises:
        ValueError: a job is not one of this sweep, or not there any more; those that are are listed.
    """
    ids = read_record_file(paths.jobs, JobIds) or JobIds()
    alive = {job.job_id: job for job in queued(ids.all)}
    if unknown := [job for job in chosen or () if job not in alive]:
        raise ValueError(f"no job {', '.join(unknown)} of {paths.out}; there: {', '.join(alive) or 'none'}")
    workers = [job_id for job_id in alive if job_id != ids.head]
    wanted = [job for job in chosen or workers if not waiting_only or alive[job].state == "PENDING"]
    cancel(tuple(wanted))
    return wanted


def cancel_sweep(paths: RunPaths) -> list[str]:
    """Cancel all jobs of a sweep and wait until they are gone; returns their ids.

    Raises:
        SlurmError: SLURM refuses, or jobs are still there after two minutes.
    """
    ids = read_record_file(paths.jobs, JobIds) or JobIds()
    alive = [job.job_id for job in queued(ids.all)]
    if alive:
        cancel(ids.all)
    deadline, pause = time.monotonic() + CANCEL_TIMEOUT_S, 0.5
    while left := queued(ids.all):
        if time.monotonic() > deadline:
            raise SlurmError(f"still there after {CANCEL_TIMEOUT_S:.0f} s: {', '.join(job.job_id for job in left)}")
        time.sleep(pause)
        pause = min(2 * pause, 8.0)
    return alive
