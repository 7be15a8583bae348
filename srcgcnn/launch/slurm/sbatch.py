"""The sbatch texts of a sweep's jobs, made by submitit from a site file.

Runs on a login node: nothing here imports torch or Ray.
"""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

import submitit

from srcgcnn.files import make_private
from srcgcnn.launch.batch import WorkerArray

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from srcgcnn.launch.slurm_site import HeadRequest, SlurmSite, Value, WorkerRequest
    from srcgcnn.run.paths import RunPaths

START = "srcgcnn.launch.start"
HEAD_WARNING_S = 120  # the head is warned this long before its limit


class SweepExecutor(submitit.SlurmExecutor):
    """submitit's executor with the lines that a site refuses taken out, in arrays too."""

    def __init__(self, folder: Path, site: SlurmSite, parameters: dict[str, Any]) -> None:
        super().__init__(folder=folder, python=_python(site))
        self._site = site
        self.update_parameters(**parameters)

    @classmethod
    def affinity(cls) -> int:
        """Render texts without SLURM, too; submission itself reports that sbatch is missing."""
        return 2

    def text(self, words: Sequence[str], count: int = 1) -> str:
        """Return what sbatch gets for these words, for one job or an array of `count`."""
        if count > 1:
            self.parameters["map_count"] = count
        return self._make_submission_file_text(self.command(words), "text")

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        lines = super()._make_submission_file_text(command, uid).splitlines()
        refused = {f"#SBATCH --{name}" for name in self._site.drop}
        kept = [line for line in lines if line.split("=")[0].rstrip() not in refused]
        return "\n".join(kept) + "\n"

    def start(self, words: Sequence[str], count: int = 1) -> str:
        """Submit a job, or an array of `count`, that runs these words (see `launch/start.py`); returns its id."""
        make_private(self.folder)
        if count > 1:
            self.parameters["map_count"] = count
        job = self._submit_command(self.command(words))
        job.paths.submission_file.chmod(0o600)  # it contains `environment` of the site
        return str(job.job_id)

    def command(self, words: Sequence[str]) -> str:
        """Return the command line that runs these words."""
        return f"{self.python} -u -m {START} {shlex.join(words)}"


def head_executor(site: SlurmSite, paths: RunPaths, name: str) -> SweepExecutor:
    """Return the executor of the head job, which looks after a head that dies in it."""
    executor = _cpu_executor(site, paths.job_logs, site.head, f"{name}-head")
    after = executor.command(["end-of-head", str(paths.out.absolute())])
    executor.update_parameters(teardown=["status=$?", f"{after} $status", "exit $status"])
    return executor


def build_executor(site: SlurmSite, folder: Path, request: HeadRequest, name: str) -> SweepExecutor:
    """Return the executor of the job that builds a graph store; its files go to `folder`."""
    return _cpu_executor(site, folder, request, f"{name}-build")


def _cpu_executor(site: SlurmSite, folder: Path, request: HeadRequest, job_name: str) -> SweepExecutor:
    mail: dict[str, Value] = {"mail-user": site.mail_user, "mail-type": "END,FAIL,REQUEUE"} if site.mail_user else {}
    parameters = _parameters(site, request.cpus, request.memory_gb, request.time_min, HEAD_WARNING_S)
    parameters |= _placement(site, request.partition, request.qos, request.constraint)
    options = _options(site, {"requeue": True, **mail}, request.extra)
    return SweepExecutor(folder, site, parameters | {"job_name": job_name, "additional_parameters": options})


def worker_executor(site: SlurmSite, paths: RunPaths, name: str, kind: int = 0) -> SweepExecutor:
    """Return the executor of the worker jobs of one kind."""
    request = site.worker_kinds[kind]
    parameters = _worker_parameters(site, request, request.cpus, request.memory_gb)
    parameters |= {"job_name": f"{name}-worker", "array_parallelism": request.throttle or request.max_array_size}
    return SweepExecutor(paths.job_logs, site, parameters)


def gang_executor(site: SlurmSite, paths: RunPaths, name: str, nodes: int) -> SweepExecutor:
    """Return the executor of one job with a worker on each of its nodes, and the head next to the first."""
    request, head = site.worker, site.head
    memory_gb = request.memory_gb + head.memory_gb if request.memory_gb else 0.0
    parameters = _worker_parameters(site, request, request.cpus + head.cpus, memory_gb)
    return SweepExecutor(paths.job_logs, site, parameters | {"job_name": f"{name}-gang", "nodes": nodes})


def _worker_parameters(site: SlurmSite, request: WorkerRequest, cpus: int, memory_gb: float) -> dict[str, Any]:
    parameters = _parameters(site, cpus, memory_gb, request.time_min, request.leave_before_end_s)
    parameters |= _placement(site, request.partition, request.qos, request.constraint)
    parameters["additional_parameters"] = _options(site, {"requeue": True, **request.gpu_option}, request.extra)
    if request.exclusive:
        parameters["exclusive"] = True
    return parameters


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
    options = {"account": site.account, "partition": partition, "qos": qos, "constraint": constraint}
    return {name: value for name, value in options.items() if value}


def _options(site: SlurmSite, ours: dict[str, Value], own: dict[str, Value]) -> dict[str, Value]:
    """Return further options; `false` takes one out that a more general place set."""
    return {name: value for name, value in {**ours, **site.extra, **own}.items() if value is not False}


def _python(site: SlurmSite) -> str:
    """Return the command that starts Python on a node."""
    if not site.container:
        return shlex.quote(site.python or sys.executable)
    # the interpreter that submits is outside of the image
    words = ["apptainer", "exec", *site.container_options, site.container, site.python or "python3"]
    return shlex.join(words)


def worker_arrays(site: SlurmSite, groups: int) -> list[WorkerArray]:
    """Return the arrays that so many groups make use of, none longer than the site allows."""
    return [
        WorkerArray(kind, size)
        for kind, count in enumerate(site.worker_counts(groups))
        for size in _sizes(count, site.worker_kinds[kind].max_array_size)
    ]


def _sizes(count: int, longest: int) -> list[int]:
    return [min(longest, count - start) for start in range(0, count, longest)]


def sbatch_texts(site: SlurmSite, paths: RunPaths, name: str, groups: int) -> dict[str, str]:
    """Return what would be submitted for so many groups, by a human-readable name."""
    if site.gang:
        nodes = site.worker_counts(groups)[0]
        return {f"head and {nodes} workers": gang_executor(site, paths, name, nodes).text(gang_words(paths))}
    texts = {"head": head_executor(site, paths, name).text(head_words(paths))}
    arrays = worker_arrays(site, groups)
    for number, array in enumerate(arrays, start=1):
        label = "workers" if len(arrays) == 1 else f"workers, array {number} of {len(arrays)}"
        executor, words = worker_executor(site, paths, name, array.kind), worker_words(paths, array.kind)
        texts[label] = executor.text(words, array.size)
    return texts


def head_words(paths: RunPaths) -> list[str]:
    """Return what the head job runs."""
    return ["head", str(paths.out.absolute())]


def worker_words(paths: RunPaths, kind: int = 0) -> list[str]:
    """Return what a worker job of one kind runs."""
    return ["worker", str(paths.out.absolute()), str(kind)]


def gang_words(paths: RunPaths) -> list[str]:
    """Return what every task of a job with head and workers runs."""
    return ["gang", str(paths.out.absolute())]
