"""One call in its own job, waited for: the probe of a node, the build of a graph store."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - part of the dataclass
from typing import TYPE_CHECKING, Any

from srcgcnn.files import make_private, write_private
from srcgcnn.launch.slurm.queue import SlurmError, cancel, queued
from srcgcnn.launch.slurm.submission import submitted
from srcgcnn.records import as_dict

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from srcgcnn.launch.slurm.sbatch import SweepExecutor

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
LATE_S = 30.0  # a shared file system may show an answer late


@dataclass(frozen=True)
class PendingJob:
    """A job that answers: its id, its log, and the files of question and answer."""

    job_id: str
    log: Path
    call: Path
    answer: Path

    @property
    def has_answered(self) -> bool:
        """Whether the answer is there. A folder is listed anew where a missing file is remembered as missing (NFS)."""
        return self.answer in self.answer.parent.iterdir()


def run_in_job(executor: SweepExecutor, call: Callable[[], Any], console: Console) -> Any:
    """Submit a call (a record that `launch/start.py` knows), wait until it is done, and return what it returned.

    Raises:
        SlurmError: sbatch refuses, or as `wait_for_answer` says.
    """
    return wait_for_answer(submit_call(executor, call, console))


def submit_call(executor: SweepExecutor, call: Callable[[], Any], console: Console) -> PendingJob:
    """Submit a call and say where its log is.

    Raises:
        SlurmError: sbatch is missing, or refuses.
    """
    folder, mark = executor.folder, secrets.token_hex(8)
    make_private(folder)
    call_file, answer = folder / f"{mark}.call.json", folder / f"{mark}.answer.json"
    write_private(call_file, json.dumps(as_dict(call)))
    job_id = submitted(executor, ["ask", type(call).__name__, str(call_file), str(answer)])
    job = PendingJob(job_id, folder / f"{job_id}_0_log.out", call_file, answer)
    console.print(f"waiting for job {job_id}; its log: {job.log}", soft_wrap=True)
    return job


def wait_for_answer(job: PendingJob, timeout_s: float | None = None) -> Any:
    """Return what the call of a job returned.

    Raises:
        SlurmError: the job ended without an answer (the end of its log is shown), waits for a person to release it, or
            time is over.
    """
    started, seen_at, pause = time.monotonic(), time.monotonic(), FIRST_PAUSE_S
    while not job.has_answered:
        time.sleep(pause)
        if _is_there(job):
            seen_at, pause = time.monotonic(), min(1.5 * pause, LONGEST_PAUSE_S)
        elif time.monotonic() - seen_at > LATE_S and not job.has_answered:
            log = job.log.read_text(encoding="utf-8", errors="replace") if job.log.exists() else ""
            raise SlurmError(f"job {job.job_id} ended without an answer: {log or 'its log is empty'}")
        else:
            pause = FIRST_PAUSE_S
        if timeout_s is not None and time.monotonic() - started > timeout_s:
            cancel((job.job_id,))
            raise SlurmError(
                f"job {job.job_id} did not run within {timeout_s:.0f} s; try again when the queue is short"
            )
    answer = json.loads(job.answer.read_text(encoding="utf-8"))
    for path in (job.call, job.answer):
        path.unlink(missing_ok=True)
    if "error" in answer:
        raise SlurmError(f"job {job.job_id} failed: {answer['error'].strip().splitlines()[-1]}; log: {job.log}")
    return answer["value"]


def _is_there(job: PendingJob) -> bool:
    """Whether a job waits or runs, or nobody can tell at the moment.

    Raises:
        SlurmError: SLURM holds it until a person releases it. It is cancelled.
    """
    try:
        there = queued((job.job_id,))
    except SlurmError:
        return True
    if held := next((one for one in there if one.stuck), None):
        cancel((job.job_id,))
        raise SlurmError(f"job {job.job_id} was held by SLURM ({held.reason}); log: {job.log}")
    return bool(there)
