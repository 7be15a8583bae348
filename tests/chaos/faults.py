"""Faults that need no scheduler: on processes, files, the database, the disk and the clock. Each says what it did.

A fault that lasts returns what ends it.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import struct
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from srcgcnn.run.paths import RunPaths

SHIM = Path(__file__).with_name("clock.c")
SMALL_DISK = "size=64m"


class NothingThereError(LookupError):
    """The target does not exist now; it may later."""


def one_of(found: Sequence, pick: int):
    """Return the one that a fault picks."""
    if not found:
        raise NothingThereError
    return found[pick % len(found)]


def kill(processes: Sequence[psutil.Process]) -> None:
    """Kill processes as one: all are stopped first, so that none sees another one go."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)


def freeze(process: psutil.Process) -> Callable[[], None]:
    """Stop a process; returns what lets it go on."""
    process.send_signal(signal.SIGSTOP)

    def thaw() -> None:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)

    return thaw


def files_of(paths: RunPaths, target: str) -> list[Path]:
    """Return the files of a class that are there now."""
    classes = {
        "result": paths.results.glob("*.json"),
        "checkpoint": paths.checkpoints.glob("*.pt"),
        "group": paths.checkpoints.glob("*.json"),
        "prediction": paths.predictions("any").parent.glob("*.parquet"),
        "model": paths.model("any").parent.glob("*.safetensors"),
        "log": paths.logs.glob("*.log"),
        "worker_note": paths.worker_note("any").parent.glob("*.json"),
    }
    single = {
        "spec": paths.spec,
        "progress": paths.progress,
        "token": paths.ray_token,
        "database": paths.mlflow_db,
        "driver_lock": paths.driver_lock,
        "head_address": paths.head_address,
        "backlog": paths.backlog,
        "jobs": paths.jobs,
        "request": paths.launch_request,
    }
    return sorted(classes.get(target) or [path for path in [single[target]] if path.exists()])


def damage(kind: str, path: Path, pick: int) -> None:
    """Remove a file, cut it, or overwrite bytes of it where it is, as a file system does that loses blocks."""
    if kind == "remove":
        path.unlink()
        return
    size = path.stat().st_size
    if kind == "truncate":
        os.truncate(path, size * pick // 1000)
        return
    chance = random.Random(pick)
    with path.open("r+b") as file:
        for _ in range(8):
            file.seek(chance.randrange(max(size, 1)))
            file.write(chance.randbytes(max(1, size // 64)))


def lock_database(path: Path) -> Callable[[], None]:
    """Hold the write lock of a SQLite database, as a backup or a reader on a bad file system does."""
    database = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    try:
        database.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error:
        database.close()
        raise NothingThereError from None

    def unlock() -> None:
        with suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        database.close()

    return unlock


def small_disk(folder: Path) -> None:
    """Put a folder on a small file system of its own (root only)."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", SMALL_DISK, "srcgcnn-chaos", str(folder)], check=True)


def leave_small_disk(folder: Path) -> None:
    """Move what is in the folder to the disk below it, and give up the small file system."""
    if not os.path.ismount(folder):
        return
    copy = folder.with_name(folder.name + ".copy")
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    shutil.copytree(copy, folder, dirs_exist_ok=True)
    shutil.rmtree(copy)


def fill_disk(folder: Path) -> Callable[[], None]:
    """Leave no byte free; returns what makes room again."""
    if not os.path.ismount(folder):
        raise NothingThereError
    ballast = folder / "ballast"
    with ballast.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(2**12))
    return lambda: ballast.unlink(missing_ok=True)


def build_clock(folder: Path) -> Path | None:
    """Compile the clock that can be stepped; None where there is no compiler."""
    compiler, library = shutil.which("cc") or shutil.which("gcc"), folder / "clock.so"
    if compiler is None:
        return None
    if not library.exists():
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(SHIM), "-ldl", "-lm"], check=True)
    return library


def set_clock(file: Path, seconds: float) -> None:
    """Step the clock of all processes that watch this file."""
    with file.open("r+b" if file.exists() else "wb") as stream:
        stream.write(struct.pack("d", seconds))
