"""Head and workers in one job, for sites that want it: a worker on every node, the head beside the first.

All of it starts together and is requeued together; a lost node stops everything until SLURM starts the job again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from srcgcnn.launch.worker import Worker
from srcgcnn.run.paths import RunPaths

HEAD = "srcgcnn.launch.head"


class GangJob:
    """What submitit calls in every task of the job."""

    def __init__(self, out: str) -> None:
        self.out = out

    def __call__(self) -> str:
        """Work; the first task also runs the head, and leaves with its status."""
        if os.environ.get("SLURM_PROCID", "0") != "0":
            return self._work()
        head = subprocess.Popen([sys.executable, "-m", HEAD, self.out])
        try:
            left = self._work()
        finally:
            status = head.wait()  # it ends with the sweep, with the time of the job, or by the same SIGTERM
        if status:
            sys.exit(status)
        return left

    def _work(self) -> str:
        return Worker(RunPaths(Path(self.out))).run()
