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
LATE_S = 5.0  # a shared file system may show a result late


@dataclass(frozen=True)
class PendingJob:
    """A job that answers: its id, its log, and the file of its answer."""

    job_id: str
    log: Path
    answer: Path


def run_in_job(
    executor: SweepExecutor, call: Callable[[], Any], console: Console, timeout_s: float | None = None
) -> Any:
    """Submit a call (a record that `launch/start.py` knows), wait until it is done, and return what it returned.

    Raises:
        SlurmError: sbatch refuses, the job ended without an answer (the end of its log is shown), or time is over.
    """
    return wait_for_answer(submit_call(executor, call, console), timeout_s)


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
    job = PendingJob(job_id, folder / f"{job_id}_0_log.out", answer)
    console.print(f"waiting for job {job_id}; its log: {job.log}", soft_wrap=True)
    return job


def wait_for_answer(job: PendingJob, timeout_s: float | None = None) -> Any:
    """Return what the call of a job returned.

    Raises:
        SlurmError: the job ended without an answer (the end of its log is shown), or time is over.
    """
    job_id, started, pause = job.job_id, time.monotonic(), FIRST_PAUSE_S
    while not job.answer.exists():
        time.sleep(pause)
        pause = min(1.5 * pause, LONGEST_PAUSE_S)
        if not job.answer.exists() and not queued((job_id,)):
            time.sleep(LATE_S)
            if not job.answer.exists():
                log = job.log.read_text(encoding="utf-8", errors="replace") if job.log.exists() else ""
                raise SlurmError(f"job {job_id} ended without an answer: {log or 'its log is empty'}")
        if timeout_s is not None and time.monotonic() - started > timeout_s:
            cancel((job_id,))
            raise SlurmError(f"job {job_id} did not run within {timeout_s:.0f} s; try again when the queue is short")
    answer = json.loads(job.answer.read_text(encoding="utf-8"))
    if "error" in answer:
        raise SlurmError(f"job {job_id} failed: {answer['error'].strip().splitlines()[-1]}; log: {job.log}")
    return answer["value"]
