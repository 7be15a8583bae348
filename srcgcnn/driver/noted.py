"""The process that runs a sweep: recorded while it runs, so that another command can stop it."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psutil

from srcgcnn.files import write_text
from srcgcnn.processes import find_process, lives, started_s_after_boot
from srcgcnn.records import as_dict, read_if_whole, record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from srcgcnn.run.paths import RunPaths

SILENT_S = 60.0  # a driver writes every few seconds; file systems may show it later
STOP_TIMEOUT_S = 180.0  # groups write checkpoints, and the report of what is finished is written


@record
class DriverNote:
    """A driver: its machine, its process, and when that started, so that no other process is mistaken for it."""

    host: str
    pid: int
    started_s_after_boot: float


@contextmanager
def noted_driver(paths: RunPaths) -> Iterator[None]:
    """Record this process as the driver of a sweep while the block runs."""
    note = DriverNote(socket.gethostname(), os.getpid(), started_s_after_boot(psutil.Process()))
    write_text(paths.driver, json.dumps(as_dict(note)) + "\n")
    try:
        yield
    finally:
        with suppress(OSError):
            paths.driver.unlink()


def stop_driver(paths: RunPaths) -> bool:
    """Stop the driver of a sweep on this machine as Ctrl-C does, and wait for its end; False if none runs.

    Raises:
        RuntimeError: it runs on another machine, belongs to somebody else, or is still there after three minutes.
    """
    note = read_if_whole(DriverNote, paths.driver)
    if note is None:
        return False
    if note.host != socket.gethostname():
        if not paths.progress.exists() or time.time() - paths.progress.stat().st_mtime > SILENT_S:
            return False  # that machine went down
        raise RuntimeError(f"{paths.out} is run by process {note.pid} on {note.host}: run this command there")
    process = find_process(note.pid, note.started_s_after_boot)
    if process is None:
        return False
    try:
        process.terminate()
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        raise RuntimeError(f"process {note.pid} runs {paths.out} and does not belong to you") from None
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while lives(process):
        if time.monotonic() > deadline:
            raise RuntimeError(f"process {note.pid} is still there after {STOP_TIMEOUT_S:.0f} s")
        time.sleep(0.1)
    return True
