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
from srcgcnn.records import as_dict, read_if_whole, record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from srcgcnn.run.paths import RunPaths

SILENT_S = 60.0  # a driver writes every few seconds; file systems may show it later
SAME_START_S = 0.05  # the kernel counts in hundredths of a second
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
    note = DriverNote(socket.gethostname(), os.getpid(), _started_s_after_boot(psutil.Process()))
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
    try:
        process = psutil.Process(note.pid)
        if abs(_started_s_after_boot(process) - note.started_s_after_boot) > SAME_START_S:
            return False
        process.terminate()
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        raise RuntimeError(f"process {note.pid} runs {paths.out} and does not belong to you") from None
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while _lives(process):
        if time.monotonic() > deadline:
            raise RuntimeError(f"process {note.pid} is still there after {STOP_TIMEOUT_S:.0f} s")
        time.sleep(0.1)
    return True


def _started_s_after_boot(process: psutil.Process) -> float:
    """Return when a process started, on a scale that stays if somebody sets the clock."""
    return process.create_time() - psutil.boot_time()


def _lives(process: psutil.Process) -> bool:
    """Whether a process still runs; a zombie, whose parent has not read its status yet, does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
