"""A sweep for people: where it stands, its logs, its end. Asks the batch system once for all jobs, and Ray nothing."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from rich.table import Table

from srcgcnn.driver.progress import read_progress
from srcgcnn.launch.batch import BatchError, QueuedJob
from srcgcnn.launch.deaths import HeadDeaths, read_deaths
from srcgcnn.launch.rendezvous import Backlog, HeadAddress, SweepEndRecord, WorkerNote, read_jobs
from srcgcnn.launch.systems import batch_system
from srcgcnn.records import read_if_whole
from srcgcnn.run.failures import read_failures
from srcgcnn.run.folder import open_run
from srcgcnn.run.log import find_log
from srcgcnn.run.spent import Spent, spent_line, write_charged
from srcgcnn.sweep.record import read_record
from srcgcnn.terminal import duration

if TYPE_CHECKING:
    from rich.console import Console

    from srcgcnn.driver.progress import GroupState, SweepProgress
    from srcgcnn.launch.rendezvous import JobIds
    from srcgcnn.run.paths import RunPaths

CANCEL_TIMEOUT_S = 120.0
SILENT_S = 60.0  # a driver on another node writes every few seconds; file systems may show it later
FAILURE_LINES = 3
FOLLOW_PAUSE_S = 1.0
WAITING_SHOWN = 10
SHOWN_STATES = ("running", "failed", "stopped", "waiting")
ENDS = {0: "finished", 1: "finished, with failed trials", 130: "stopped", 2: "ended with an error"}


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
        progress: what the driver wrote last, None where none has run.
        alive: whether that driver seems to run still.
        backlog: groups waiting and running, None before the driver has spoken.
        jobs: what the batch system has of it; None where it gave no answer.
        head_job: id of the head's job.
        head: the head, as it wrote itself down.
        deaths: of heads, since the last new result.
        end: exit status of the driver, None while the sweep is not over.
        end_reason: why it gave up.
        spent: what the sweep has used, and who says so.
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
    """Return the last word of every worker job."""
    files = sorted(paths.worker_note("any").parent.glob("*.json"))
    return [note for note in (read_if_whole(WorkerNote, file) for file in files) if note]


def status_text(status: SweepStatus, paths: RunPaths) -> str:
    """Write a status for people."""
    lines = [f"sweep      {paths.out}: {phase_of(status, paths)}"]
    counts = [f"{status.finished} of {status.trials} finished"]
    counts += [f"{status.failed} failed"] if status.failed else []
    counts += [f"{status.stopped} stopped early"] if status.stopped else []
    if status.progress and status.progress.proposals_left:
        counts.append(f"{status.progress.proposals_left} proposals to be made")
    lines.append(f"trials     {', '.join(counts)}")
    if status.backlog and status.end is None:
        lines.append(f"groups     {status.backlog.running} train, {status.backlog.waiting} wait for a worker")
    lines.append(f"used       {status.spent}")
    lines += [f"job        {_job_line(job)}" for job in status.jobs or ()]
    if status.deaths.deaths and status.end is None:
        lines.append(f"head       died {status.deaths.deaths} times since the last result: {status.deaths.reason}")
    lines += [f"broken     job {note.job} on {note.host}: {note.reason}" for note in status.broken]
    for failure in read_failures(paths):
        lines.append(f"failed     {failure.key} {failure.label}: {failure.reason.splitlines()[-1]}")
        if failure.log:
            lines += [f"           | {line}" for line in tail(Path(failure.log), FAILURE_LINES).splitlines()]
    if status.head and paths.tunnel.exists():
        lines.append(f"dashboard  {paths.tunnel.read_text(encoding='utf-8').strip()}")
        lines.append(f"           it asks for the token in {paths.ray_token}")
    return "\n".join(lines)


def show_groups(progress: SweepProgress, console: Console) -> None:
    """Print a table of the groups: those that train, failed or were stopped, and the first that wait."""
    by_state: dict[str, list[GroupState]] = {state: [] for state in SHOWN_STATES}
    for group in progress.groups:
        by_state.setdefault(group.state, []).append(group)
    waiting = by_state["waiting"]
    by_state["waiting"] = waiting[:WAITING_SHOWN]
    table = Table(box=None, header_style="dim")
    for heading in ("group", "key", "state", "node", "epoch", "validation error", "left"):
        table.add_column(heading, justify="right" if heading in ("epoch", "validation error", "left") else "left")
    for group in (group for state in SHOWN_STATES for group in by_state[state]):
        error = "" if group.val_error is None else f"{group.val_error:.4g}"
        left = "" if group.eta_s is None else duration(group.eta_s)
        epoch = f"{group.epoch}/{group.epochs}"
        table.add_row(group.label, group.key[:8], group.state, group.host, epoch, error, left)
    if table.row_count:
        console.print(table)
    if len(waiting) > WAITING_SHOWN:
        console.print(f"and {len(waiting) - WAITING_SHOWN} more groups that wait")


def driver_lives(progress: SweepProgress) -> bool:
    """Whether the driver that wrote this seems to run: by its process on this machine, else by the file's age."""
    if progress.ended:
        return False
    if progress.host != socket.gethostname():
        return time.time() - progress.updated_at < SILENT_S
    try:
        return psutil.Process(progress.pid).create_time() < progress.started_at + 1
    except psutil.NoSuchProcess:
        return False


def _local_phase(status: SweepStatus, paths: RunPaths) -> str:
    if status.progress and status.alive:
        eta_s = status.progress.eta_s
        return "running on this machine" + ("" if eta_s is None else f", about {duration(eta_s)} left")
    if not status.left:
        return "finished"
    return f"not running, and not over; to go on: python {read_record(paths).command}"


def phase_of(status: SweepStatus, paths: RunPaths) -> str:
    """Say in a few words what goes on."""
    if not status.submitted:
        return _local_phase(status, paths)
    if status.end is not None:
        how = ENDS.get(status.end, f"the driver ended with status {status.end}; srcgcnn logs {paths.out}")
        return f"{how}: {status.end_reason}" if status.end_reason else how
    if status.jobs is None:
        return f"{batch_system().name} gives no answer (not a login node, or busy)"
    head = next((job for job in status.jobs if job.belongs_to(status.head_job)), None)
    if head is None:
        return _headless_phase(status, paths)
    return "running" if status.head and not head.waits else "waits for its head"


def _headless_phase(status: SweepStatus, paths: RunPaths) -> str:
    """Say where a sweep stands whose head is not in the queue, and which did not say that it is over."""
    if not status.left:
        return "finished"
    if not status.jobs:
        return f"no job is left, and the sweep is not over: srcgcnn resume {paths.out}"
    return f"its head is gone; a worker submits another soon, or you: srcgcnn resume {paths.out}"


def _job_line(job: QueuedJob) -> str:
    where = f"on {job.node}, {job.used} of {job.limit}" if job.node else f"({job.reason})"
    return f"{job.job_id:12} {job.state.lower():11} {where}"


def log_files(paths: RunPaths, job: str | None, trial: str | None = None) -> list[Path]:
    """Return the log of a trial, by a part of its key or label; else of a job, or of the head.

    A job is named `17_3`; `17` is all of an array, or all ranks of a gang.

    Raises:
        FileNotFoundError: there is none; those that exist are named.
    """
    ids = read_jobs(paths)
    if trial is not None or not (job or ids.head):
        return [find_log(paths, trial or "").path]
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


def follow(path: Path) -> None:
    """Print what is written to a log from now on, until Ctrl-C. Polls: shared file systems tell nobody of changes."""
    with path.open(encoding="utf-8", errors="replace") as stream:
        stream.seek(0, os.SEEK_END)
        while True:
            text = stream.read()
            print(text, end="", flush=True)
            time.sleep(0.0 if text else FOLLOW_PAUSE_S)


def cancel_jobs(paths: RunPaths, chosen: list[str] | None, *, waiting_only: bool) -> list[str]:
    """Cancel some jobs of a sweep and return their ids; the sweep goes on without them.

    Args:
        paths: the sweep.
        chosen: ids as `status` shows them; None takes all workers.
        waiting_only: only those that have not started.

    Raises:
        ValueError: a job is not one of this sweep, or not there any more; those that are are listed.
    """
    ids = read_jobs(paths)
    alive = {job.job_id: job for job in batch_system().jobs(ids.all)}
    if unknown := [job for job in chosen or () if job not in alive]:
        raise ValueError(f"no job {', '.join(unknown)} of {paths.out}; there: {', '.join(alive) or 'none'}")
    workers = [job_id for job_id in alive if job_id != ids.head]
    wanted = [job for job in chosen or workers if not waiting_only or alive[job].waits]
    batch_system().cancel(tuple(wanted))
    return wanted


def cancel_sweep(paths: RunPaths) -> list[str]:
    """Cancel all jobs of a sweep and wait until they are gone; returns their ids.

    Raises:
        BatchError: the batch system refuses, or jobs are still there after two minutes.
    """
    cancelled: list[str] = []
    system = batch_system()
    deadline, pause = time.monotonic() + CANCEL_TIMEOUT_S, 0.5
    while left := [
        job.job_id for job in system.jobs(read_jobs(paths).all)
    ]:  # a head may submit workers in its last second
        if new := [job_id for job_id in left if job_id not in cancelled]:
            system.cancel(read_jobs(paths).all)
            cancelled += new
        if time.monotonic() > deadline:
            raise BatchError(f"still there after {CANCEL_TIMEOUT_S:.0f} s: {', '.join(left)}")
        time.sleep(pause)
        pause = min(2 * pause, 8.0)
    return cancelled
