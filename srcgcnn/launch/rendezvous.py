"""How the jobs of one sweep find each other: small files on the shared file system, each replaced as a whole.

The boot id tells a head that came back from the one before it: after a requeue it may have the same address and port,
and a Ray node that clings to the old cluster would wait a minute before it gives up (measured).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from srcgcnn.files import SPACE_PATIENCE_S, write_text
from srcgcnn.launch.site import parse_site
from srcgcnn.launch.slurm_site import SlurmSite
from srcgcnn.records import RecordError, as_dict, parse, record

if TYPE_CHECKING:
    from pathlib import Path

    from srcgcnn.run.paths import RunPaths

Record = TypeVar("Record")


@record
class HeadAddress:
    """A running head.

    Attributes:
        address: host:port of Ray's global control service.
        boot: random; new at every start of a head.
        job: SLURM's job id.
        host: name of the node.
        dashboard_port: port on the head's loopback, 0 without a dashboard.
    """

    address: str
    boot: str
    job: str
    host: str
    dashboard_port: int = 0


@record
class JobIds:
    """Jobs of a sweep: the head, and the ids of the worker arrays."""

    head: str = ""
    workers: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Every id."""
        return ((self.head,) if self.head else ()) + self.workers


@record
class Backlog:
    """Groups that wait for a worker, and groups that train."""

    waiting: int
    running: int


@record
class SweepEndRecord:
    """The driver ran to its end: its exit status, and the head job it ran in."""

    status: int
    job: str


@record
class WorkerNote:
    """What a worker job last did: `waiting`, `joined`, `left` or `broken`, and why."""

    job: str
    host: str
    state: str
    reason: str = ""


@dataclass(frozen=True)
class LaunchRequest:
    """What the jobs need to know beside `OUT/sweep.json`; `login_host` is where it was submitted."""

    site: SlurmSite
    tracking_uri: str | None = None
    login_host: str = ""


def write_request(paths: RunPaths, request: LaunchRequest) -> None:
    """Write `OUT/launch/request.json`."""
    write_record_file(paths.launch_request, request)


def read_request(paths: RunPaths) -> LaunchRequest:
    """Read `OUT/launch/request.json`.

    Raises:
        RecordError: it is missing or damaged.
    """
    where = str(paths.launch_request)
    if not paths.launch_request.exists():
        raise RecordError(f"{paths.out} was never on a cluster: give the command of its sweep again, it goes on")
    try:
        data = json.loads(paths.launch_request.read_text(encoding="utf-8"))
        site = parse_site(data["site"], where)
    except (OSError, KeyError, json.JSONDecodeError) as error:
        raise RecordError(f"{where}: not readable ({error}); submit the sweep again to write it") from None
    if not isinstance(site, SlurmSite):
        raise RecordError(f"{where}: describes a {site.kind} site, not a SLURM cluster")
    return LaunchRequest(site, data.get("tracking_uri"), data.get("login_host", ""))


def write_record_file(path: Path, record: Any, space_patience_s: float = SPACE_PATIENCE_S) -> None:
    """Write one record as a JSON file; waits while the disk is full."""
    write_text(path, json.dumps(as_dict(record), indent=1) + "\n", space_patience_s)


def read_record_file(path: Path, kind: type[Record]) -> Record | None:
    """Read one record; None where the file is not there, or cannot be read for the moment."""
    try:
        return parse(kind, json.loads(path.read_text(encoding="utf-8")), str(path))
    except (OSError, json.JSONDecodeError):
        return None
