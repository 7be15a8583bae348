"""How a node near its end asks its groups to write a checkpoint and stop.

The job that owns a node sets two variables for all that it starts: a private folder, in which a file called `stop`
means "now", and a deadline, in case the job itself hangs. Groups leave a file while they train, so that the
job knows whether anything runs. Without the variables (a sweep on one machine) no group is ever asked to stop.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from srcgcnn.processes import find_process, started_s_after_boot

if TYPE_CHECKING:
    from collections.abc import Iterator

NODE_FOLDER = "SRCGCNN_NODE_FOLDER"
DEADLINE = (
    "SRCGCNN_DEADLINE"  # by the monotonic clock, the same for all processes of a machine: other clocks may be set
)
NODE_STORE = "SRCGCNN_NODE_STORE"  # this node's own copy of the graph store
STOP_FILE = "stop"
RUNNING_FOLDER = "running"
FULL_FILE = "full"
ALLOCATION_S = "SRCGCNN_ALLOCATION_S"


class HandedBackError(RuntimeError):
    """A group stopped because its node leaves. Its checkpoint is written; another node continues."""


def stop_requested() -> bool:
    """Whether groups on this node should stop."""
    folder, deadline = os.environ.get(NODE_FOLDER), os.environ.get(DEADLINE)
    if deadline and time.monotonic() > float(deadline):
        return True
    return folder is not None and (Path(folder) / STOP_FILE).exists()


@contextmanager
def counted_as_running() -> Iterator[None]:
    """Let the owner of the node see that this process trains."""
    folder = os.environ.get(NODE_FOLDER)
    if folder is None:
        yield
        return
    mark = Path(folder) / RUNNING_FOLDER / str(os.getpid())
    mark.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):  # no space: the empty file tells enough
        mark.write_text(f"{started_s_after_boot(psutil.Process())}")
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)


def running_groups(folder: Path) -> int:
    """Return how many processes train on the node of this folder."""
    return sum(map(_trains, (folder / RUNNING_FOLDER).glob("*")))


def _trains(mark: Path) -> bool:
    pid = int(mark.name)
    try:
        return find_process(pid, float(mark.read_text())) is not None
    except FileNotFoundError:
        return False
    except ValueError:  # it is being written
        return psutil.pid_exists(pid)


def fits_time_left(expected_s: float | None) -> bool:
    """Whether a group should start on this node, by the time that it is expected to take, None if unknown.

    A group that does not fit would be handed back at the deadline and cost a start on both sides. A group longer than a
    whole job is interrupted in any case, so it starts while more than half of the job's time is left.
    """
    deadline, allocation = os.environ.get(DEADLINE), os.environ.get(ALLOCATION_S)
    if expected_s is None or not deadline or not allocation:
        return True
    left = float(deadline) - time.monotonic()
    return expected_s <= left or left > 0.5 * float(allocation)


def take_no_more() -> None:
    """Tell the owner of the node that no waiting group fits; it leaves when nothing runs here any more."""
    folder = os.environ.get(NODE_FOLDER)
    if folder is not None:
        (Path(folder) / FULL_FILE).touch()


def too_full_for_more(folder: Path) -> bool:
    """Whether a group found too little time on the node of this folder."""
    return (folder / FULL_FILE).exists()
