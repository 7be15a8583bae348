"""`srcgcnn status`: the status of a sweep, in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcgcnn.cli.command import add_sweep_command, existing_run
from srcgcnn.cli.logs import tail
from srcgcnn.exit_status import DONE, ERROR, IN_PART, INTERRUPTED
from srcgcnn.terminal import duration

if TYPE_CHECKING:
    import argparse

    from srcgcnn.driver.progress import GroupState, SweepProgress
    from srcgcnn.launch.batch import QueuedJob
    from srcgcnn.launch.status import SweepStatus
    from srcgcnn.run.paths import RunPaths

FAILURE_LINES = 3
WAITING_SHOWN = 10
SHOWN_STATES = ("running", "failed", "stopped", "waiting")
ENDS = {DONE: "finished", IN_PART: "finished, with failed trials", INTERRUPTED: "stopped", ERROR: "ended with an error"}


def add_status_command(commands: Any) -> None:
    """Add the command to a parser's subparsers."""
    status = add_sweep_command(commands, "status", "show how far a sweep is", _status)
    status.add_argument("--json", action="store_true", help="print JSON")


def _status(options: argparse.Namespace) -> int:
    from srcgcnn.launch.status import status_of
    from srcgcnn.records import as_dict

    paths = existing_run(options.out)
    status = status_of(paths)
    if options.json:
        print(json.dumps(as_dict(status), indent=1))
        return 0
    print(status_text(status, paths))
    if status.progress and status.alive:
        show_groups(status.progress)
    return 0


def status_text(status: SweepStatus, paths: RunPaths) -> str:
    """Write a status in readable form."""
    from srcgcnn.run.failures import read_failures

    lines = [f"sweep      {paths.out}: {phase_of(status, paths)}"]
    counts = [f"{status.finished} of {status.trials} finished"]
    counts += [f"{status.failed} failed"] if status.failed else []
    counts += [f"{status.stopped} stopped early"] if status.stopped else []
    if status.progress and status.progress.proposals_left:
        counts.append(f"{status.progress.proposals_left} proposals to be made")
    lines.append(f"trials     {', '.join(counts)}")
    if status.backlog and status.end is None and (status.submitted or status.alive):
        lines.append(f"groups     {status.backlog.running} training, {status.backlog.waiting} waiting for a worker")
    lines.append(f"used       {status.spent}")
    lines += [f"job        {_job_line(job)}" for job in status.jobs or ()]
    if status.deaths.deaths and status.end is None:
        lines.append(f"head       died {status.deaths.deaths} times since the last result: {status.deaths.reason}")
    lines += [f"broken     job {note.job} on {note.host}: {note.reason}" for note in status.broken]
    for failure in read_failures(paths):
        lines.append(f"failed     {failure.key} {failure.label}: {failure.reason.splitlines()[-1]}")
        if failure.log:
            lines += [f"           | {line}" for line in tail(Path(failure.log), FAILURE_LINES).splitlines()]
    dashboard = paths.tunnel if status.head else paths.dashboard
    if (status.head or status.alive) and dashboard.exists():
        lines.append(f"dashboard  {dashboard.read_text(encoding='utf-8').strip()}")
        lines.append(f"           it asks for the token in {paths.ray_token}")
    return "\n".join(lines)


def show_groups(progress: SweepProgress) -> None:
    """Print a table of the groups: those that train, failed or were stopped, and the first that wait."""
    from rich.table import Table

    from srcgcnn.terminal import make_console

    console = make_console()
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
        console.print(f"and {len(waiting) - WAITING_SHOWN} more waiting groups")


def phase_of(status: SweepStatus, paths: RunPaths) -> str:
    """Describe the status in a few words."""
    from srcgcnn.launch.systems import batch_system

    if not status.submitted:
        return _local_phase(status, paths)
    if status.end is not None:
        how = ENDS.get(status.end, f"the driver ended with status {status.end}; srcgcnn logs {paths.out}")
        told = f"{how}: {status.end_reason}" if status.end_reason else how
        return f"{told}; to continue: srcgcnn resume {paths.out}" if status.left and status.end else told
    if status.jobs is None:
        return f"{batch_system().name} does not answer (not a login node, or busy)"
    head = next((job for job in status.jobs if job.belongs_to(status.head_job)), None)
    if head is None:
        return _headless_phase(status, paths)
    return f"running{_time_left(status)}" if status.head and not head.waits else "waiting for its head"


def _local_phase(status: SweepStatus, paths: RunPaths) -> str:
    from srcgcnn.sweep.record import read_record

    if status.alive:
        return f"running on this machine{_time_left(status)}"
    if not status.left:
        return "finished"
    record = read_record(paths)
    if record.archived:
        return "an archive of what had finished"
    return f"not running and not finished; to continue: {record.command}"


def _time_left(status: SweepStatus) -> str:
    eta_s = status.progress.eta_s if status.progress and status.alive else None
    return "" if eta_s is None else f", about {duration(eta_s)} left"


def _headless_phase(status: SweepStatus, paths: RunPaths) -> str:
    """Describe a sweep whose head is not in the queue and which has not recorded its end."""
    if not status.left:
        return "finished"
    if not status.jobs:
        return f"no job is left, and the sweep is not over: srcgcnn resume {paths.out}"
    return f"its head is gone; a worker will soon submit another, or do it yourself: srcgcnn resume {paths.out}"


def _job_line(job: QueuedJob) -> str:
    where = f"on {job.node}, {job.used} of {job.limit}" if job.node else f"({job.reason})"
    return f"{job.job_id:12} {job.state.lower():11} {where}"
