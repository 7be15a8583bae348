"""What runs in the jobs of a sweep: a head, a worker, or both in every task of a gang.

`python -m srcgcnn.launch.slurm.calls OUT` is a head next to the workers of a gang.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from srcgcnn.exit_status import DONE, TERMINATED
from srcgcnn.launch.deaths import note_death
from srcgcnn.launch.head import Head
from srcgcnn.launch.head_watch import HeadWatch
from srcgcnn.launch.job_log import say
from srcgcnn.launch.rendezvous import read_request
from srcgcnn.launch.slurm.job import SlurmAllocation
from srcgcnn.launch.slurm.system import Slurm
from srcgcnn.launch.worker import Worker
from srcgcnn.run.paths import RunPaths
from srcgcnn.terminal import outlive_full_disk


class HeadJob:
    """What runs in the head job."""

    def __init__(self, out: str) -> None:
        self.out = out

    def __call__(self) -> int:
        """Run the sweep to its end; leaves by `sys.exit` if SLURM is to start the job again, or trials failed."""
        outlive_full_disk()
        if status := _head(self.out).run():
            sys.exit(status)
        return 0


class EndOfHeadJob:
    """What runs in the head job after the head, whatever ended it."""

    def __init__(self, out: str, status: int) -> None:
        self.out, self.status = out, status

    def __call__(self) -> str:
        """Submit another head if this one died."""
        outlive_full_disk()
        if self.status in (DONE, TERMINATED):
            return "nothing to do"
        paths = RunPaths(Path(self.out))
        HeadWatch(paths, system(), read_request(paths).site).died(SlurmAllocation().id, self.status)
        return "looked after"


class WorkerJob:
    """What runs in a worker job."""

    def __init__(self, out: str, kind: int = 0) -> None:
        self.out, self.kind = out, kind

    def __call__(self) -> str:
        """Work until nothing is left; returns why it left, or exits if SLURM is to start the job again."""
        outlive_full_disk()
        return Worker(RunPaths(Path(self.out)), system(), SlurmAllocation(), self.kind).run()


class GangJob:
    """Head and workers in one job, for sites that want that: a worker on every node, the head next to the first.

    All of it starts together and is requeued together; a lost node stops everything until SLURM starts the job again.
    """

    def __init__(self, out: str) -> None:
        self.out = out

    def __call__(self) -> str:
        """Work; the first task also keeps the head, and leaves with its status."""
        if os.environ.get("SLURM_PROCID", "0") != "0":
            return self._work()
        keeper = _HeadKeeper(self.out)
        keeper.start()
        try:
            left = self._work()
        finally:
            keeper.join()  # it ends with the sweep, with the time of the job, or by the same SIGTERM
        if keeper.status:
            sys.exit(keeper.status)
        return left

    def _work(self) -> str:
        return WorkerJob(self.out)()


class _HeadKeeper(threading.Thread):
    """Runs the head of a gang; one that is killed is started again, as SLURM starts a head job again."""

    def __init__(self, out: str) -> None:
        super().__init__(name="head")
        self._out, self.status = out, 0

    def run(self) -> None:
        paths = RunPaths(Path(self._out))
        while True:
            self.status = subprocess.Popen([sys.executable, "-m", __name__, self._out]).wait()
            if self.status == -signal.SIGTERM:  # before it listened
                self.status = TERMINATED
            if self.status in (DONE, TERMINATED) or paths.sweep_end.exists():
                return
            say(f"the head died of signal {-self.status}" if self.status < 0 else f"the head ended: {self.status}")
            paths.head_address.unlink(missing_ok=True)
            if note_death(paths, f"the head of the gang ended with status {self.status}"):
                return


def system() -> Slurm:
    """Return SLURM."""
    return Slurm()


def _head(out: str) -> Head:
    return Head(RunPaths(Path(out)), system(), SlurmAllocation())


if __name__ == "__main__":
    raise SystemExit(_head(sys.argv[1]).run())
