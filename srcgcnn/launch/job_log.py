"""What the jobs of a sweep print: lines with the time."""

from __future__ import annotations

import time


def say(text: str) -> None:
    """Write a line with the time into the job's log."""
    print(f"{time.strftime('%F %T')} {text}", flush=True)
