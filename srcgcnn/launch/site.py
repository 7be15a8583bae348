"""Site files (`cluster/NAME.toml`): what a place to run on offers. `kind` selects one of three forms."""

from __future__ import annotations

import os
import re
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any, Literal

from srcgcnn.definitions import find_definition
from srcgcnn.launch.slurm_site import SlurmSite
from srcgcnn.records import RecordError, parse, read_toml, record

if TYPE_CHECKING:
    from pathlib import Path


@record
class LocalSite:
    """This machine, without a scheduler.

    Attributes:
        kind: `local`: Ray on this machine.
        cpus: cores that the sweep may use; by default all that this process may use.
        cpus_per_group: cores of one group.
        gpus_per_group: devices of one group; by default one if the machine has any, else none.
        trials_per_group: most trials that train as one stacked model. On a CPU one is fastest.
        max_retries: how often a group that failed starts again from its checkpoint.
        checkpoint_interval_s: time between checkpoints of a group.
        dashboard: start the Ray dashboard, on loopback, behind the sweep's token.
    """

    kind: Literal["local"] = "local"
    cpus: int | None = None
    cpus_per_group: int = 1
    gpus_per_group: float | None = None
    trials_per_group: int = 1
    max_retries: int = 3
    checkpoint_interval_s: float = 30.0
    dashboard: bool = True

    def __post_init__(self) -> None:
        """Refuse numbers that no machine has."""
        for name in ("cpus", "cpus_per_group", "trials_per_group", "checkpoint_interval_s"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name}={value} must be positive")
        if self.max_retries < 0 or (self.gpus_per_group is not None and self.gpus_per_group < 0):
            raise ValueError("max_retries and gpus_per_group must not be negative")
        if self.cpus_per_group > self.usable_cpus:
            raise ValueError(
                f"cpus_per_group={self.cpus_per_group} is more than the {self.usable_cpus} cores of the sweep"
            )

    @property
    def usable_cpus(self) -> int:
        """Cores that the sweep uses."""
        return self.cpus or len(os.sched_getaffinity(0))

    @property
    def workers(self) -> int:
        """Groups that the cores carry at a time; GPUs may allow fewer."""
        return max(1, self.usable_cpus // self.cpus_per_group)


@record
class RaySite:
    """A Ray cluster that runs already, which somebody else started and will end (KubeRay, `ray up`, a hosted one).

    Attributes:
        kind: `ray`: a Ray cluster that runs already.
        address: host:port of its head; `auto` finds the one that this machine is a node of. The driver runs where the
            command is given, so give it on a node of the cluster.
        image: container image in which groups run; "" takes what the nodes have.
        pip: packages that Ray installs for the groups, besides what the nodes have.
        environment: variables that groups get.
        parallel_groups: groups that will train at a time, for estimates and searches; the cluster itself decides.
        cpus_per_group: cores of one group.
        gpus_per_group: devices of one group; 0 trains on the CPU, 0.5 puts two on one.
        trials_per_group: most trials that train as one stacked model.
        max_retries: how often a group that failed starts again; lost nodes are not counted.
        checkpoint_interval_s: time between checkpoints of a group: the most that a lost node costs.
    """

    kind: Literal["ray"] = "ray"
    address: str = "auto"
    image: str = ""
    pip: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    parallel_groups: int = 4
    cpus_per_group: int = 1
    gpus_per_group: float = 0.0
    trials_per_group: int = 1
    max_retries: int = 3
    checkpoint_interval_s: float = 60.0

    def __post_init__(self) -> None:
        """Refuse what no cluster can do, and addresses that would start or hide a driver elsewhere."""
        for name in ("parallel_groups", "cpus_per_group", "trials_per_group", "checkpoint_interval_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive")
        if self.max_retries < 0 or self.gpus_per_group < 0:
            raise ValueError("max_retries and gpus_per_group must not be negative")
        if self.address != "auto" and not re.fullmatch(r"[^/:\s]+:\d+", self.address):
            raise ValueError(
                f"address={self.address!r} must be auto or host:port of the head (6379 by default); for ray:// run "
                "the command on a node of the cluster, as `kubectl exec`, `ray exec` and `ray job submit` do"
            )
        if self.image and self.pip:
            raise ValueError("image and pip exclude each other: Ray runs an image as it is")

    @property
    def workers(self) -> int:
        """Groups that are expected to train at a time."""
        return self.parallel_groups

    @property
    def runtime_env(self) -> dict[str, Any]:
        """The runtime environment that Ray makes for the groups."""
        requested = {"env_vars": self.environment, "pip": list(self.pip), "image_uri": self.image}
        return {name: value for name, value in requested.items() if value}


Site = LocalSite | SlurmSite | RaySite
KINDS: dict[str, type[LocalSite] | type[SlurmSite] | type[RaySite]] = {
    "local": LocalSite,
    "slurm": SlurmSite,
    "ray": RaySite,
}


def site_named(name: str) -> Site:
    """Read the site that `--cluster` names: `cluster/NAME.toml` of the present folder, one that ships, or a file.

    Raises:
        FileNotFoundError: there is none; the known ones are listed.
        RecordError: it is not valid.
    """
    return read_site(find_definition("cluster", name))


def read_site(path: Path) -> Site:
    """Read a site file.

    Raises:
        RecordError: there is no such file (others of its folder are listed), or it is not valid.
    """
    return parse_site(read_toml(path, "site file"), str(path))


def with_environment(site: Site, variables: dict[str, str]) -> Site:
    """Return a site whose jobs get these variables, too; on this machine they are inherited."""
    if isinstance(site, LocalSite) or not variables:
        return site
    return replace(site, environment={**site.environment, **variables})


def as_gang(site: Site) -> SlurmSite:
    """Return a cluster with the head and all workers in one job.

    Raises:
        ValueError: the site is not a cluster, or has several kinds of workers.
    """
    if not isinstance(site, SlurmSite):
        raise ValueError(f"--gang is for SLURM clusters; --cluster names a {site.kind} site")
    return replace(site, gang=True)


def parse_site(data: dict[str, Any], where: str) -> Site:
    """Build the site that `data` describes.

    Raises:
        RecordError: an unknown kind or key, or a value that is out of range.
    """
    kind = data.get("kind", "local")
    if kind not in KINDS:
        raise RecordError(f"{where}: kind={kind!r} is unknown; known kinds: {', '.join(KINDS)}")
    return parse(KINDS[kind], data, where)
