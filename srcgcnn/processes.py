"""Processes by number and start: numbers are used again, the clock may be set, and a zombie is dead."""

from __future__ import annotations

from contextlib import suppress

import psutil

SAME_START_S = 0.05  # the kernel counts in hundredths of a second


def started_s_after_boot(process: psutil.Process) -> float:
    """Return when a process started, on a scale that stays if somebody sets the clock.

    Raises:
        psutil.NoSuchProcess: it is gone.
    """
    return process.create_time() - psutil.boot_time()


def find_process(pid: int, start_s_after_boot: float) -> psutil.Process | None:
    """Return the process of this number that started then; None if it has ended, or is a zombie."""
    try:
        process = psutil.Process(pid)
        same = abs(started_s_after_boot(process) - start_s_after_boot) <= SAME_START_S
    except psutil.NoSuchProcess:
        return None
    return process if same and lives(process) else None


def lives(process: psutil.Process) -> bool:
    """Whether a process still runs. A zombie, whose parent has not read its status yet, does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill(process: psutil.Process) -> None:
    """Kill a process; one that is gone, or belongs to somebody else, is left alone."""
    with suppress(psutil.Error):
        process.kill()  # psutil compares the start first
