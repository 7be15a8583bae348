"""Ray's own processes on this machine, its control service (GCS) and raylet, while they start and run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from srcgcnn.processes import lives

if TYPE_CHECKING:
    from srcgcnn.launch.agent_ports import AgentPorts

RAYLET = "raylet"
NAMES = ("gcs_server", RAYLET)


class RayProcesses:
    """GCS and raylet below a process, remembered from when they were first seen."""

    def __init__(self, parent: psutil.Process, ports: AgentPorts) -> None:
        self._parent, self._ports = parent, ports
        self._seen: set[psutil.Process] = set()
        self._raylets: set[psutil.Process] = set()
        self._told: set[psutil.Process] = set()

    def look(self) -> None:
        """Remember new processes, and tell new raylets their ports.

        Call it often while Ray starts: a raylet waits 15 s for its ports.

        Raises:
            psutil.NoSuchProcess: the process above them is gone.
        """
        for process in self._parent.children():
            if process not in self._seen and (name := _name(process)) in NAMES:
                self._seen.add(process)
                if name == RAYLET:
                    self._raylets.add(process)
        self._told |= {raylet for raylet in self._raylets - self._told if self._ports.tell(raylet)}

    @property
    def raylet_told(self) -> bool:
        """Whether a raylet has been seen, and all that were seen know their ports."""
        return bool(self._raylets) and self._told == self._raylets

    @property
    def dead(self) -> psutil.Process | None:
        """A known process that has died, or None; Ray itself may wait minutes for it."""
        return next((process for process in self._seen if not lives(process)), None)


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""
