"""Where compiled code lies: one folder per user, which nobody else can write to."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return this user's folder for machine code, made on demand and closed to others.

    Raises:
        OSError: it cannot be made, or belongs to somebody else.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "srcgcnn"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o022:
        raise PermissionError(f"{folder} can be written by others: code is not loaded from there; chmod go-w it")
    return folder
