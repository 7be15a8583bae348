"""What the jobs of a sweep print: lines with the time, lost rather than fatal while the disk of the log is full."""

from __future__ import annotations

import sys
import time

from srcgcnn.files import open_log


def outlive_full_disk() -> None:
    """Let this process lose what it prints and continue while the disk of its log is full."""
    sys.stdout, sys.stderr = open_log(1), open_log(2)


def say(text: str) -> None:
    """Write a line with the time into the job's log."""
    print(f"{time.strftime('%F %T')} {text}", flush=True)
