"""How the jobs of one sweep find each other: small files on the shared file system, each replaced atomically.

The boot id distinguishes a restarted head from the previous one: after a requeue it may have the same address and port,
and a Ray node that clings to the old cluster would wait a minute before it gives up (measured).
"""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from srcgcnn.files import SPACE_PATIENCE_S, write_private, write_text
from srcgcnn.launch.job_log import say
from srcgcnn.launch.site import parse_site
from srcgcnn.launch.slurm_site import SlurmSite
from srcgcnn.records import RecordError, as_dict, read_if_whole, record
from srcgcnn.run.paths import make_run_folder
from srcgcnn.sweep.record import read_record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from srcgcnn.run.paths import RunPaths
    from srcgcnn.sweep.record import SweepRecord


@record
class HeadAddress:
    """A running head.

    Attributes:
        address: host:port of Ray's global control service.
        boot: random; new at every start of a head.
        job: id of its job.
        host: name of the node.
        dashboard_port: port on the head's loopback, 0 without a dashboard.
        leaves: the head is about to end this cluster: workers save and go.
    """

    address: str
    boot: str
    job: str
    host: str
    dashboard_port: int = 0
    leaves: bool = False


@record
class JobIds:
    """Jobs of a sweep: the head, the ids of the worker arrays, and those of earlier submissions."""

    head: str = ""
    workers: tuple[str, ...] = ()
    earlier: tuple[str, ...] = ()

    def succeeded_by(self, head: str, workers: tuple[str, ...]) -> JobIds:
        """Return the jobs with another head and those workers; the previous ones become earlier ones."""
        past = [job for job in self.all if job not in (head, *workers)]
        return JobIds(head, workers, (*self.earlier, *past))

    @property
    def all(self) -> tuple[str, ...]:
        """Every id."""
        return ((self.head,) if self.head else ()) + self.workers


@record
class SweepEndRecord:
    """The driver ran to its end, or was given up: exit status, the head job it ran in, and why it gave up."""

    status: int
    job: str
    reason: str = ""


@record
class WorkerNote:
    """What a worker job last did: `waiting`, `joined`, `left` or `broken`, and why."""

    job: str
    host: str
    state: str
    reason: str = ""


@dataclass(frozen=True)
class LaunchRequest:
    """What the jobs need to know besides `OUT/sweep.json`; `login_host` is where it was submitted."""

    site: SlurmSite
    tracking_uri: str | None = None
    login_host: str = ""
    budget_gpu_hours: float | None = None


def write_request(paths: RunPaths, request: LaunchRequest) -> None:
    """Write `OUT/launch/request.json` and a copy; others cannot read them: they contain `environment` of the site."""
    make_run_folder(paths)
    for path in (paths.launch_request, paths.launch_request_copy):
        write_private(path, json.dumps(as_dict(request), indent=1) + "\n")


def read_request(paths: RunPaths) -> LaunchRequest:
    """Read `OUT/launch/request.json`, or its copy if that is missing or damaged: no job starts without it.

    Raises:
        RecordError: both are missing or damaged.
    """
    files = [path for path in (paths.launch_request, paths.launch_request_copy) if path.exists()]
    if not files:
        raise RecordError(f"{paths.out} was never on a cluster: run the command of its sweep again to continue")
    for path in files[:-1]:
        with suppress(RecordError):
            return _read_request(path)
    return _read_request(files[-1])


def _read_request(path: Path) -> LaunchRequest:
    where = str(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        site = parse_site(data["site"], where)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{where}: not readable ({error}); submit the sweep again to write it") from None
    if not isinstance(site, SlurmSite):
        raise RecordError(f"{where}: describes a {site.kind} site, not a SLURM cluster")
    return LaunchRequest(site, data.get("tracking_uri"), data.get("login_host", ""), data.get("budget_gpu_hours"))


def restored_record(paths: RunPaths) -> SweepRecord:
    """Read the request that the jobs work on; if it was damaged since, restore it from the copy of the submission.

    Raises:
        RecordError: the copy is missing or damaged as well.
    """
    try:
        return read_record(paths)
    except RecordError as error:
        if not paths.launched_spec.exists():
            raise
        say(f"{error}: taken from {paths.launched_spec}")
        write_text(paths.spec, paths.launched_spec.read_text(encoding="utf-8"))
        return read_record(paths)


def write_record_file(path: Path, record: Any, space_patience_s: float = SPACE_PATIENCE_S) -> None:
    """Write one record as a JSON file; waits while the disk is full."""
    write_text(path, json.dumps(as_dict(record), indent=1) + "\n", space_patience_s)


def read_jobs(paths: RunPaths) -> JobIds:
    """Return the jobs of a sweep; none if it was never on a cluster."""
    return read_if_whole(JobIds, paths.jobs) or JobIds()


@contextmanager
def submission_lock(paths: RunPaths, timeout_s: float) -> Iterator[None]:
    """Be the only process that submits jobs of this sweep, or checks whether a head is needed.

    Raises:
        Timeout: somebody else is.
    """
    make_run_folder(paths)
    with FileLock(paths.submission_lock, timeout=timeout_s, is_singleton=False, mode=0o600):
        yield
