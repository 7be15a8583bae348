"""`srcgcnn ui` as a person starts it: the address that it prints, and an orderly end."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from web import wait_for

import srcgcnn

ROOT = Path(srcgcnn.__file__).parents[1]
START_S = 90


@dataclass(frozen=True)
class OpenPage:
    """A running page: the address with its key and without what a browser adds, the process, and its output."""

    url: str
    pid: int
    log: Path

    @property
    def origin(self):
        """The address without the key: what everybody on the machine finds out."""
        return self.url.rpartition("/")[0]

    @property
    def key(self):
        """What others must not find out."""
        return self.url.rpartition("/")[2]


@contextmanager
def open_page(paths, log, *options, umask=0o022):
    """Start the page of a sweep; Ctrl-C at the end, which must be no error."""
    if not paths.spec.exists():
        paths.spec.write_text("{}")  # the command only asks whether there is a sweep
    command = [sys.executable, "-m", "srcgcnn", "ui", paths.out, *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=stream, start_new_session=True, env=environment, umask=umask
        )
    try:
        yield OpenPage(printed_address(log, process), process.pid, log)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        status = process.wait(30)
    assert status == 0


def printed_address(log, process):
    """Return the address once it answers, without the slash at its end."""
    end = time.monotonic() + START_S
    while not (found := re.search(r"MLflow: (http://[^/\s]+/[^/\s]+)/", log.read_text())):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)
    wait_for(f"{found[1]}/health", process)
    return found[1]
