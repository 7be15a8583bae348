"""Submission to SLURM through submitit: the sbatch text, SLURM's verdict on it, and the jobs.

Runs on a login node: nothing here imports torch or Ray.
"""

from __future__ import annotations

import os
import shlex
import sys
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import submitit
from submitit.core import utils

from srcgcnn.launch.head import HeadJob
from srcgcnn.launch.queue import SlurmError, cancel, queued, slurm, without_job_variables
from srcgcnn.launch.rendezvous import (
    JobIds,
    LaunchRequest,
    read_record_file,
    write_record_file,
    write_request,
)
from srcgcnn.launch.worker import WorkerJob

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from submitit.core import core

    from srcgcnn.launch.slurm_site import SlurmSite, Value
    from srcgcnn.sweep.paths import RunPaths
    from srcgcnn.sweep.plan import Plan

HEAD_WARNING_S = 120  # the head hears this long before its limit


class SweepExecutor(submitit.SlurmExecutor):
    """submitit's executor with the lines that a site refuses taken out, in arrays too."""

    def __init__(self, folder: Path, site: SlurmSite, parameters: dict[str, Any]) -> None:
        super().__init__(folder=folder, python=shlex.quote(site.python or sys.executable))
        self._site, self._given = site, parameters
        self.update_parameters(**parameters)

    @classmethod
    def affinity(cls) -> int:
        """Allow to render text where there is no SLURM; submission says by itself that sbatch is missing."""
        return 2

    def text(self, tasks: int = 1) -> str:
        """Return what sbatch gets, for one job or an array of `tasks`."""
        if tasks > 1:
            self.parameters["map_count"] = tasks
        return self._make_submission_file_text(self._submitit_command_str, "text")

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        lines = super()._make_submission_file_text(command, uid).splitlines()
        refused = tuple(f"#SBATCH --{name}" for name in self._site.drop)
        kept = [line for line in lines if not line.split("=")[0].rstrip().startswith(refused or ("\0",))]
        return "\n".join(kept) + "\n"

    def _internal_process_submissions(self, delayed_submissions: list[utils.DelayedSubmission]) -> list[core.Job[Any]]:
        """Submit; submitit would make arrays with an executor of its own class, and lose ours."""
        if len(delayed_submissions) == 1:
            return super()._internal_process_submissions(delayed_submissions)
        folder = utils.JobPaths.get_first_id_independent_folder(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        pickles = [folder / f"{uuid.uuid4().hex}.pkl" for _ in delayed_submissions]
        for delayed, pickle in zip(delayed_submissions, pickles, strict=True):
            delayed.set_timeout(self.parameters["time"], self.max_num_timeout)
            delayed.dump(pickle)
        array = SweepExecutor(self.folder, self._site, self._given)
        array.parameters["map_count"] = len(pickles)
        first = array._submit_command(self._submitit_command_str)
        jobs: list[core.Job[Any]] = [
            submitit.SlurmJob(folder=self.folder, job_id=f"{first.job_id}_{task}", tasks=[0])
            for task in range(len(pickles))
        ]
        for job, pickle in zip(jobs, pickles, strict=True):
            job.paths.move_temporary_file(pickle, "submitted_pickle")
        return jobs


def head_executor(site: SlurmSite, paths: RunPaths, name: str) -> SweepExecutor:
    """Return the executor of the head job."""
    request = site.head
    mail: dict[str, Value] = {"mail-user": site.mail_user, "mail-type": "END,FAIL,REQUEUE"} if site.mail_user else {}
    parameters = _parameters(site, request.cpus, request.memory_gb, request.time_min, HEAD_WARNING_S)
    parameters |= _placement(site, request.partition, request.qos, request.constraint)
    options = _options(site, {"requeue": True, **mail}, request.extra)
    parameters |= {"job_name": f"{name}-head", "additional_parameters": options}
    return SweepExecutor(paths.job_logs, site, parameters)


def worker_executor(site: SlurmSite, paths: RunPaths, name: str) -> SweepExecutor:
    """Return the executor of worker jobs."""
    request = site.worker
    parameters = _parameters(site, request.cpus, request.memory_gb, request.time_min, request.leave_before_end_s)
    parameters |= _placement(site, request.partition, request.qos, request.constraint)
    options = _options(site, {"requeue": True, **request.gpu_option}, request.extra)
    parameters |= {"job_name": f"{name}-worker", "additional_parameters": options}
    parameters["array_parallelism"] = request.throttle or request.max_array_size
    if request.exclusive:
        parameters["exclusive"] = True
    return SweepExecutor(paths.job_logs, site, parameters)


def _parameters(site: SlurmSite, cpus: int, memory_gb: float, time_min: int, warning_s: int) -> dict[str, Any]:
    exports = [f"export {name}={shlex.quote(value)}" for name, value in site.environment.items()]
    parameters = {
        "time": time_min,
        "nodes": 1,
        "ntasks_per_node": 1,
        "cpus_per_task": cpus,
        "signal_delay_s": warning_s,
        "setup": [*site.setup, *exports] or None,
        "srun_args": [f"--cpus-per-task={cpus}"],  # since SLURM 22.05 srun does not take it from sbatch
        "stderr_to_stdout": True,
        "wckey": None,  # submitit's default, which sites that track such keys refuse
        "mem": f"{round(memory_gb * 1024)}MB" if memory_gb else None,
    }
    return {name: value for name, value in parameters.items() if value is not None or name == "wckey"}


def _placement(site: SlurmSite, partition: str, qos: str, constraint: str) -> dict[str, Any]:
    wanted = {"account": site.account, "partition": partition, "qos": qos, "constraint": constraint}
    return {name: value for name, value in wanted.items() if value}


def _options(site: SlurmSite, ours: dict[str, Value], own: dict[str, Value]) -> dict[str, Value]:
    """Return further options; `false` takes one out that a more general place set."""
    return {name: value for name, value in {**ours, **site.extra, **own}.items() if value is not False}


def worker_count(site: SlurmSite, groups: int) -> int:
    """Return how many worker jobs are of use for so many groups."""
    return min(site.worker.count, -(-groups // site.groups_per_worker))


def array_sizes(count: int, longest: int) -> list[int]:
    """Split workers into arrays that the site accepts."""
    return [min(longest, count - start) for start in range(0, count, longest)]


def sbatch_texts(site: SlurmSite, paths: RunPaths, plan: Plan) -> dict[str, str]:
    """Return what would be submitted, by a name for people."""
    name = job_name(plan.spec.name)
    texts = {"head": head_executor(site, paths, name).text()}
    sizes = array_sizes(worker_count(site, plan.parallel_groups), site.worker.max_array_size)
    for number, size in enumerate(sizes):
        label = "workers" if len(sizes) == 1 else f"workers, array {number + 1} of {len(sizes)}"
        texts[label] = worker_executor(site, paths, name).text(size)
    return texts


def job_name(sweep: str) -> str:
    """Return the name that jobs of a sweep carry in the queue."""
    return f"srcgcnn-{sweep}"


def verdict(text: str, folder: Path) -> str:
    """Return what `sbatch --test-only` says of a text."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".test-only.{os.getpid()}.sh"
    path.write_text(text, encoding="utf-8")
    try:
        return slurm("sbatch", "--test-only", str(path)).strip()
    except SlurmError as error:
        return f"REFUSED: {error}"
    finally:
        path.unlink()


def submit(plan: Plan, paths: RunPaths, request: LaunchRequest) -> JobIds:
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
    name = job_name(plan.spec.name)
    (head,) = _submitted(head_executor(request.site, paths, name), [HeadJob(str(paths.out.resolve()))])
    jobs = JobIds(head)
    write_record_file(paths.jobs, jobs)
    try:
        return submit_workers(request.site, paths, name, worker_count(request.site, plan.parallel_groups))
    except SlurmError:
        cancel(jobs.all)
        raise


def submit_workers(site: SlurmSite, paths: RunPaths, name: str, count: int) -> JobIds:
    """Submit worker jobs, add their ids to those of the sweep, and return all."""
    for size in array_sizes(count, site.worker.max_array_size):
        (array,) = _submitted(worker_executor(site, paths, name), [WorkerJob(str(paths.out.resolve()))] * size)
        jobs = read_record_file(paths.jobs, JobIds) or JobIds()
        write_record_file(paths.jobs, JobIds(jobs.head, (*jobs.workers, array)))
    return read_record_file(paths.jobs, JobIds) or JobIds()


def _submitted(executor: SweepExecutor, calls: Sequence[Any]) -> set[str]:
    """Submit calls as one job or one array; returns the one id."""
    with _outside_of_jobs():
        try:
            if len(calls) == 1:
                jobs = [executor.submit(calls[0])]
            else:
                with executor.batch():
                    jobs = [executor.submit(call) for call in calls]
        except (utils.FailedJobError, utils.FailedSubmissionError, OSError) as error:
            raise SlurmError(f"sbatch refused the job: {error}") from None
    return {job.job_id.split("_")[0] for job in jobs}


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
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
