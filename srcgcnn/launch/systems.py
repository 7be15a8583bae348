"""The batch systems that ship. Jobs of a sweep get theirs as an argument; commands look it up here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from srcgcnn.launch.batch import BatchSystem


def batch_system() -> BatchSystem:
    """Return the batch system of `kind = "slurm"` sites, the one kind that ships."""
    from srcgcnn.launch.slurm.calls import system

    return system()
