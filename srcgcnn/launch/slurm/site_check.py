"""`srcgcnn cluster check NAME`: does this site file work here? To be run before anything is charged.

On the login node: commands, SLURM's verdict on every job, and what the shared folder can do. With `--on-node` also what
nodes see: a job of a minute as the head asks for it, and one of every kind of worker. They have to find the folder, the
lock that is held here, free ports, their devices, and the Python of the head.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from srcgcnn.files import write_text
from srcgcnn.launch.batch import Finding
from srcgcnn.launch.ray_node import RayNodeError, free_ports, node_address, private_folder, remove_private_folder
from srcgcnn.launch.slurm.job import SlurmAllocation
from srcgcnn.launch.slurm.one_job import PendingJob, submit_call, wait_for_answer
from srcgcnn.launch.slurm.queue import SlurmError
from srcgcnn.launch.slurm.sbatch import head_executor, sbatch_texts, worker_executor
from srcgcnn.launch.slurm_site import SlurmSite
from srcgcnn.launch.worker import DEVICES
from srcgcnn.records import record
from srcgcnn.run.paths import RunPaths, make_run_folder
from srcgcnn.terminal import make_console

if TYPE_CHECKING:
    from collections.abc import Callable

    from srcgcnn.launch.batch import BatchSystem
    from srcgcnn.launch.slurm.sbatch import SweepExecutor

PACKAGES = ("srcgcnn", "ray", "torch", "numpy", "submitit")
NODE_TIMEOUT_S = 600.0
MINUTES = 5
HELD = "held"
PYTHON = "Python"


def check_site(system: BatchSystem, site: SlurmSite, folder: Path, *, on_node: bool) -> list[Finding]:
    """Try a site from here, with files in `folder`."""
    paths = RunPaths(folder / f".srcgcnn-check-{secrets.token_hex(4)}")
    make_run_folder(paths)
    try:
        findings = [_commands(), *_verdicts(system, site, paths), _rename(paths), _lock(paths), _mode(paths)]
        if on_node:
            findings += _on_node(site, paths)
        return findings
    finally:
        shutil.rmtree(paths.out, ignore_errors=True)


def _commands() -> Finding:
    missing = [name for name in ("sbatch", "squeue", "scancel", "scontrol") if shutil.which(name) is None]
    detail = f"not on PATH: {', '.join(missing)}; run this on a login node" if missing else "all found"
    return Finding("SLURM commands", not missing, detail)


def _verdicts(system: BatchSystem, site: SlurmSite, paths: RunPaths) -> list[Finding]:
    most_groups = site.workers * 1000  # so many that every kind of worker is requested
    texts = sbatch_texts(site, paths, "check", most_groups)
    verdicts = {name: system.verdict(text, paths.launch) for name, text in texts.items()}
    return [Finding(f"SLURM on the {name}", taken, text) for name, (taken, text) in verdicts.items()]


def _rename(paths: RunPaths) -> Finding:
    """Writers replace files atomically: rename over an existing name must work."""
    path = paths.launch / "rename"
    write_text(path, "old")
    write_text(path, "new")
    good = path.read_text(encoding="utf-8") == "new"
    return Finding(
        "replacing a file", good, str(paths.out.parent) if good else "rename does not replace; use another --out"
    )


def _lock(paths: RunPaths) -> Finding:
    """One driver at a time is ensured by a lock. One by marker files would outlive a driver that is killed."""
    path = paths.launch / "lock"
    advice = "this file system has no locks (mount option?); use another folder for --out"
    try:
        with FileLock(path, timeout=0, is_singleton=False, fallback_to_soft=False):
            try:
                FileLock(path, timeout=0, is_singleton=False, fallback_to_soft=False).acquire()
            except Timeout:
                return Finding("locks", True, "held against a second taker")
    except (OSError, NotImplementedError) as error:
        return Finding("locks", False, f"{advice} ({error})")
    return Finding("locks", False, advice)


def _mode(paths: RunPaths) -> Finding:
    path = paths.launch / "mode"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    mode = path.stat().st_mode & 0o777
    detail = "0600 is kept" if mode == 0o600 else f"a file made 0600 is {mode:04o}: others could read the token"
    return Finding("private files", mode == 0o600, detail)


@record
class NodeProbe:
    """The checks of a node; returns what was found, or `FAILED: ...`, by what was tried."""

    folder: str
    site: SlurmSite
    wants_devices: bool

    def __call__(self) -> dict[str, str]:
        """Try folder, lock, ports, temporary folder, address and devices here."""
        probes: dict[str, Callable[[], str]] = {
            "shared folder on the node": lambda: _see(Path(self.folder)),
            "locks between two nodes": lambda: _refused(Path(self.folder) / HELD),
            "address": lambda: node_address(self.site.interface),
            "ports": lambda: str(free_ports(3, self.site.port_range)),
            "temporary folder": lambda: _private(self.site.temp_folder),
            PYTHON: lambda: repr(environment()),
            "host": socket.gethostname,
        }
        if self.wants_devices:
            probes["devices"] = lambda: _devices(self.site.group_gpus)
        return {name: _tried(probe) for name, probe in probes.items()}


def _refused(path: Path) -> str:
    """Try to take the lock that the login node holds."""
    holder, here = path.with_suffix(".holder").read_text(encoding="utf-8"), socket.gethostname()
    if holder == here:
        return f"not tried: this job runs on {holder}, where the check runs"
    try:
        with FileLock(path, timeout=0, is_singleton=False, fallback_to_soft=False):
            raise OSError(f"{holder} holds a lock that {here} was also given; use another folder for --out")
    except Timeout:
        return f"held by {holder}, refused on {here}"


def _devices(group_gpus: float) -> str:
    found = SlurmAllocation().devices
    if found.count < group_gpus:
        raise OSError(f"SLURM gave {found.count} ({found.evidence}), a group needs {group_gpus:g}: see gpu_form")
    code = DEVICES.format(count=found.count)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return f"{found.count} ({found.evidence}), and torch finds them"


def _see(folder: Path) -> str:
    write_text(folder / "from-node", "here")
    return (folder / "from-login").read_text(encoding="utf-8")


def _private(temp_folder: str) -> str:
    folder = private_folder(temp_folder, f"c{SlurmAllocation().id}")
    remove_private_folder(folder)
    return str(folder)


def _tried(probe: Callable[[], str]) -> str:
    try:
        return probe()
    except (RayNodeError, OSError) as error:
        return f"FAILED: {error}"


def environment() -> dict[str, str]:
    """Return the versions that must agree between login node and nodes."""
    return {"python": sys.version.split()[0], **{name: _version(name) for name in PACKAGES}}


def _version(name: str) -> str:
    if name == "srcgcnn":
        from srcgcnn.version import __version__

        return __version__
    return version(name)


def _on_node(site: SlurmSite, paths: RunPaths) -> list[Finding]:
    """Run a probe as the head, and one as every kind of worker; SLURM may refuse some of them."""
    mark, held = secrets.token_hex(8), paths.launch / HELD
    write_text(paths.launch / "from-login", mark)
    write_text(held.with_suffix(".holder"), socket.gethostname())
    executors = {"head": head_executor(site, paths, "check")}
    for kind in range(len(site.worker_kinds)):
        name = "worker" if len(site.worker_kinds) == 1 else f"worker of kind {kind + 1}"
        executors[name] = worker_executor(site, paths, "check", kind)
    with ExitStack() as stack:
        with suppress(Timeout, OSError, NotImplementedError):  # reported by `_lock` already
            stack.enter_context(FileLock(held, timeout=0, is_singleton=False, fallback_to_soft=False))
        return _probe(site, paths, executors, mark)


def _probe(site: SlurmSite, paths: RunPaths, executors: dict[str, SweepExecutor], mark: str) -> list[Finding]:
    findings: list[Finding] = []
    jobs: dict[str, PendingJob] = {}
    for name, executor in executors.items():
        executor.update_parameters(time=min(MINUTES, int(executor.parameters["time"])))
        probe = NodeProbe(str(paths.launch.resolve()), site, wants_devices=name != "head" and site.group_gpus > 0)
        try:
            jobs[name] = submit_call(executor, probe, make_console())
        except SlurmError as error:
            findings.append(Finding(f"{name}: a job on a node", False, str(error)))
    expected = {"shared folder on the node": (mark, "this folder has"), PYTHON: (repr(environment()), "here it is")}
    for name, job in jobs.items():
        try:
            answer = wait_for_answer(job, NODE_TIMEOUT_S)
        except SlurmError as error:
            findings.append(Finding(f"{name}: a job on a node", False, str(error)))
            continue
        findings += [_judged(name, what, text, *expected.get(what, (text, ""))) for what, text in answer.items()]
        if name == "head":
            expected[PYTHON] = (answer[PYTHON], "on the head's node it is")
    return findings


def _judged(name: str, what: str, text: str, expected: str, where: str) -> Finding:
    good = text == expected and not text.startswith("FAILED")
    return Finding(f"{name}: {what}", good, text if text == expected else f"{text}, but {where} {expected}")
