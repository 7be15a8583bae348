"""The ports of Ray's agents on a node, chosen by us and given to the raylet before the agents are up.

A raylet waits for files in which its agents, Python programs of many imports, write their ports, and dies after 15 s (a
constant in Ray 2.60, too short on a busy machine). If the ports are known before, the files can be there at once.
Clients of an agent that is still starting try again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

from srcgcnn.files import write_text

NOT_SERVED = -1  # what an agent writes of a port that it does not open


@dataclass(frozen=True)
class AgentPorts:
    """Where the agents of a node listen: logs for the dashboard, reports, runtime environments."""

    listen: int
    grpc: int
    runtime_env: int

    @property
    def arguments(self) -> list[str]:
        """The flags of `ray start`."""
        return [
            f"--dashboard-agent-listen-port={self.listen}",
            f"--dashboard-agent-grpc-port={self.grpc}",
            f"--runtime-env-agent-port={self.runtime_env}",
        ]

    def tell(self, raylet: psutil.Process) -> bool:
        """Write the files that a raylet waits for; the agents write the same later.

        Returns:
            Whether they are there. A process that has just been started may not have its arguments yet.
        """
        names = {
            "dashboard_agent_listen_port": self.listen,
            "metrics_agent_port": self.grpc,
            "metrics_export_port": NOT_SERVED,
            "runtime_env_agent_port": self.runtime_env,
        }
        try:
            flags = dict(word.split("=", 1) for word in raylet.cmdline() if word.startswith("--") and "=" in word)
            for name, port in names.items():
                path = Path(flags["--session_dir"]) / f"{name}_{flags['--node_id']}"
                write_text(path, str(port), space_patience_s=0.0)
        except (OSError, KeyError, psutil.Error):
            return False
        return True
