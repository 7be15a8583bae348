"""Files that are either complete or absent: write a temporary file, flush, rename. A full or absent disk is waited for.

Logs are the exception: a line that finds no space is lost, and the process that wrote it continues.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
import stat
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any, TextIO

SPACE_PATIENCE_S = 3600.0  # a shared folder at its quota is soon noticed by its owner
SPACE_PAUSE_S = 5.0
PASSING = (errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.EIO)  # full, or a server of files that comes back
MEND_INTERVAL_S = 2.0


def write_bytes(path: Path, data: bytes, space_patience_s: float = SPACE_PATIENCE_S, mode: int = 0o666) -> None:
    """Write a file atomically: a reader sees the old one or the new one, never a part.

    Args:
        path: the file; its folder is made.
        data: all of it.
        space_patience_s: how long to wait if the file system is full, the quota used up, or the server of a
            network file system away (stale handles, errors of input and output).
        mode: who may read and write it, less the umask.

    Raises:
        OSError: it cannot be written, or still not.
    """
    deadline, warned = time.monotonic() + space_patience_s, False
    while True:
        try:
            _write_beside_and_rename(path, data, mode)
        except OSError as error:
            if error.errno not in PASSING or time.monotonic() >= deadline:
                raise
            if not warned:
                with suppress(OSError):  # the log may lie on the same disk
                    print(f"{path}: {error.strerror}; trying again", file=sys.stderr, flush=True)
            warned = True
            time.sleep(SPACE_PAUSE_S)
        else:
            return


def write_text(path: Path, text: str, space_patience_s: float = SPACE_PATIENCE_S) -> None:
    """Write a text file atomically, see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"), space_patience_s)


def write_private(path: Path, text: str, space_patience_s: float = SPACE_PATIENCE_S) -> None:
    """Write a text file atomically that no other user can read, whatever the umask, see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"), space_patience_s, mode=0o600)


def make_private(folder: Path) -> None:
    """Make a folder that no other user can enter, whatever the umask; one that is there already is closed.

    Raises:
        PermissionError: it is a link, or belongs to somebody else, who could put files into it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise PermissionError(f"{folder} is a link or belongs to somebody else; remove it, or use another --out")
    if status.st_mode & 0o077:
        folder.chmod(0o700)


@dataclass(frozen=True)
class _Kept:
    """What a file holds, who may read and write it, and what tells a change by others from damage, if they may."""

    content: bytes
    mode: int
    whole: Callable[[Path], bool] | None

    def is_in(self, path: Path) -> bool:
        return path.is_file() and path.read_bytes() == self.content


class KeptFiles:
    """Small files that one process answers for: if removed or damaged, they are written again."""

    def __init__(self) -> None:
        self._files: dict[Path, _Kept] = {}
        self._looked = 0.0

    def keep(self, path: Path, whole: Callable[[Path], bool] | None = None) -> None:
        """Answer for a file as it is now.

        Args:
            path: the file.
            whole: whether a file that is not as it was is whole: others changed it, and it is kept as they left it. By
                default every change is damage.
        """
        self._files[path] = _Kept(path.read_bytes(), path.stat().st_mode & 0o777, whole)

    def drop(self, path: Path) -> None:
        """Leave a file alone from now on."""
        self._files.pop(path, None)

    def mend_if_due(self) -> None:
        """Compare all files every few seconds, and write those that are removed or damaged; says which."""
        if time.monotonic() - self._looked < MEND_INTERVAL_S:
            return
        self._looked = time.monotonic()
        for path, kept in list(self._files.items()):
            with suppress(OSError):  # a full disk: next time
                if kept.is_in(path):
                    continue
                if kept.whole and kept.whole(path):
                    self.keep(path, kept.whole)
                    continue
                _write_beside_and_rename(path, kept.content, kept.mode)
                print(f"{path} was removed or damaged: written again", file=sys.stderr, flush=True)


class _LossyFile(io.FileIO):
    """A file that swallows what finds no space."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in PASSING:
                raise
            return memoryview(data).nbytes


def open_log(file: Path | int, encoding: str = "utf-8") -> TextIO:
    """Open a log to append lines to: a file, or the number of an open one, which stays open."""
    raw = _LossyFile(file, "a", closefd=not isinstance(file, int))
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, errors="replace", line_buffering=True)


def _write_beside_and_rename(path: Path, data: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # the name is unique, so two writers do not meet
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)  # less the umask
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
