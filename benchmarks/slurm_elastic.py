#!/usr/bin/env python3
"""What workers add that come later: the speed of one sweep with 1 worker, then 3, then 2.

    python benchmarks/slurm_elastic.py SITE [--seconds 60] [-- FLAGS OF depth_sweep.py]
    cluster/lab/lab python benchmarks/slurm_elastic.py site.toml        # on the one-machine SLURM

Submits a sweep with three workers, holds two of them back, releases them, and cancels one. Speed is epochs of all
groups per second (`OUT/progress.json`), from when that number of groups trains. The sweep is cancelled at the end.
A machine adds speed where it adds cores: three workers on two cores are no faster than two.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from srcgcnn.driver.progress import read_progress
from srcgcnn.launch.rendezvous import JobIds
from srcgcnn.launch.slurm.queue import queued, slurm
from srcgcnn.records import read_if_whole
from srcgcnn.run.paths import RunPaths

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
LONG = ["--models", "srcgcnn", "--depths", "3", "--seeds", "3", "--epochs", "20000"]
PATIENCE_S = 600.0


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"{what}: not after {PATIENCE_S:.0f} s")
        time.sleep(0.3)


def training(paths: RunPaths) -> int:
    """Groups that have reported an epoch since they started on their worker."""
    progress = read_progress(paths)
    return sum(group.state == "running" and group.eta_s is not None for group in progress.groups) if progress else 0


def epochs_per_second(paths: RunPaths, seconds: float) -> float:
    def look() -> tuple[float, int]:
        progress = read_progress(paths)
        return (progress.updated_at, sum(group.epoch for group in progress.groups)) if progress else (0.0, 0)

    start, before = look()
    time.sleep(seconds)
    end, after = look()
    return (after - before) / (end - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", help="NAME of cluster/NAME.toml, or a .toml file; three workers in one array")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each measurement")
    parser.add_argument("flags", nargs="*", default=LONG, help="flags of depth_sweep.py; at least three groups")
    options = parser.parse_args()
    paths = RunPaths(Path(tempfile.mkdtemp(prefix="slurm-elastic-", dir=".")) / "run")
    script = [sys.executable, str(ROOT / "sweeps" / "depth_sweep.py"), "--cluster", options.site]
    subprocess.run([*script, "--out", str(paths.out), *options.flags], check=True, stdout=subprocess.DEVNULL)
    array = (read_if_whole(JobIds, paths.jobs) or JobIds()).workers[0]
    later = [f"{array}_1", f"{array}_2"]
    try:
        for job in later:
            running = {found.job_id for found in queued((array,)) if found.state == "RUNNING"}
            slurm("scontrol", "requeuehold" if job in running else "hold", job)
        changes: list[tuple[int, list[list[str]]]] = [
            (1, []),
            (3, [["scontrol", "release", job] for job in later]),
            (2, [["scancel", later[0]]]),
        ]
        first = 0.0
        print("workers  epochs/s  against 1")
        for workers, commands in changes:
            for command in commands:
                slurm(*command)
            wait_for(lambda: training(paths) == workers, f"{workers} groups")  # noqa: B023 - used at once
            speed = epochs_per_second(paths, options.seconds)
            first = first or speed
            print(f"{workers:7d}  {speed:8.2f}  {speed / first:8.2f}x", flush=True)
    finally:
        subprocess.run([sys.executable, "-m", "srcgcnn", "cancel", str(paths.out)], check=False)


if __name__ == "__main__":
    main()
