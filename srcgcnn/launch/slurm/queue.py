"""What SLURM says and does: a few of its commands, each asked once for all jobs of a sweep."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from dataclasses import dataclass

TIMEOUT_S = 60.0
OVER = {"CANCELLED", "COMPLETED", "FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}


class SlurmError(RuntimeError):
    """A SLURM command is missing or failed; the message holds what it said."""


@dataclass(frozen=True)
class QueuedJob:
    """A job, or one task of an array, as squeue shows it.

    Attributes:
        job_id: `17`, or `17_3` for a task of an array.
        state: SLURM's state in long form.
        node: where it runs, "" while it waits.
        used: time used.
        limit: time limit.
        reason: why it waits.
    """

    job_id: str
    state: str
    node: str
    used: str
    limit: str
    reason: str


def slurm(*command: str) -> str:
    """Run a SLURM command and return what it printed.

    Raises:
        SlurmError: it is not on PATH, hung, or failed.
    """
    if shutil.which(command[0]) is None:
        raise SlurmError(f"{command[0]!r} is not on PATH: run this on a login node of the cluster")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{' '.join(command)} gave no answer in {TIMEOUT_S:.0f} s; SLURM is busy or down") from None
    if done.returncode:
        raise SlurmError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout + done.stderr


def queued(ids: tuple[str, ...]) -> list[QueuedJob]:
    """Return the jobs among `ids` (array ids stand for all their tasks) that wait or run."""
    if not ids:
        return []
    listing = slurm("squeue", "-h", "-r", "-u", getpass.getuser(), "-o", "%i|%T|%N|%M|%l|%r")
    rows = (QueuedJob(*line.strip().split("|")) for line in listing.splitlines() if line.count("|") == 5)
    return [row for row in rows if row.job_id.split("_")[0] in ids and row.state not in OVER]


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
