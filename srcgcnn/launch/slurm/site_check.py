"""`srcgcnn cluster check NAME`: does this site file work here? Asked before anything is paid for.

On the login node: commands, SLURM's verdict on both jobs, and what the shared folder can do. With `--on-node` also the
same Python, the same folder and free ports on a node, by one job of a minute.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from srcgcnn.files import write_text
from srcgcnn.launch.ray_node import RayNodeError, free_ports, node_address, private_folder
from srcgcnn.launch.slurm.job import job_id
from srcgcnn.launch.slurm.one_job import run_in_job
from srcgcnn.launch.slurm.queue import SlurmError
from srcgcnn.launch.slurm.sbatch import head_executor, sbatch_texts
from srcgcnn.launch.slurm.submit import verdict
from srcgcnn.run.paths import RunPaths
from srcgcnn.terminal import make_console

if TYPE_CHECKING:
    from collections.abc import Callable

    from srcgcnn.launch.slurm_site import SlurmSite

PACKAGES = ("srcgcnn", "ray", "torch", "numpy", "submitit")
NODE_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Finding:
    """One check: what, whether it went well, and what was seen or is to be changed."""

    what: str
    good: bool
    detail: str


def check_site(site: SlurmSite, folder: Path, *, on_node: bool) -> list[Finding]:
    """Try a site from here, with files in `folder`."""
    paths = RunPaths(folder / f".srcgcnn-check-{secrets.token_hex(4)}")
    paths.launch.mkdir(parents=True)
    try:
        findings = [_commands(), *_verdicts(site, paths), _rename(paths), _lock(paths), _mode(paths)]
        if on_node:
            findings += _on_node(site, paths)
        return findings
    finally:
        shutil.rmtree(paths.out, ignore_errors=True)


def _commands() -> Finding:
    missing = [name for name in ("sbatch", "squeue", "scancel", "scontrol") if shutil.which(name) is None]
    detail = f"not on PATH: {', '.join(missing)}; run this on a login node" if missing else "all found"
    return Finding("SLURM commands", not missing, detail)


def _verdicts(site: SlurmSite, paths: RunPaths) -> list[Finding]:
    most_groups = site.workers * 1000  # so many that every kind of worker is asked for
    said = {name: verdict(text, paths.launch) for name, text in sbatch_texts(site, paths, "check", most_groups).items()}
    return [Finding(f"SLURM on the {name}", not text.startswith("REFUSED"), text) for name, text in said.items()]


def _rename(paths: RunPaths) -> Finding:
    """Writers replace files as a whole: rename over an existing name must work."""
    path = paths.launch / "rename"
    write_text(path, "old")
    write_text(path, "new")
    good = path.read_text(encoding="utf-8") == "new"
    return Finding(
        "replacing a file", good, str(paths.out.parent) if good else "rename does not replace; use another --out"
    )


def _lock(paths: RunPaths) -> Finding:
    """One driver at a time is ensured by a lock."""
    path = paths.launch / "lock"
    advice = "this file system has no locks (mount option?); use another folder for --out"
    try:
        with FileLock(path, timeout=0, is_singleton=False):
            try:
                FileLock(path, timeout=0, is_singleton=False).acquire()
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


class NodeProbe:
    """What a node is asked to do; returns problems by what was tried."""

    def __init__(self, folder: str, site: SlurmSite) -> None:
        self.folder, self.site = folder, site

    def __call__(self) -> dict[str, str]:
        """Try folder, ports, temporary folder and address here."""
        probes: dict[str, Callable[[], str]] = {
            "shared folder on the node": lambda: _see(Path(self.folder)),
            "address": lambda: node_address(self.site.interface),
            "ports": lambda: str(free_ports(3, self.site.port_range)),
            "temporary folder": lambda: _private(self.site.temp_folder),
            "Python": lambda: repr(environment()),
            "host": socket.gethostname,
        }
        return {name: _tried(probe) for name, probe in probes.items()}


def _see(folder: Path) -> str:
    write_text(folder / "from-node", "here")
    return (folder / "from-login").read_text(encoding="utf-8")


def _private(temp_folder: str) -> str:
    folder = private_folder(temp_folder, f"c{job_id()}")
    folder.rmdir()
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
    mark = secrets.token_hex(8)
    write_text(paths.launch / "from-login", mark)
    executor = head_executor(site, paths, "check")
    executor.update_parameters(time=min(5, site.head.time_min))
    try:
        probe = NodeProbe(str(paths.launch.resolve()), site)
        said = run_in_job(executor, probe, make_console(), NODE_TIMEOUT_S)
    except SlurmError as error:
        return [Finding("a job on a node", False, str(error))]
    here = repr(environment())
    wanted = {"shared folder on the node": mark, "Python": here}
    findings = []
    for name, text in said.items():
        good = text == wanted[name] if name in wanted else not text.startswith("FAILED")
        findings.append(Finding(name, good, text if good or name not in wanted else f"{text}, but here {wanted[name]}"))
    return findings
