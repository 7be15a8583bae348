"""The world of the SLURM lab (`cluster/lab`): four nodes on one machine, as root. Nobody is ever there to help."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from srcgcnn.run.paths import RunPaths
from tests.chaos import faults
from tests.chaos.checker import observe
from tests.chaos.faults import NothingThereError, one_of
from tests.chaos.local import FILES, FLAGS, RARE_FILES, ROOT, damage_choices
from tests.chaos.processes import MARK, marked, role
from tests.chaos.schedule import Choice
from tests.chaos.world import FaultyWorld, wait_while

if TYPE_CHECKING:
    from tests.chaos.checker import Observation
    from tests.chaos.schedule import Fault, Schedule
    from tests.chaos.world import Done

TOOLS = ROOT / "cluster" / "lab"
LAB = Path(os.environ.get("SLURMLAB", "/tmp/slurmlab"))
NAMESPACE = os.environ.get("SLURMLAB_NS", "slurmlab")
NET = os.environ.get("SLURMLAB_NET", "10.77.0")
TEMP = Path("/tmp") / f"srcgcnn-{os.getuid()}"
NOWHERE = "02:00:00:00:00:01"  # the hardware address of no node
ASK_S = 2.0
ABANDONED_S = 60.0  # no job and no end for so long: a person would have to submit again
SITE = """\
kind = "slurm"
trials_per_group = 1
checkpoint_interval_s = 1.0
dashboard = false
max_retries = 1000
replacements = 1000
setup = [{setup}]
[environment]
{mark_name} = "{mark}"
[head]
cpus = 1
memory_gb = 1.5
time_min = 60
[worker]
count = 3
cpus = 1
memory_gb = 1.0
time_min = 40
leave_before_end_s = 30
gpus = 0
idle_s = 20
"""

LAUNCH_FILES = (("head_address", 2), ("backlog", 1), ("worker_note", 1), ("jobs", 1), ("request", 1))
PROCESSES = (
    ("trainer", 6),
    ("driver", 3),
    ("writer", 2),
    ("head", 3),
    ("head_raylet", 1),
    ("head_gcs", 1),
    ("worker", 3),
    ("worker_raylet", 2),
    ("reaper", 1),
    ("other", 2),
)
FREEZABLE = (("trainer", 2), ("driver", 1), ("head", 1), ("worker", 1), ("head_gcs", 1), ("worker_raylet", 1))
NODES = (("head_node", 1), ("worker_node", 2))


def menu() -> list[Choice]:
    """Return what can go wrong on a cluster."""
    return [
        *(Choice("kill", name, weight) for name, weight in PROCESSES),
        *(Choice("freeze", name, weight) for name, weight in FREEZABLE),
        *(Choice(kind, name, weight) for kind in ("power_cut", "node_down", "clock") for name, weight in NODES),
        Choice("partition", "worker", 3),
        *(Choice("partition", name, weight) for name, weight in NODES),
        Choice("cancel", "worker", 3),
        Choice("cancel", "workers", 1),
        Choice("requeue", "worker", 3),
        Choice("requeue", "head", 2),
        Choice("controller", "slurmctld", 2),
        Choice("lock", "database", 3),
        Choice("full_disk", "out", 2),
        *damage_choices(FILES + RARE_FILES + LAUNCH_FILES),
    ]


def lab(*command: str) -> str:
    """Run a command on the lab's login host; "" where it fails: SLURM may be away."""
    try:
        done = subprocess.run([str(TOOLS / "lab"), *command], capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout if done.returncode == 0 else ""


def must(*command: str) -> None:
    """Run a command of this machine that has to succeed for the fault to be one."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise NothingThereError(f"{command}: {done.stderr.strip()}")


class LabWorld(FaultyWorld):
    """One sweep on the lab, in a folder of its shared file system."""

    name = "lab"

    def __init__(self, folder: Path, schedule: Schedule, flags: tuple[str, ...] = FLAGS) -> None:
        self._kept, self._flags = folder, flags
        self._folder = LAB / "shared" / "chaos" / folder.name
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        folder.mkdir(parents=True)
        self.paths = RunPaths(self._folder / "runs" / "depth")
        self._mark = f"{os.getpid()}.{time.monotonic_ns()}"
        self._kinds = {fault.kind for fault in schedule.faults}
        self._nodes = lab("sinfo", "-h", "-N", "-p", "main", "-o", "%N").split()
        self._networks = {Path(f"/var/run/netns/{NAMESPACE}-{name}").stat().st_ino: name for name in self._nodes}
        self._hands: list[str] = []
        self._status: int | None = None
        self._jobs: set[str] = set()
        self._asked, self._queue, self._quiet_since = 0.0, ["unknown"], time.monotonic()
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def start(self) -> None:
        """Submit the sweep."""
        setup = ""
        library = faults.build_clock(self._folder) if "clock" in self._kinds else None
        if library is not None:
            for name in self._nodes:
                faults.set_clock(self._folder / f"clock.{name}", 0.0)
            setup = json.dumps(f"export CHAOS_CLOCK={self._folder}/clock.$(hostname) LD_PRELOAD={library}")
        (self._folder / "site.toml").write_text(SITE.format(setup=setup, mark_name=MARK, mark=self._mark))
        shutil.copytree(self._kept / "stores", self._folder / "stores")
        if "full_disk" in self._kinds:
            faults.small_disk(self.paths.out)
        self._command(str(ROOT / "sweeps" / "depth_sweep.py"), "--cluster", "site.toml", *self._flags)

    def _command(self, *words: str) -> None:
        done = subprocess.run(
            [str(TOOLS / "lab"), sys.executable, *words],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        with (self._folder / "command.log").open("a") as log:
            log.write(f"\n==> {time.strftime('%T')} {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")

    def tend(self) -> bool:
        """Look at the queue now and then. Returns whether the sweep is over."""
        if self._status is not None or time.monotonic() - self._asked < ASK_S:
            return self._status is not None
        self._asked = time.monotonic()
        self._remember_jobs()
        listing = lab("squeue", "-h", "-r", "-o", "%i %F %T")
        if not listing and not lab("sinfo", "-h"):
            return False  # SLURM is away
        self._queue = [line for line in listing.splitlines() if line.split()[1] in self._jobs]
        if self._queue:
            self._quiet_since = time.monotonic()
            return False
        with suppress(OSError, ValueError, KeyError, TypeError):
            self._status = json.loads(self.paths.sweep_end.read_text())["status"]
            return True
        if time.monotonic() - self._quiet_since > ABANDONED_S:
            self._hands.append("no job is left, and no end")
            if len(self._hands) > 2:
                self._status = -1
                return True
            self._quiet_since = time.monotonic()
            self._command("-m", "srcgcnn", "resume", str(self.paths.out))
        return False

    def _remember_jobs(self) -> None:
        jobs = self._read_jobs()
        self._jobs |= {job for job in (jobs.get("head"), *jobs.get("workers", ())) if job}

    def _read_jobs(self) -> dict:
        with suppress(OSError, ValueError):
            found = json.loads(self.paths.jobs.read_text())
            if isinstance(found, dict):
                self._last_jobs = found
        return getattr(self, "_last_jobs", {})

    def inject(self, fault: Fault) -> Done:
        """Do a fault; returns what was done, and what ends it.

        Raises:
            NothingThereError: its target does not exist now.
        """
        self._remember_jobs()
        return super().inject(fault)

    def _roles(self) -> list[tuple[str, psutil.Process]]:
        """Return our processes with what they do; those of the head's job are called so."""
        head, found = self._read_jobs().get("head"), []
        for process in marked(self._mark):
            with suppress(psutil.Error, OSError):
                of_head, what = process.environ().get("SLURM_JOB_ID") == head, role(process)
                where = "head" if of_head else "worker"
                name = where if what == "job" else f"{where}_{what}" if what in ("raylet", "gcs") else what
                found.append((name, process))
        return found

    def _processes(self, name: str) -> list[psutil.Process]:
        return [process for what, process in self._roles() if what == name]

    def _node_of(self, process: psutil.Process) -> str:
        return self._networks.get(Path(f"/proc/{process.pid}/ns/net").stat().st_ino, "")

    def _nodes_with(self, name: str) -> list[str]:
        """Return the nodes on which a role is, the head's job's or a worker's."""
        found = set()
        for what, process in self._roles():
            with suppress(OSError):
                if what == name:
                    found.add(self._node_of(process))
        return sorted(found - {""})

    def _node(self, fault: Fault) -> str:
        heads = self._nodes_with("head")
        if fault.target == "head_node":
            return one_of(heads, fault.pick)
        return one_of([name for name in self._nodes_with("worker") if name not in heads], fault.pick)

    def _power_cut(self, fault: Fault) -> Done:
        name = self._node(fault)
        folders = []
        for process in marked(self._mark):
            with suppress(psutil.Error, OSError):
                if self._node_of(process) == name:
                    job = process.environ().get("SLURM_JOB_ID", "none")
                    folders += [*TEMP.glob(f"h{job}.*"), *TEMP.glob(f"w{job}.*")]
        must(str(TOOLS / "node.sh"), "crash", name)
        for path in set(folders):
            shutil.rmtree(path, ignore_errors=True)
        return name, lambda: must(str(TOOLS / "node.sh"), "start", name)

    def _node_down(self, fault: Fault) -> Done:
        name = self._node(fault)
        lab("scontrol", "update", f"nodename={name}", "state=down", "reason=chaos")
        return name, lambda: self._resume_node(name)

    @staticmethod
    def _resume_node(name: str) -> None:
        lab("scontrol", "update", f"nodename={name}", "state=resume")

    def _partition(self, fault: Fault) -> Done:
        """Lose all packets between a worker's node and the head's, or between one node and everybody."""
        if fault.target != "worker":
            name = self._node(fault)
            link = ("ip", "-n", f"{NAMESPACE}-ctl", "link", "set", f"v{name.removeprefix('n')}")
            must(*link, "down")
            return name, lambda: must(*link, "up")
        head = one_of(self._nodes_with("head"), 0)
        worker = one_of([name for name in self._nodes_with("worker") if name != head], fault.pick)
        ways = [(worker, head), (head, worker)]

        def neighbour(action: str, here: str, there: str, *more: str) -> None:
            address = f"{NET}.{10 + int(there.removeprefix('n'))}"
            must("ip", "-n", f"{NAMESPACE}-{here}", "neigh", action, address, *more, "dev", "eth0")

        for here, there in ways:
            neighbour("replace", here, there, "lladdr", NOWHERE, "nud", "permanent")

        def join() -> None:
            for here, there in ways:
                with suppress(NothingThereError):
                    neighbour("del", here, there)

        return f"{worker} and {head}", join

    def _cancel(self, fault: Fault) -> Done:
        arrays = list(self._read_jobs().get("workers", ()))
        lines = [line for line in self._queue if line != "unknown" and line.split()[1] in arrays]
        running = [line.split()[0] for line in lines if line.split()[2] == "RUNNING"]
        chosen = running if fault.target == "workers" else [one_of(running, fault.pick)]
        if not chosen:
            raise NothingThereError
        lab("scancel", *chosen)
        return " ".join(chosen), None

    def _requeue(self, fault: Fault) -> Done:
        jobs = self._read_jobs()
        ids = [jobs.get("head")] if fault.target == "head" else jobs.get("workers", ())
        lines = [line.split() for line in self._queue if line != "unknown"]
        job = one_of([line[0] for line in lines if line[1] in ids and line[2] == "RUNNING"], fault.pick)
        lab("scontrol", "requeue", job)
        return job, None

    def _controller(self, _fault: Fault) -> Done:
        pid_file = LAB / "run" / "slurmctld.pid"
        try:
            os.kill(int(pid_file.read_text()), 9)
        except (OSError, ValueError):
            raise NothingThereError from None
        return "slurmctld", start_controller

    def _clock(self, fault: Fault) -> Done:
        name = self._node(fault)
        clock = self._folder / f"clock.{name}"
        if not clock.exists():
            raise NothingThereError
        faults.set_clock(clock, fault.lasts_s)
        return f"{name} {fault.lasts_s:+g} s", None

    def settle(self) -> None:
        """Bring the cluster back, and wait for what may still be leaving."""
        start_controller()
        for name in self._nodes:
            must(str(TOOLS / "node.sh"), "start", name)
        wait_while(lambda: marked(self._mark) or self._jobs_left() or any(TEMP.glob("*")), 90)

    def _jobs_left(self) -> list[str]:
        return [
            line for line in lab("squeue", "-h", "-r", "-o", "%i %F %T").splitlines() if line.split()[1] in self._jobs
        ]

    def observe(self) -> Observation:
        """Look at what the sweep left."""
        return observe(
            self.paths,
            mark=self._mark,
            temp=TEMP,
            jobs=self._jobs_left(),
            hands=self._hands,
            status=self._status,
        )

    def close(self) -> None:
        """End everything, repair the cluster, and keep the folder."""
        start_controller()
        for job in sorted(self._jobs):
            lab("scancel", job)
        for name in self._nodes:
            with suppress(NothingThereError):
                must(str(TOOLS / "node.sh"), "start", name)
            if lab("sinfo", "-h", "-n", name, "-o", "%t").startswith(("down", "drain")):
                self._resume_node(name)
        wait_while(self._jobs_left, 60)
        faults.kill(marked(self._mark))
        faults.leave_small_disk(self.paths.out)
        shutil.rmtree(TEMP, ignore_errors=True)
        shutil.copytree(self._folder, self._kept, dirs_exist_ok=True, ignore=shutil.ignore_patterns("stores"))
        shutil.rmtree(self._folder, ignore_errors=True)


def start_controller() -> None:
    """Start slurmctld as `up.sh` does, where it is not there."""
    pid_file, conf = LAB / "run" / "slurmctld.pid", LAB / "etc" / "slurm.conf"
    with suppress(OSError, ValueError, psutil.Error):
        if psutil.Process(int(pid_file.read_text())).name() == "slurmctld":
            return
    script = f"hostname ctl; exec slurmctld -i -f {conf}"
    command = ["ip", "netns", "exec", f"{NAMESPACE}-ctl", "unshare", "--uts", "bash", "-c", script]
    subprocess.run(command, env={**os.environ, "SLURM_CONF": str(conf)}, stdin=subprocess.DEVNULL, check=False)
    wait_while(lambda: not lab("sinfo", "-h"), 30, 0.5)
