"""Site files (`cluster/NAME.toml`): what a place to run on offers. `kind` says which of the two forms it has."""

from __future__ import annotations

import os
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from srcgcnn.definitions import find_definition
from srcgcnn.launch.slurm_site import SlurmSite
from srcgcnn.records import RecordError, parse, record


@record
class LocalSite:
    """This machine, without a scheduler.

    Attributes:
        kind: `local`: Ray on this machine.
        cpus: cores that the sweep may use; by default all that this process may use.
        cpus_per_group: cores of one group.
        gpus_per_group: devices of one group; by default one where the machine has any, else none.
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


Site = LocalSite | SlurmSite
KINDS: dict[str, type[LocalSite] | type[SlurmSite]] = {"local": LocalSite, "slurm": SlurmSite}


def site_named(name: str) -> Site:
    """Read the site that `--cluster` names: `cluster/NAME.toml` of the present folder, one that ships, or a file.

    Raises:
        FileNotFoundError: there is none; the known ones are listed.
        RecordError: it is not valid.
    """
    path = find_definition("cluster", name)
    return read_site(path.parent, str(path))


def read_site(folder: Path, name: str) -> Site:
    """Read `folder/name.toml`, or the file itself where `name` is the path of a .toml file.

    Raises:
        RecordError: there is no such file (the known ones are listed), or it is not valid.
    """
    path = Path(name) if name.endswith(".toml") else folder / f"{name}.toml"
    if not path.exists():
        known = ", ".join(sorted(found.stem for found in folder.glob("*.toml"))) or "none"
        raise RecordError(f"--cluster {name}: no file {path}; known: {known}")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise RecordError(f"{path}: not valid TOML: {error}") from None
    return parse_site(data, str(path))


def as_gang(site: Site) -> SlurmSite:
    """Return a cluster with the head and all workers in one job.

    Raises:
        ValueError: the site is no cluster, or has several kinds of workers.
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
