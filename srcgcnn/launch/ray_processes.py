"""Ray's own processes, its control service (GCS) and raylet: Ray itself may wait for minutes for one that is dead."""

from __future__ import annotations

import psutil

NAMES = ("gcs_server", "raylet")


class RayProcesses:
    """GCS and raylet below a process, remembered from when they were first seen."""

    def __init__(self, parent: psutil.Process) -> None:
        self._parent = parent
        self._seen: set[psutil.Process] = set()

    def dead(self) -> psutil.Process | None:
        """Look once more; returns one that was there and is gone."""
        for child in self._parent.children():
            try:
                if child.name() in NAMES:
                    self._seen.add(child)
            except psutil.NoSuchProcess:
                continue
        return next((process for process in self._seen if not _lives(process)), None)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
