"""Checkpoint files: complete, or set aside.

    srcgcnn checkpoint 1
    <sha256 of what follows, 64 hexadecimal digits>
    <what torch.save wrote>

The digest finds what PyTorch does not: most flipped bytes would load as other weights. Two files are kept, so that a
damaged one costs the time between two checkpoints. Files of earlier versions have no digest and are still read.
"""

from __future__ import annotations

import io
import warnings
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import torch

from srcgcnn.files import write_bytes

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = b"srcgcnn checkpoint 1\n"
FORMAT = 2  # of the state; 1 was written before groups had learning rates of their own
DIGEST_CHARACTERS = 64


class DamagedCheckpointError(ValueError):
    """The file does not hold what was written."""


class CheckpointFile:
    """The checkpoint of one group and the one before it.

    Attributes:
        path: the newest.
        previous: the one before.
        new: one that is not complete yet.
    """

    def __init__(self, path: Path) -> None:
        """Name the file; nothing is read."""
        self.path, self.previous, self.new = path, path.with_suffix(".previous"), path.with_suffix(".new")

    def write(self, state: dict[str, Any]) -> None:
        """Write a state and keep the one before.

        Raises:
            OSError: there is no space, or no permission; both files are as they were.
        """
        buffer = io.BytesIO()
        torch.save({"format": FORMAT, **state}, buffer)
        content = buffer.getbuffer()
        data = b"".join((MAGIC, sha256(content).hexdigest().encode("ascii"), b"\n", content))
        write_bytes(self.new, data, space_patience_s=0.0)
        if self.path.exists():
            self.path.replace(self.previous)
        self.new.replace(self.path)

    def read(self) -> dict[str, Any] | None:
        """Return the newest undamaged state; None if there is none. Damaged files are set aside, with a warning.

        Raises:
            OSError: a file cannot be read, which does not mean that it is damaged.
        """
        for path in (self.path, self.previous):
            if not path.exists():
                continue
            data = path.read_bytes()
            try:
                return decode(data)
            except DamagedCheckpointError as error:
                aside = path.replace(path.with_name(f"{path.name}.damaged"))
                instead = "the previous one is used" if self._has_another(path) else "training starts over"
                warnings.warn(f"checkpoint {path.name} {error}, kept as {aside}; {instead}", stacklevel=2)
        return None

    def _has_another(self, path: Path) -> bool:
        return path == self.path and self.previous.exists()

    def forget(self) -> None:
        """Remove all files: the group is done. What was set aside stays."""
        for path in (self.path, self.previous, self.new):
            path.unlink(missing_ok=True)


def decode(data: bytes) -> dict[str, Any]:
    """Return the state in the bytes of a checkpoint file.

    Raises:
        DamagedCheckpointError: it is not what was written, or was written by a version that this one cannot continue.
    """
    content = data
    if data.startswith(MAGIC):
        start = len(MAGIC) + DIGEST_CHARACTERS + 1
        content = data[start:]
        if data[len(MAGIC) : start] != sha256(content).hexdigest().encode("ascii") + b"\n":
            raise DamagedCheckpointError("is damaged (its digest differs)")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - what PyTorch raises for damaged bytes has no common class
        reason = str(error).strip().splitlines()
        raise DamagedCheckpointError(f"is unreadable ({reason[0] if reason else type(error).__name__})") from None
    found = state.get("format", 1) if isinstance(state, dict) else None
    if found != FORMAT:
        raise DamagedCheckpointError(f"was written by another version (format {found})")
    return dict(state)
