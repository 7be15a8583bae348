"""Files that are either whole or absent: write beside, flush, rename. A full disk is waited for."""

from __future__ import annotations

import errno
import os
import secrets
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SPACE_PATIENCE_S = 3600.0  # a shared folder at its quota is soon noticed by its owner
SPACE_PAUSE_S = 5.0
FULL = (errno.ENOSPC, errno.EDQUOT)


def write_bytes(path: Path, data: bytes, space_patience_s: float = SPACE_PATIENCE_S) -> None:
    """Write a file atomically: a reader sees the old one or the new one, never a part.

    Args:
        path: the file; its folder is made.
        data: all of it.
        space_patience_s: how long to wait for space where the file system is full, or the quota used up.

    Raises:
        OSError: it cannot be written, or is still full.
    """
    deadline, warned = time.monotonic() + space_patience_s, False
    while True:
        try:
            _write_beside_and_rename(path, data)
        except OSError as error:
            if error.errno not in FULL or time.monotonic() >= deadline:
                raise
            if not warned:
                print(f"no space left for {path}; waiting for it", file=sys.stderr, flush=True)
            warned = True
            time.sleep(SPACE_PAUSE_S)
        else:
            return


def write_text(path: Path, text: str, space_patience_s: float = SPACE_PATIENCE_S) -> None:
    """Write a text file atomically, see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"), space_patience_s)


def _write_beside_and_rename(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # the name is unique, so two writers do not meet
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
