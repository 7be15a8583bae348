"""How a node near its end asks its groups to write a checkpoint and stop.

The job that owns a node sets two variables for all that it starts: a private folder, in which a file called `stop`
means "now", and a deadline, for the case that the job itself hangs. Groups leave a file while they train, so that the
job knows whether anything runs. Without the variables (a sweep on one machine) nothing is ever asked.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

NODE_FOLDER = "SRCGCNN_NODE_FOLDER"
DEADLINE = "SRCGCNN_DEADLINE"
NODE_STORE = "SRCGCNN_NODE_STORE"  # this node's own copy of the graph store
STOP_FILE = "stop"
RUNNING_FOLDER = "running"


class HandedBackError(RuntimeError):
    """A group stopped because its node leaves. Its checkpoint is written; another node goes on."""


def stop_asked() -> bool:
    """Whether groups on this node are to stop."""
    folder, deadline = os.environ.get(NODE_FOLDER), os.environ.get(DEADLINE)
    if deadline and time.time() > float(deadline):
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
    mark.touch()
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)


def running_groups(folder: Path) -> int:
    """Return how many processes train on the node of this folder."""
    marks = (folder / RUNNING_FOLDER).glob("*")
    return sum(psutil.pid_exists(int(mark.name)) for mark in marks)
