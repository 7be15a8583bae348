"""End what a killed driver leaves behind.

Ray ends its own processes when its driver is killed, but the dashboard and runtime-environment agents of a node survive
(seen with Ray 2.60). A small process watches the driver, remembers its descendants, and ends those that outlive it: by
process id and start time, so never those of others. Ray's folder of that driver goes with them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from srcgcnn.processes import kill, lives

if TYPE_CHECKING:
    from collections.abc import Iterator

POLL_S = 1.0
GRACE_S = 5.0  # Ray's own processes save and leave by themselves
REMOVALS = 8


@contextmanager
def reaping(scratch: Path) -> Iterator[None]:
    """Watch this process from outside while the block runs; `scratch` goes too if this process is killed."""
    watcher = start_watcher(scratch)
    try:
        yield
    finally:
        end_watcher(watcher)


def start_watcher(scratch: Path) -> subprocess.Popen[bytes]:
    """Watch this process from outside: if it is killed, its descendants are ended, and `scratch` is removed."""
    return subprocess.Popen(
        [sys.executable, "-m", "srcgcnn.launch.reaper", str(os.getpid()), str(scratch)],
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the driver
        preexec_fn=_ignore_signals,  # noqa: PLW1509 - it calls signal() only
    )


def _ignore_signals() -> None:
    """Run in the watcher before exec: a batch system sends its signals to every process of a job."""
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def end_watcher(watcher: subprocess.Popen[bytes]) -> None:
    """End the watcher: this process ends by itself, and cleans up."""
    watcher.kill()
    watcher.wait()


def watch(pid: int) -> None:
    """Return when the process is gone, after ending its descendants."""
    family: dict[int, psutil.Process] = {}
    try:
        driver = psutil.Process(pid)
        while lives(driver):
            family |= {child.pid: child for child in driver.children(recursive=True)}
            time.sleep(POLL_S)
    except psutil.NoSuchProcess:
        pass
    rest = [child for child in family.values() if child.pid != os.getpid() and child.is_running()]
    _, alive = psutil.wait_procs(rest, timeout=GRACE_S)
    for child in alive:
        kill(child)


def remove(scratch: Path) -> None:
    """Delete Ray's folder, several times: a worker that was just being started makes it again.

    Such a worker is in no list yet; it is recognised by the folder's random name on its command line.
    """
    for _ in range(REMOVALS):
        for process in psutil.process_iter(["cmdline"]):
            if process.pid != os.getpid() and any(str(scratch) in word for word in process.info["cmdline"] or ()):
                kill(process)
        shutil.rmtree(scratch, ignore_errors=True)
        time.sleep(POLL_S)
    if scratch.parent.name == f"srcgcnn-{os.getuid()}":
        with suppress(OSError):
            scratch.parent.rmdir()  # if it was the last one


if __name__ == "__main__":
    watch(int(sys.argv[1]))
    remove(Path(sys.argv[2]))
