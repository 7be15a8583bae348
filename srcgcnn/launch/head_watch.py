"""Who notices that a head is gone for good, and submits another.

A batch system does not start a job again that died by itself (killed, out of memory). What is left of the head's job
acts at once. If nothing is left, the workers do: they try the head's port, which costs nothing, and only if it stays
silent does one of them, under a lock, ask the batch system.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from filelock import Timeout

from srcgcnn.launch.batch import BatchError
from srcgcnn.launch.deaths import next_is_too_many, note_death
from srcgcnn.launch.job_log import say
from srcgcnn.launch.rendezvous import (
    HeadAddress,
    read_jobs,
    restored_record,
    submission_lock,
    write_record_file,
)
from srcgcnn.records import RecordError, read_if_whole
from srcgcnn.sweep.record import job_name

if TYPE_CHECKING:
    from srcgcnn.launch.batch import BatchSystem
    from srcgcnn.launch.rendezvous import JobIds
    from srcgcnn.launch.slurm_site import SlurmSite
    from srcgcnn.run.paths import RunPaths

SILENT_S = 20.0  # a head may be busy, or just be replaced
ASK_INTERVAL_S = 30.0  # of all workers together
ANSWER_TIMEOUT_S = 3.0
CAUSE = "killed, or out of memory: see its log"
SIGNALLED = 128  # a shell reports a death by signal N as 128 + N
LOCK_S = 60.0  # for a worker that is just submitting a head


def answers(address: str) -> bool:
    """Whether a process listens at host:port."""
    try:
        host, port = address.rsplit(":", 1)
        socket.create_connection((host, int(port)), timeout=ANSWER_TIMEOUT_S).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True


class HeadWatch:
    """What a worker, or what is left of the head's own job, sees of the head."""

    def __init__(self, paths: RunPaths, system: BatchSystem, site: SlurmSite) -> None:
        self._paths, self._system, self._site = paths, system, site
        self._silent_since: float | None = None

    def heard(self) -> None:
        """Record that the head answers."""
        self._silent_since = None

    def missed(self) -> None:
        """Record that there is no head, or that it does not answer; after a while, ask and act."""
        now = time.monotonic()
        self._silent_since = now if self._silent_since is None else self._silent_since
        if now - self._silent_since < SILENT_S:
            return
        self._silent_since = now
        self._ask()

    def leaving(self) -> None:
        """Replace the head if it died unnoticed: a worker that leaves because nothing waits may be the last one."""
        self._ask()

    def died(self, job: str, status: int) -> None:
        """Replace the head whose job this is: its process is gone, and nothing has ended the sweep."""
        cause = CAUSE if status > SIGNALLED else f"it ended with status {status}: see its log"
        try:
            with submission_lock(self._paths, LOCK_S):
                jobs = read_jobs(self._paths)
                if jobs.head in ("", job) and not self._paths.sweep_end.exists():
                    self._replace(jobs, f"in its job {job} ({cause})")
        except (Timeout, BatchError, RecordError, OSError) as error:
            say(f"the head died, and was not replaced here: {error}")

    def _ask(self) -> None:
        if self._site.gang:  # it keeps its head itself
            return
        try:
            with submission_lock(self._paths, timeout_s=0):
                self._replace_if_gone()
        except Timeout:
            return
        except (BatchError, RecordError, OSError) as error:
            say(f"the head does not answer, and was not replaced: {error}")

    def _replace_if_gone(self) -> None:
        mark = self._paths.head_missed
        if mark.exists() and abs(time.time() - mark.stat().st_mtime) < ASK_INTERVAL_S:  # clocks of nodes may differ
            return
        mark.touch()
        jobs, known = read_jobs(self._paths), read_if_whole(HeadAddress, self._paths.head_address)
        head = jobs.head or (known.job if known else "")
        there = self._system.jobs((head,)) if head else []
        if self._paths.sweep_end.exists() or not all(job.stuck for job in there):
            return  # over, or in the queue: perhaps it starts again
        self._system.cancel(tuple(job.job_id for job in there))
        self._replace(jobs, f"its job {head or '(unknown)'} is gone from the queue ({CAUSE})")

    def _replace(self, jobs: JobIds, why: str) -> None:
        self._paths.head_address.unlink(missing_ok=True)
        if next_is_too_many(self._paths):
            note_death(self._paths, why)
            say("the head died too often without a single new result: the sweep ends")
            return
        name = job_name(restored_record(self._paths).spec.name)
        submitted = self._system.submit_head(self._site, self._paths, name)
        write_record_file(self._paths.jobs, jobs.succeeded_by(submitted, jobs.workers))
        note_death(self._paths, why)  # after the submission: if that fails, it is tried again for the same death
        say(f"the head was gone ({why}): submitted job {submitted}")
