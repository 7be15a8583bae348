"""The world of one machine: `depth_sweep.py` on a Ray of its own, started again by a person where it was killed."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from srcgcnn.run.paths import RunPaths
from tests.chaos import faults
from tests.chaos.checker import observe
from tests.chaos.faults import NothingThereError, one_of
from tests.chaos.processes import MARK, marked, role
from tests.chaos.schedule import Choice
from tests.chaos.world import FaultyWorld, wait_while

if TYPE_CHECKING:
    import psutil

    from tests.chaos.checker import Observation
    from tests.chaos.schedule import Fault, Schedule
    from tests.chaos.world import Done

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ("--models", "srcgcnn", "--depths", "2", "3", "--seeds", "3", "--epochs", "100", "--widths", "16")
FLAGS += ("--train-sizes", "96", "--batch-size", "32")  # small: what is tried is what happens around the training
SITE = "cpus = 2\ndashboard = false\ncheckpoint_interval_s = 0.5\nmax_retries = 1000\n"
SHORTEST_TEMP = "/tmp"  # a socket's path has 107 bytes
MOST_HANDS = 6

FILES = (("result", 3), ("checkpoint", 3), ("group", 1), ("spec", 1), ("progress", 1), ("database", 1), ("token", 1))
RARE_FILES = (("driver_lock", 1), ("prediction", 1), ("model", 1), ("log", 1))
PROCESSES = (("trainer", 8), ("driver", 3), ("writer", 2), ("raylet", 1), ("gcs", 1), ("reaper", 1), ("other", 2))


def damage_choices(files: tuple[tuple[str, int], ...]) -> list[Choice]:
    """Return what can be done to files."""
    return [Choice(kind, name, weight) for name, weight in files for kind in ("remove", "truncate", "garble")]


def menu() -> list[Choice]:
    """Return what can go wrong on one machine; it does not depend on what this one has, so schedules are portable."""
    return [
        *(Choice("kill", name, weight) for name, weight in PROCESSES),
        *(
            Choice("freeze", name, weight)
            for name, weight in (("trainer", 3), ("driver", 2), ("raylet", 1), ("gcs", 1))
        ),
        Choice("power_cut", "machine", 2),
        Choice("lock", "database", 4),
        Choice("full_disk", "out", 3),
        Choice("clock", "machine", 3),
        *damage_choices(FILES + RARE_FILES),
    ]


class LocalWorld(FaultyWorld):
    """One sweep on this machine, in a folder of its own."""

    name = "local"

    def __init__(self, folder: Path, schedule: Schedule, flags: tuple[str, ...] = FLAGS) -> None:
        self.paths, self._folder, self._flags = RunPaths(folder / "runs" / "depth"), folder, flags
        self._mark = f"{os.getpid()}.{time.monotonic_ns()}"
        self._temp = Path(tempfile.mkdtemp(prefix="chaos", dir=SHORTEST_TEMP))
        self._kinds = {fault.kind for fault in schedule.faults}
        self._hands: list[str] = []
        self._allowed, self._status = 0, None
        self._driver: subprocess.Popen[bytes] | None = None
        self._environment = {**os.environ, MARK: self._mark, "TMPDIR": str(self._temp), "OMP_NUM_THREADS": "1"}
        # PyTorch's cache of machine code, which it keeps on purpose
        cache = f"{tempfile.gettempdir()}/torchinductor_{getpass.getuser()}"
        self._environment.setdefault("TORCHINDUCTOR_CACHE_DIR", cache)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "site.toml").write_text(SITE)

    def start(self) -> None:
        """Give the command."""
        if "full_disk" in self._kinds and not self.paths.out.exists() and os.geteuid() == 0:
            faults.small_disk(self.paths.out)
        if "clock" in self._kinds:
            self._prepare_clock()
        self._give_command()

    def _prepare_clock(self) -> None:
        library, clock = faults.build_clock(self._folder), self._folder / "clock"
        if library is not None:
            faults.set_clock(clock, 0.0)
            self._environment |= {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(clock)}

    def _give_command(self) -> None:
        command = [sys.executable, str(ROOT / "sweeps" / "depth_sweep.py"), "--cluster", "site.toml", *self._flags]
        with (self._folder / "command.log").open("ab") as log:
            log.write(f"\n==> {time.strftime('%T')}\n".encode())
            self._driver = subprocess.Popen(
                command, cwd=self._folder, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )

    def tend(self) -> bool:
        """Be the person at the terminal: give the command again where it was killed. Returns whether it is over."""
        status = self._driver.poll() if self._driver else None
        if status is None or self._status is not None:
            return self._status is not None
        if status == 0:
            self._status = 0
        elif self._allowed:
            self._allowed = 0
            self._give_command()
        else:
            lines = [line for line in (self._folder / "command.log").read_text(errors="replace").splitlines() if line]
            self._hands.append(f"status {status}: {lines[-1][:200] if lines else ''}")
            if len(self._hands) < MOST_HANDS:
                self._give_command()
            else:
                self._status = status
        return self._status is not None

    def _processes(self, name: str) -> list[psutil.Process]:
        return [process for process in marked(self._mark) if role(process) == name]

    def _kill(self, fault: Fault) -> Done:
        process = one_of(self._processes(fault.target), fault.pick)
        faults.kill([process])
        self._allowed |= process.pid == self._driver.pid  # the command itself; it starts its driver again by itself
        return f"process {process.pid}", None

    def _power_cut(self, _fault: Fault) -> Done:
        processes = marked(self._mark)
        if not processes:
            raise NothingThereError
        faults.kill(processes)
        for path in self._temp.iterdir():
            shutil.rmtree(path, ignore_errors=True)
        self._allowed = 1
        return f"{len(processes)} processes", None

    def _clock(self, fault: Fault) -> Done:
        clock = self._folder / "clock"
        if not clock.exists():
            raise NothingThereError
        faults.set_clock(clock, fault.lasts_s)
        return f"{fault.lasts_s:+g} s", None

    def settle(self) -> None:
        """Wait for what may still be leaving."""
        wait_while(lambda: marked(self._mark) or any(self._temp.iterdir()), 60)

    def observe(self) -> Observation:
        """Look at what the sweep left."""
        return observe(self.paths, mark=self._mark, temp=self._temp, hands=self._hands, status=self._status)

    def close(self) -> None:
        """End everything, and give up what was mounted."""
        faults.kill(marked(self._mark))
        if self._driver is not None:
            self._driver.wait()
        faults.leave_small_disk(self.paths.out)
        shutil.rmtree(self._temp, ignore_errors=True)
