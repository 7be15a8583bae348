"""One call in a job of its own, waited for: the probe of a node, the build of a graph store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from submitit.core import utils

from srcgcnn.launch.slurm.queue import SlurmError, cancel, queued
from srcgcnn.launch.slurm.system import submit_calls

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from submitit.core import core

    from srcgcnn.launch.slurm.sbatch import SweepExecutor

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
LATE_S = 5.0  # a shared file system may show a result late


def run_in_job(
    executor: SweepExecutor, call: Callable[[], Any], console: Console, timeout_s: float | None = None
) -> Any:
    """Submit a call, wait until it is done, and return what it returned.

    Raises:
        SlurmError: sbatch refuses, the job ended without an answer (the end of its log is shown), or time is over.
    """
    return wait_for_answer(submit_call(executor, call, console), timeout_s)


def submit_call(executor: SweepExecutor, call: Callable[[], Any], console: Console) -> core.Job[Any]:
    """Submit a call and say where its log is.

    Raises:
        SlurmError: sbatch is missing, or refuses.
    """
    (job,) = submit_calls(executor, [call])
    console.print(f"waiting for job {job.job_id}; its log: {job.paths.stdout}", soft_wrap=True)
    return job


def wait_for_answer(job: core.Job[Any], timeout_s: float | None = None) -> Any:
    """Return what the call of a job returned.

    Raises:
        SlurmError: the job ended without an answer (the end of its log is shown), or time is over.
    """
    answer, started, pause = job.paths.result_pickle, time.monotonic(), FIRST_PAUSE_S
    while not answer.exists():
        time.sleep(pause)
        pause = min(1.5 * pause, LONGEST_PAUSE_S)
        if not answer.exists() and not queued((job.job_id,)):
            time.sleep(LATE_S)
            if not answer.exists():
                raise SlurmError(f"job {job.job_id} ended without an answer: {job.stdout() or 'its log is empty'}")
        if timeout_s is not None and time.monotonic() - started > timeout_s:
            cancel((job.job_id,))
            raise SlurmError(
                f"job {job.job_id} did not run within {timeout_s:.0f} s; try again when the queue is short"
            )
    outcome, value = utils.pickle_load(answer)  # not `job.result()`: that asks sacct, which some sites do not have
    if outcome == "error":  # then the value is the traceback
        raise SlurmError(f"job {job.job_id} failed: {str(value).strip().splitlines()[-1]}; log: {job.paths.stdout}")
    return value
