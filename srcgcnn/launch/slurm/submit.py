"""Submission to SLURM through submitit: SLURM's verdict on a text, and the jobs of a sweep.

Runs on a login node: nothing here imports torch or Ray.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from submitit.core import utils

from srcgcnn.launch.head import HeadJob
from srcgcnn.launch.rendezvous import (
    JobIds,
    LaunchRequest,
    read_record_file,
    write_record_file,
    write_request,
)
from srcgcnn.launch.slurm.gang import GangJob
from srcgcnn.launch.slurm.queue import SlurmError, cancel, queued, slurm, without_job_variables
from srcgcnn.launch.slurm.sbatch import (
    SweepExecutor,
    gang_executor,
    head_executor,
    job_name,
    worker_arrays,
    worker_executor,
)
from srcgcnn.launch.worker import WorkerJob
from srcgcnn.sweep.record import write_record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from srcgcnn.launch.slurm_site import SlurmSite
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.sweep.plan import Plan
    from srcgcnn.sweep.record import SweepRecord


REFUSED = "REFUSED"


def verdict(text: str, folder: Path) -> str:
    """Return what `sbatch --test-only` says of a text."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".test-only.{os.getpid()}.sh"
    path.write_text(text, encoding="utf-8")
    try:
        return slurm("sbatch", "--test-only", str(path)).strip()
    except SlurmError as error:
        return f"{REFUSED}: {error}"
    finally:
        path.unlink()


def submit(plan: Plan, paths: RunPaths, request: LaunchRequest, record: SweepRecord | None = None) -> JobIds:
    """Submit the head and its workers, and remember their ids.

    Raises:
        SlurmError: jobs of this sweep are still there, or SLURM refuses.
    """
    known = read_record_file(paths.jobs, JobIds) or JobIds()
    if alive := queued(known.all):
        ids = ", ".join(job.job_id for job in alive)
        raise SlurmError(
            f"{paths.out} is submitted already (jobs {ids}): see `srcgcnn status {paths.out}`, or end it with "
            f"`srcgcnn cancel {paths.out}`"
        )
    for path in (paths.sweep_end, paths.head_address, paths.backlog):
        path.unlink(missing_ok=True)
    paths.job_logs.mkdir(parents=True, exist_ok=True)
    write_request(paths, request)
    if record is not None:
        write_record(paths, record)
    site, name = request.site, job_name(plan.spec.name)
    out, groups = str(paths.out.resolve()), plan.parallel_groups
    if site.gang:
        nodes = site.worker_counts(groups)[0]
        jobs = JobIds(_submitted(gang_executor(site, paths, name, nodes), [GangJob(out)]))
        write_record_file(paths.jobs, jobs)
        return jobs
    jobs = JobIds(_submitted(head_executor(site, paths, name), [HeadJob(out)]))
    write_record_file(paths.jobs, jobs)
    try:
        return submit_workers(site, paths, name, groups)
    except SlurmError:
        cancel((read_record_file(paths.jobs, JobIds) or jobs).all)
        raise


def submit_workers(site: SlurmSite, paths: RunPaths, name: str, groups: int) -> JobIds:
    """Submit the workers that so many groups make use of; adds their ids to those of the sweep, and returns all."""
    out = str(paths.out.resolve())
    for array in worker_arrays(site, groups):
        executor = worker_executor(site, paths, name, array.kind)
        submitted = _submitted(executor, [WorkerJob(out, array.kind)] * array.size)
        jobs = read_record_file(paths.jobs, JobIds) or JobIds()
        write_record_file(paths.jobs, JobIds(jobs.head, (*jobs.workers, submitted)))
    return read_record_file(paths.jobs, JobIds) or JobIds()


def _submitted(executor: SweepExecutor, calls: Sequence[Any]) -> str:
    """Submit calls as one job or one array; returns its id."""
    with outside_of_jobs():
        try:
            if len(calls) == 1:
                jobs = [executor.submit(calls[0])]
            else:
                with executor.batch():
                    jobs = [executor.submit(call) for call in calls]
        except FileNotFoundError:
            raise SlurmError("'sbatch' is not on PATH: run this on a login node of the cluster") from None
        except (utils.FailedJobError, utils.FailedSubmissionError, OSError) as error:
            raise SlurmError(f"sbatch refused the job: {error}") from None
    return str(jobs[0].job_id.split("_")[0])


@contextmanager
def outside_of_jobs() -> Iterator[None]:
    """Hide the variables of the job that we may be in while another one is submitted."""
    saved = dict(os.environ)
    clean = without_job_variables()
    os.environ.clear()
    os.environ.update(clean)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(saved)
