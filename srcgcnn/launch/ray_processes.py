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
        self._untold: set[psutil.Process] = set()

    def dead(self) -> psutil.Process | None:
        """Remember new processes, tell new raylets their ports, and return a known process that has died, or None.

        Call it often while Ray starts: a raylet waits 15 s for its ports. Ray may wait minutes for a dead process.

        Raises:
            psutil.NoSuchProcess: the process above them is gone.
        """
        for process in self._parent.children():
            if process not in self._seen and (name := _name(process)) in NAMES:
                self._seen.add(process)
                if name == RAYLET:
                    self._untold.add(process)
        self._untold = {raylet for raylet in self._untold if not self._ports.tell(raylet)}
        return next((process for process in self._seen if not lives(process)), None)


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""
