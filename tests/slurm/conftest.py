"""The one-machine SLURM lab as fixtures: a sweep on it, disturbances, and what must be true afterwards."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from srcgcnn.launch.ray_node import ALIVE, private_folder
from srcgcnn.launch.rendezvous import JobIds, SweepEndRecord
from srcgcnn.records import read_if_whole
from srcgcnn.run.folder import open_run
from srcgcnn.run.paths import RunPaths

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "cluster" / "lab"
LAB = Path(os.environ.get("SLURMLAB", "/tmp/slurmlab"))
FLAGS = ("--models", "srcgcnn", "--depths", 2, 3, "--seeds", 2, "--epochs", 240, "--widths", 16)
FLAGS += ("--train-sizes", 96, "--batch-size", 32)

SITE = {
    "kind": "slurm",
    "trials_per_group": 1,
    "checkpoint_interval_s": 1.0,
    "dashboard": False,
    "head": {"cpus": 1, "memory_gb": 1.5, "time_min": 30},
    "worker": {
        "count": 3,
        "gpus": 0,
        "cpus": 1,
        "memory_gb": 1.0,
        "time_min": 20,
        "leave_before_end_s": 30,
        "idle_s": 5,
    },
}


def pytest_collection_modifyitems(items):
    reason = missing_part()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slurm)
            item.add_marker(pytest.mark.timeout(900))
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


def missing_part():
    """Why the tests cannot run here, or nothing."""
    if os.geteuid() != 0:
        return "the SLURM lab needs root (network namespaces)"
    if not (LAB / "run" / "slurmctld.pid").exists():
        return "the SLURM lab is not up: make test-slurm, or cluster/lab/up.sh"
    asked = ask_lab("sinfo", "-h", "-N", "-p", "main", "-o", "%N")
    if asked.returncode:  # the state of a lab that was not brought down, after a reboot
        return f"the SLURM lab does not answer ({asked.stderr.strip()}): make test-slurm, or cluster/lab/up.sh"
    nodes = asked.stdout.split()
    return "" if len(nodes) >= 3 else f"the SLURM lab has {len(nodes)} nodes, 3 are needed: SLURMLAB_NODES=4"


def ask_lab(*command):
    """Run a command on the lab's login host."""
    return subprocess.run(
        [str(TOOLS / "lab"), *map(str, command)], capture_output=True, text=True, timeout=60, check=False
    )


def lab(*command):
    """Run a command on the lab's login host that must succeed; returns its output."""
    done = ask_lab(*command)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def node(action, name):
    subprocess.run([str(TOOLS / "node.sh"), action, name], check=True, timeout=60)


def wait_for(condition, what, seconds=240.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.3)
    raise AssertionError(f"{what}: not after {seconds} s")


def as_toml(values):
    """Write nested dicts as TOML; JSON's scalars and lists are valid TOML."""
    flat = [f"{key} = {json.dumps(value)}" for key, value in values.items() if not isinstance(value, dict)]
    for key, value in values.items():
        if isinstance(value, dict):
            flat += [f"[{key}]", *(f"{name} = {json.dumps(inner)}" for name, inner in value.items())]
    return "\n".join(flat) + "\n"


class LabSweep:
    """A sweep in a folder of the lab's shared file system."""

    def __init__(self, folder, **site):
        self.folder = folder
        self.paths = RunPaths(folder / "runs" / "depth")
        worker = {**SITE["worker"], **site.pop("worker", {})}
        head = {**SITE["head"], **site.pop("head", {})}
        (folder / "site.toml").write_text(as_toml({**SITE, **site, "worker": worker, "head": head}))
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run(self, *command, expect=0, timeout=400):
        done = subprocess.run(
            [str(TOOLS / "lab"), sys.executable, *map(str, command)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == expect, f"{done.stdout[-4000:]}{done.stderr[-3000:]}{self.logs()}"
        return done.stdout

    def submit(self, *flags, expect=0):
        command = (ROOT / "sweeps" / "depth_sweep.py", "--cluster", "site.toml", *FLAGS, *flags)
        return self.run(*command, expect=expect)

    def srcgcnn(self, command, *flags, expect=0):
        return self.run("-m", "srcgcnn", command, self.paths.out, *flags, expect=expect)

    @property
    def jobs(self):
        return read_if_whole(JobIds, self.paths.jobs) or JobIds()

    def task(self, number):
        return f"{self.jobs.workers[0]}_{number}"

    def node_of(self, job):
        return lab("squeue", "-h", "-r", "-j", job, "-o", "%N").strip()

    def wait_until_training(self, groups=3):
        """Return when so many groups have written a checkpoint."""
        wait_for(lambda: len(list(self.paths.checkpoints.glob("*.pt"))) >= groups, "checkpoints")

    def wait_for_end(self, seconds=300.0):
        end = wait_for(lambda: read_if_whole(SweepEndRecord, self.paths.sweep_end), "the end of the sweep", seconds)
        wait_for(lambda: not self.queue(), "an empty queue", 90)
        return end.status

    def kill(self, job):
        """Kill what runs in a job with SIGKILL, as the kernel does where memory is short."""
        (process,) = [each for each in psutil.process_iter() if self._runs_in(each, job)]
        process.kill()

    def _runs_in(self, process, job):
        try:
            ours = process.name().startswith("python") and "srcgcnn.launch.start" in process.cmdline()  # not srun
            return ours and process.environ().get("SLURM_JOB_ID") == job
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            return False

    def queue(self):
        ids = self.jobs.all
        return [line for line in lab("squeue", "-h", "-o", "%A %F %T").splitlines() if set(line.split()[:2]) & set(ids)]

    def numbers(self):
        return {result.key: (result.metrics, result.curves, result.alphas) for result in open_run(self.paths).results}

    def resumes(self):
        return sum(result.cost.resumes for result in open_run(self.paths).results)

    def leftovers(self):
        """Processes of this sweep's jobs that are still there, and temporary folders."""
        found = [process.cmdline() for process in psutil.process_iter() if self._is_ours(process)]
        base = Path("/tmp") / f"srcgcnn-{os.getuid()}"
        return found, [path.name for path in base.glob("*")] if base.exists() else []

    def processes(self, name):
        """Return the processes of our jobs that have this name."""
        named = (process for process in psutil.process_iter(["name"]) if process.info["name"] == name)
        return [process for process in named if self._is_ours(process)]

    def _is_ours(self, process):
        try:
            variables = process.environ()
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            return False
        return variables.get("SLURM_CONF", "").startswith(str(LAB)) and "SLURM_JOB_ID" in variables

    def logs(self):
        files = sorted(self.paths.job_logs.glob("*log.out"))
        return "".join(f"\n==> {path.name}\n{path.read_text()[-2500:]}" for path in files)


@pytest.fixture
def sweep(request):
    """A fresh folder; all jobs are cancelled at the end, and the folder is kept where the test failed."""
    folder = LAB / "shared" / "tests" / request.node.name.replace("/", "_")[:60]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    made = LabSweep(folder, **getattr(request, "param", {}))
    yield made
    for job in made.jobs.all:
        subprocess.run([str(TOOLS / "lab"), "scancel", job], check=False)
    for name in lab("sinfo", "-h", "-N", "-p", "main", "-o", "%N").split():
        node("start", name)
    wait_for(lambda: not made.queue(), "an empty queue", 60)


@pytest.fixture(scope="session")
def calm():
    """The numbers of an undisturbed run of the same sweep, on this machine without SLURM."""
    folder = LAB / "shared" / "tests" / "calm"
    if os.environ.get("SLURMLAB_KEEP_CALM"):  # of the session before, for a lone test on a busy machine
        return _numbers(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "site.toml").write_text("cpus = 2\ndashboard = false\n")
    script = ROOT / "sweeps" / "depth_sweep.py"
    subprocess.run(
        [sys.executable, str(script), "--cluster", "site.toml", *map(str, FLAGS)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=900,
        capture_output=True,
    )
    return _numbers(folder)


def _numbers(folder):
    results = open_run(folder / "runs" / "depth").results
    return {result.key: (result.metrics, result.curves, result.alphas) for result in results}


def clean_as_the_next_job():
    """Do what the next job on a node does: nobody could clean up on a node without power."""
    base = Path("/tmp") / f"srcgcnn-{os.getuid()}"
    for mark in base.glob(f"*/{ALIVE}"):
        os.utime(mark, (0, 0))
    private_folder("/tmp", "next").rmdir()


@pytest.fixture
def whole(calm):
    """Assert that a sweep ended well: all trials once, the numbers of an undisturbed run, nothing left behind."""

    def check(sweep, status=0, lost_power=False, trials=None):
        assert sweep.wait_for_end() == status, sweep.logs()
        numbers = sweep.numbers()
        assert len(numbers) == (trials or len(calm))
        assert {key: numbers[key] for key in calm} == calm
        if lost_power:
            clean_as_the_next_job()
        assert wait_for(lambda: sweep.leftovers() == ([], []), f"leftovers {sweep.leftovers()}", 30)
        assert list(sweep.paths.checkpoints.glob("*.pt")) == []

    return check
