"""Where numbers came from: commit, versions, hardware, memory."""

from __future__ import annotations

import platform
import resource
import socket
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from srcgcnn.run.trial_result import Provenance
from srcgcnn.version import __version__

RECORDED = ("torch", "torch-geometric", "numpy", "pymatgen", "ray", "mlflow")


def collect_provenance(device: torch.device, backend: str) -> Provenance:
    """Describe this process and machine; `backend` is that of the network."""
    return Provenance(
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        git_commit=git_commit(),
        versions=_versions(),
        hardware=hardware_name(device),
        hostname=socket.gethostname(),
        threads=torch.get_num_threads(),
        path=backend,
    )


@cache
def git_commit() -> str:
    """Return the commit of the checkout this package runs from, with `+changes` if edited, or "" outside a checkout."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        top = Path(git("rev-parse", "--show-toplevel"))
        if top != here.parent.parent:  # installed inside another repository
            return ""
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", str(here.parent)) else "")
    except (OSError, subprocess.SubprocessError):
        return ""


@cache
def _versions() -> dict[str, str]:
    found = {"srcgcnn": __version__, "python": platform.python_version()}
    for package in RECORDED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware_name(device: torch.device) -> str:
    """Name the GPU, or the processor model."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def reset_peak_memory(device: torch.device) -> None:
    """Start a new count: a worker process trains many trials one after the other."""
    if device.type == "cuda":
        torch.cuda.init()  # a process that has not used the device has nothing to reset, which would be an error
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):  # Linux: "5" resets VmHWM (proc(5), clear_refs); elsewhere the process's peak is reported
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_mb(device: torch.device) -> float:
    """Largest device memory since `reset_peak_memory`, or the largest resident size of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kilobytes on Linux
