"""A clock that somebody has set, as psutil sees it."""

import os
from pathlib import Path


def proc_of_a_clock_set_forward(folder: Path, *pids: int) -> Path:
    """Make a /proc in which Linux says that it was booted an hour later; what processes report stays."""
    folder.mkdir()
    lines = Path("/proc/stat").read_text().splitlines()
    moved = [f"btime {int(line.split()[1]) + 3600}" if line.startswith("btime") else line for line in lines]
    (folder / "stat").write_text("\n".join(moved) + "\n")
    for number in (os.getpid(), *pids):
        (folder / str(number)).symlink_to(f"/proc/{number}")
    return folder
