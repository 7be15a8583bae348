"""End what a killed driver leaves behind.

Ray ends its own processes when its driver is killed, but the dashboard and runtime-environment agents of a node survive
(seen with Ray 2.60). A small process watches the driver, remembers its descendants, and ends those that outlive it: by
process id and start time, so never anybody else's.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

POLL_S = 1.0
GRACE_S = 5.0  # Ray's own processes save and leave by themselves


@contextmanager
def reaping() -> Iterator[None]:
    """Watch this process from outside while the block runs."""
    watcher = subprocess.Popen(
        [sys.executable, "-m", "srcgcnn.launch.reaper", str(psutil.Process().pid)],
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the driver
    )
    try:
        yield
    finally:
        watcher.terminate()
        watcher.wait()


def watch(pid: int) -> None:
    """Return when the process is gone, after ending its descendants."""
    family: dict[int, psutil.Process] = {}
    try:
        driver = psutil.Process(pid)
        while driver.is_running() and driver.status() != psutil.STATUS_ZOMBIE:
            family |= {child.pid: child for child in driver.children(recursive=True)}
            time.sleep(POLL_S)
    except psutil.NoSuchProcess:
        pass
    own = psutil.Process().pid
    rest = [child for child in family.values() if child.pid != own and child.is_running()]
    _, alive = psutil.wait_procs(rest, timeout=GRACE_S)
    for child in alive:
        try:
            child.kill()  # psutil compares the start time first
        except psutil.NoSuchProcess:
            continue


if __name__ == "__main__":
    watch(int(sys.argv[1]))
