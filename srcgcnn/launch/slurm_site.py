"""A SLURM cluster as a site file describes it. Every key becomes a line of the sbatch text or a rule of the jobs."""

from __future__ import annotations

import re
from dataclasses import field
from typing import Literal

from srcgcnn.records import record

GpuForm = Literal["gres", "gpus-per-node", "gpus-per-task", "gpus"]
Value = str | int | bool


@record
class HeadRequest:
    """The small job that runs Ray's head and the driver; it trains nothing. Also the job that builds a graph store.

    Attributes:
        partition: partitions, separated by commas; "" takes the site's default.
        qos: quality of service; "" takes the user's default.
        constraint: features that the node must have, as sbatch's --constraint; "" takes any node.
        cpus: cores.
        memory_gb: memory.
        time_min: time limit. The head is put back in the queue before it ends and continues from the result files.
        extra: further sbatch options of this job, by their long names.
    """

    partition: str = ""
    qos: str = ""
    constraint: str = ""
    cpus: int = 2
    memory_gb: float = 6.0
    time_min: int = 1440
    extra: dict[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse requests that no cluster grants."""
        _check_positive(self, ("cpus", "memory_gb", "time_min"))


@record
class WorkerRequest:
    """One job of the array of workers, and how many.

    Attributes:
        partition: partitions, separated by commas; "" takes the site's default.
        qos: quality of service; "" takes the user's default.
        constraint: features that the node must have, as sbatch's --constraint; "" takes any node.
        count: jobs to submit; the sweep uses those that have started.
        throttle: most jobs of one array that run at a time; by default all.
        max_array_size: longest array of the site (`scontrol show config | grep MaxArraySize`); more become several.
        gpus: devices of one worker; 0 trains on the CPU.
        gpu_form: how devices are requested on this site: --gres=gpu:N, --gpus-per-node=N, --gpus-per-task=N, --gpus=N.
        gpu_type: the type in that request, as in --gres=gpu:a100:1; "" takes any.
        cpus: cores of one worker.
        memory_gb: memory; 0 leaves the line out (whole nodes, or memory that follows from the devices).
        time_min: time limit. Short jobs start sooner; a worker is put back in the queue while work is left.
        exclusive: ask for whole nodes.
        leave_before_end_s: the worker hands its groups back this long before its limit; also the lead of the warning
            signal.
        idle_s: a worker ends when nothing has waited for it for this long.
        extra: further sbatch options of these jobs, by their long names.
    """

    partition: str = ""
    qos: str = ""
    constraint: str = ""
    count: int = 4
    throttle: int | None = None
    max_array_size: int = 1000
    gpus: int = 1
    gpu_form: GpuForm = "gres"
    gpu_type: str = ""
    cpus: int = 4
    memory_gb: float = 16.0
    time_min: int = 240
    exclusive: bool = False
    leave_before_end_s: int = 120
    idle_s: float = 60.0
    extra: dict[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse requests that no cluster grants."""
        _check_positive(self, ("count", "max_array_size", "cpus", "time_min", "leave_before_end_s", "idle_s"))
        if self.throttle is not None and self.throttle <= 0:
            raise ValueError(f"throttle={self.throttle} must be positive; leave it out for no limit")
        if self.gpus < 0 or self.memory_gb < 0:
            raise ValueError("gpus and memory_gb must not be negative")
        if self.leave_before_end_s >= 60 * self.time_min:
            raise ValueError(f"leave_before_end_s={self.leave_before_end_s} leaves no time out of {self.time_min} min")

    @property
    def gpu_option(self) -> dict[str, str]:
        """The sbatch option that asks for devices."""
        if not self.gpus:
            return {}
        amount = f"{self.gpu_type}:{self.gpus}" if self.gpu_type else str(self.gpus)
        return {self.gpu_form: f"gpu:{amount}" if self.gpu_form == "gres" else amount}


@record
class SlurmSite:
    """A SLURM cluster.

    Attributes:
        kind: `slurm`: a cluster.
        account: project to charge; "" takes the user's default.
        head: the job of Ray's head and the driver.
        worker: the jobs that train.
        more_workers: further kinds of them (other partitions and types of GPU), used when the first are not enough:
            tables `[[more_workers]]` with the keys of `[worker]`.
        gang: one job of `worker.count` nodes holds head and workers, for sites that want that; all start together, and
            continue together.
        build: the job that builds the graph store, a table with the keys of `[head]`; without it the store is built
            where the sweep is submitted.
        max_jobs: most jobs that one user may have in the queue (QOS MaxSubmitJobsPerUser), the head counted; by default
            any number.
        setup: shell lines before Python starts (`module load ...`, `source .../activate`).
        environment: variables that the jobs get besides those of the login shell.
        drop: sbatch options that the site refuses, by their long names (`wckey`, `mem`, ...).
        extra: further sbatch options of all jobs, by their long names.
        python: interpreter on the nodes; "" takes the one that submits, or `python3` of the container.
        container: apptainer image in which Python runs; "" takes none.
        container_options: options of `apptainer exec` (`--nv` gives GPUs, `--bind` folders).
        temp_folder: node-local folder for sockets and logs of Ray. Short: a socket's path has at most 107 bytes.
        scratch: node-local folder (`$TMPDIR`, `/scratch/$USER`) to which each node copies the graph store once; ""
            reads it from the shared file system.
        interface: network interface that nodes reach each other by; "" takes the address of the host name.
        port_range: first and last port that the head may listen on.
        mail_user: who gets SLURM's mail on the head's end or failure; "" sends none.
        replacements: how often the head submits a new array when all its workers are gone and work is left; then
            the sweep stops.
        cpus_per_group: cores of one group.
        gpus_per_group: devices of one group; by default one if workers have any, else none; 0.5
            puts two on one.
        trials_per_group: most trials that train as one stacked model.
        max_retries: how often a group that failed starts again; lost nodes and preemptions are not counted.
        checkpoint_interval_s: time between checkpoints of a group: the most that a lost node costs.
        dashboard: start the Ray dashboard, on the head's loopback, behind the sweep's token.
    """

    kind: Literal["slurm"] = "slurm"
    account: str = ""
    head: HeadRequest = field(default_factory=HeadRequest)
    worker: WorkerRequest = field(default_factory=WorkerRequest)
    more_workers: tuple[WorkerRequest, ...] = ()
    gang: bool = False
    build: HeadRequest | None = None
    max_jobs: int | None = None
    setup: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    extra: dict[str, Value] = field(default_factory=dict)
    python: str = ""
    container: str = ""
    container_options: tuple[str, ...] = ("--nv",)
    temp_folder: str = "/tmp"  # noqa: S108 - a private folder is made in it
    scratch: str = ""
    interface: str = ""
    port_range: tuple[int, int] = (20000, 29999)
    mail_user: str = ""
    replacements: int = 10
    cpus_per_group: int = 1
    gpus_per_group: float | None = None
    trials_per_group: int = 8
    max_retries: int = 3
    checkpoint_interval_s: float = 60.0
    dashboard: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        _check_positive(self, ("cpus_per_group", "trials_per_group", "checkpoint_interval_s"))
        for worker in self.worker_kinds:
            if self.cpus_per_group > worker.cpus:
                raise ValueError(f"cpus_per_group={self.cpus_per_group} do not fit worker.cpus={worker.cpus}")
            if self.group_gpus > worker.gpus:
                raise ValueError(f"gpus_per_group={self.group_gpus} do not fit worker.gpus={worker.gpus}")
        if self.gang and self.more_workers:
            raise ValueError("gang = true is one allocation of one kind of node: take more_workers out")
        if self.max_jobs is not None and self.max_jobs < 2:
            raise ValueError(f"max_jobs={self.max_jobs}: a sweep needs a head and a worker; gang = true makes one job")
        low, high = self.port_range
        if not 1024 <= low <= high - 10 <= 65525:
            raise ValueError(f"port_range={list(self.port_range)} must span at least 10 ports between 1024 and 65535")
        for extra in (self.extra, self.head.extra, *(kind.extra for kind in self.worker_kinds)):
            _check_options(extra)
        for name in self.environment:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"environment: {name!r} is not the name of a variable")

    @property
    def worker_kinds(self) -> tuple[WorkerRequest, ...]:
        """All kinds of workers, in the order in which they are used."""
        return (self.worker, *self.more_workers)

    @property
    def group_gpus(self) -> float:
        """Devices of one group."""
        if self.gpus_per_group is None:
            return 1.0 if self.worker.gpus else 0.0
        return self.gpus_per_group

    def groups_on(self, worker: WorkerRequest) -> int:
        """Return how many groups one worker of a kind trains side by side."""
        by_cpus = worker.cpus // self.cpus_per_group
        by_gpus = int(worker.gpus / self.group_gpus) if self.group_gpus else by_cpus
        return max(1, min(by_cpus, by_gpus))

    @property
    def workers(self) -> int:
        """Groups that train at a time once all worker jobs run."""
        return sum(self.groups_on(kind) * min(kind.count, kind.throttle or kind.count) for kind in self.worker_kinds)

    def worker_counts(self, groups: int) -> list[int]:
        """Return how many worker jobs of each kind are of use for so many groups."""
        counts, jobs = [], sum(kind.count for kind in self.worker_kinds) if self.max_jobs is None else self.max_jobs - 1
        for kind in self.worker_kinds:
            count = min(kind.count, jobs, -(-groups // self.groups_on(kind)))
            counts.append(count)
            jobs, groups = jobs - count, max(0, groups - count * self.groups_on(kind))
        return counts


def _check_positive(record: object, names: tuple[str, ...]) -> None:
    for name in names:
        if getattr(record, name) <= 0:
            raise ValueError(f"{name}={getattr(record, name)} must be positive")


def _check_options(extra: dict[str, Value]) -> None:
    """Refuse what would become another line of the sbatch text."""
    for name, value in extra.items():
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
            raise ValueError(f"extra: {name!r} is not the long name of an sbatch option")
        if isinstance(value, str) and not value.isprintable():
            raise ValueError(f"extra.{name} has a line break or another control character: {value!r}")
