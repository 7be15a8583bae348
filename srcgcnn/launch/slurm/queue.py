"""SLURM's commands, a few of them, each called once for all jobs of a sweep."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import subprocess

from srcgcnn.launch.batch import BatchError, QueuedJob, Usage

TIMEOUT_S = 60.0
ACCOUNTING_TIMEOUT_S = 10.0  # not long, for a number only
OVER = {"CANCELLED", "COMPLETED", "FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}
ENDING = "COMPLETING"
WAITING = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"}


class SlurmError(BatchError):
    """A SLURM command is missing or failed; the message holds its output."""


def slurm(*command: str, timeout_s: float = TIMEOUT_S) -> str:
    """Run a SLURM command and return what it printed.

    Raises:
        SlurmError: it is not on PATH, hung, or failed.
    """
    if shutil.which(command[0]) is None:
        raise SlurmError(f"{command[0]!r} is not on PATH: run this on a login node of the cluster")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{' '.join(command)} gave no answer in {timeout_s:.0f} s; SLURM is busy or down") from None
    if done.returncode:
        raise SlurmError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout + done.stderr


def queued(ids: tuple[str, ...]) -> list[QueuedJob]:
    """Return the jobs among `ids` (array ids stand for all their tasks) that wait or run."""
    if not ids:
        return []
    listing = slurm("squeue", "-h", "-r", "-u", getpass.getuser(), "-o", "%i|%T|%N|%M|%l|%r")
    rows = [_row(*line.strip().split("|")) for line in listing.splitlines() if line.count("|") == 5]
    return [row for row in rows if any(map(row.belongs_to, ids)) and row.state not in OVER]


def _row(job_id: str, state: str, node: str, used: str, limit: str, reason: str) -> QueuedJob:
    return QueuedJob(job_id, state, node, used, limit, reason, waits=state in WAITING, ending=state == ENDING)


def cancel(ids: tuple[str, ...], *, waiting_only: bool = False) -> None:
    """Cancel jobs; those that are over are left alone."""
    try:
        if ids:
            slurm("scancel", *(["--state=PENDING"] if waiting_only else []), *ids)
    except SlurmError as error:
        if "Invalid job id" not in str(error):
            raise


def requeue(job_id: str) -> None:
    """Put a running job back in the queue; SLURM ends it for that."""
    slurm("scontrol", "requeue", job_id)


def without_job_variables() -> dict[str, str]:
    """Return this environment without what SLURM set for the job that we are in: sbatch and srun would obey it."""
    if "SLURM_JOB_ID" not in os.environ:
        return dict(os.environ)
    return {
        name: value
        for name, value in os.environ.items()
        if name == "SLURM_CONF" or not name.startswith(("SLURM_", "SRUN_"))
    }


def usage(ids: tuple[str, ...]) -> Usage | None:
    """Return what SLURM's accounting has for jobs, every restart of each counted; None if it has nothing."""
    if not ids:
        return None
    fields = ("-n", "-P", "-X", "-D", "-o", "ElapsedRaw,AllocTRES", "-j", ",".join(ids))
    try:
        rows = [line.split("|") for line in slurm("sacct", *fields, timeout_s=ACCOUNTING_TIMEOUT_S).splitlines()]
    except SlurmError:  # many sites have no accounting, or do not allow queries
        return None
    known = [(float(row[0]) / 3600, row[1]) for row in rows if len(row) == 2 and row[0].isdigit()]
    if not known:
        return None
    gpu_hours = sum(hours * _amount(granted, r"gres/gpu") for hours, granted in known)
    return Usage(gpu_hours, sum(hours * _amount(granted, "cpu") for hours, granted in known))


def _amount(granted: str, resource: str) -> int:
    match = re.search(rf"(?:^|,){resource}=(\d+)", granted)
    return int(match[1]) if match else 0
