"""Processes of one sweep, known by a mark in their environment that children inherit."""

from __future__ import annotations

from pathlib import Path

import psutil

MARK = "SRCGCNN_CHAOS"
ROLES = (  # by what the command line holds; the first that fits
    ("srun ", ""),  # waits for the job's Python, and has its words
    ("tracking.background", "writer"),
    ("launch.driver", "driver"),
    ("depth_sweep.py", "driver"),
    ("launch.reaper", "reaper"),
    ("gcs_server", "gcs"),
    ("/raylet --", "raylet"),
    ("ray::ImplicitFunc", "trainer"),
    ("srcgcnn.launch.start", "job"),
    ("python", "other"),
    ("ray::", "other"),
)


def marked(mark: str) -> list[psutil.Process]:
    """Return the living processes whose environment holds the mark, by process id."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                process = psutil.Process(int(folder.name))
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        except (OSError, psutil.NoSuchProcess):
            continue
    return sorted(found, key=lambda process: process.pid)


def role(process: psutil.Process) -> str:
    """Return what a process does: driver, writer, reaper, gcs, raylet, trainer, job, other; "" for shells."""
    try:
        words = " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
    return next((name for part, name in ROLES if part in words), "")


def describe(process: psutil.Process) -> str:
    """Return a process for people."""
    try:
        return f"{process.pid} {role(process)} {' '.join(process.cmdline())[:120]}"
    except psutil.NoSuchProcess:
        return f"{process.pid} (gone)"
