"""Submission of a sweep: its head and its workers, by one submitter at a time.

Runs on a login node: nothing here imports torch or Ray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from filelock import Timeout

from srcgcnn.files import write_text
from srcgcnn.launch.batch import BatchError
from srcgcnn.launch.rendezvous import JobIds, read_jobs, submission_lock, write_record_file, write_request
from srcgcnn.run.paths import make_run_folder
from srcgcnn.sweep.record import job_name, write_record

if TYPE_CHECKING:
    from srcgcnn.launch.batch import BatchSystem
    from srcgcnn.launch.rendezvous import LaunchRequest
    from srcgcnn.launch.slurm_site import SlurmSite
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.sweep.plan import Plan
    from srcgcnn.sweep.record import SweepRecord

OTHER_SUBMITTER_S = 60.0


def submit(
    system: BatchSystem, plan: Plan, paths: RunPaths, request: LaunchRequest, record: SweepRecord | None = None
) -> JobIds:
    """Submit the head and its workers, and remember their ids. Workers that outlived their head are kept.

    Raises:
        BatchError: a head of this sweep is still there, or the batch system refuses.
    """
    try:
        with submission_lock(paths, OTHER_SUBMITTER_S):
            return _submit(system, plan, paths, request, record)
    except Timeout:
        raise BatchError(
            f"somebody else is submitting {paths.out} at the moment: see `srcgcnn status {paths.out}`"
        ) from None


def _submit(
    system: BatchSystem, plan: Plan, paths: RunPaths, request: LaunchRequest, record: SweepRecord | None
) -> JobIds:
    known = read_jobs(paths)
    alive = system.jobs(known.all)
    if any(job.belongs_to(known.head) for job in alive):
        ids = ", ".join(job.job_id for job in alive)
        raise BatchError(
            f"{paths.out} has already been submitted (jobs {ids}): see `srcgcnn status {paths.out}`, or end it with "
            f"`srcgcnn cancel {paths.out}`"
        )
    for path in (paths.sweep_end, paths.head_address, paths.backlog, paths.head_deaths):
        path.unlink(missing_ok=True)
    make_run_folder(paths)
    write_request(paths, request)
    if record is not None:
        write_record(paths, record)
    write_text(paths.launched_spec, paths.spec.read_text(encoding="utf-8"))
    site, name, groups = request.site, job_name(plan.spec.name), plan.parallel_groups
    workers = tuple(array for array in known.workers if any(job.belongs_to(array) for job in alive))
    if site.gang:
        jobs = known.succeeded_by(system.submit_gang(site, paths, name, groups), ())
        write_record_file(paths.jobs, jobs)
        return jobs
    jobs = known.succeeded_by(system.submit_head(site, paths, name), workers)
    write_record_file(paths.jobs, jobs)
    if workers:
        return jobs
    try:
        return submit_workers(system, site, paths, name, groups)
    except BatchError:
        system.cancel(read_jobs(paths).all)
        raise


def submit_workers(system: BatchSystem, site: SlurmSite, paths: RunPaths, name: str, groups: int) -> JobIds:
    """Submit the workers that so many groups make use of; adds their ids to those of the sweep, and returns all."""
    for array in system.worker_arrays(site, groups):
        submitted = system.submit_workers(site, paths, name, array)
        jobs = read_jobs(paths)
        write_record_file(paths.jobs, jobs.succeeded_by(jobs.head, (*jobs.workers, submitted)))
    return read_jobs(paths)
