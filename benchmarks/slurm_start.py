#!/usr/bin/env python3
"""From the command to the first trial on a SLURM cluster, and what the time is made of.

    python benchmarks/slurm_start.py SITE [--out OUT] [-- FLAGS OF depth_sweep.py]
    cluster/lab/lab python benchmarks/slurm_start.py site.toml        # on the one-machine SLURM

Submits a small sweep, watches its files (0.05 s apart, as this machine sees them), and prints seconds since the command
started. Time in the queue is the site's; everything else is ours, Python's and Ray's.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from srcgcnn.launch.rendezvous import JobIds
from srcgcnn.records import read_if_whole
from srcgcnn.run.paths import RunPaths

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
SMALL = ["--models", "srcgcnn", "--depths", "2", "3", "--seeds", "2", "--epochs", "30"]
PATIENCE_S = 1800.0


def milestones(paths: RunPaths) -> dict[str, Callable[[], bool]]:
    """What is waited for, in order: a name and whether it has come."""

    def jobs() -> JobIds:
        return read_if_whole(JobIds, paths.jobs) or JobIds()

    def logged(words: str, head: bool) -> bool:
        ids = [jobs().head] if head else list(jobs().workers)
        logs = [log for job in ids if job for log in paths.job_logs.glob(f"{job}*_log.out")]
        return any(words in log.read_text(errors="replace") for log in logs)

    return {
        "planned and submitted": lambda: bool(jobs().workers),
        "head job runs Python": lambda: logged("head", head=True),
        "first worker job runs Python": lambda: logged("worker", head=False),
        "Ray's head listens": paths.head_address.exists,
        "first worker has checked its Python and joins": lambda: logged("joining", head=False),
        "driver has planned and hands out": paths.backlog.exists,
        "first trial trains": lambda: any(paths.checkpoints.glob("*.json")),
        "first result": lambda: any(paths.results.glob("*.json")),
        "all jobs' work is over": paths.sweep_end.exists,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", help="NAME of cluster/NAME.toml, or a .toml file")
    parser.add_argument("--out", type=Path, help="folder of the sweep, new (default: a temporary one below here)")
    parser.add_argument("flags", nargs="*", default=SMALL, help="flags of depth_sweep.py")
    options = parser.parse_args()
    paths = RunPaths(options.out or Path(tempfile.mkdtemp(prefix="slurm-start-", dir=".")) / "run")
    script = [sys.executable, str(ROOT / "sweeps" / "depth_sweep.py"), "--cluster", options.site]
    started = time.monotonic()
    command = subprocess.Popen([*script, "--out", str(paths.out), *options.flags], stdout=subprocess.DEVNULL)
    print(f"{'seconds':>8}  what")
    waiting = milestones(paths)
    while waiting and time.monotonic() - started < PATIENCE_S:
        for name in [name for name, has_come in waiting.items() if has_come()]:
            print(f"{time.monotonic() - started:8.1f}  {name}", flush=True)
            del waiting[name]
        if command.poll():
            raise SystemExit(f"depth_sweep.py failed with status {command.returncode}")
        time.sleep(0.05)
    print(f"sweep: {paths.out}")


if __name__ == "__main__":
    main()
