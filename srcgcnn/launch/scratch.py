"""A node's own copy of the graph store: made once per node, verified by hash, shared by later jobs of this user.

Workers of one node wait for each other by a lock. A copy that nobody opened for a week goes when the next one is made.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from filelock import FileLock

from srcgcnn.data.store import GraphStore
from srcgcnn.files import make_private

UNUSED_S = 7 * 86400.0
LOCK_TIMEOUT_S = 1800.0


def node_copy(scratch: str, store_folder: Path, data_hash: str) -> Path:
    """Return the node's copy of a store, made now if there is none.

    Args:
        scratch: node-local folder; variables such as $TMPDIR are those of the node.
        store_folder: the store on the shared file system.
        data_hash: names the copy.

    Raises:
        PermissionError: somebody else made the folder of the copies.
    """
    base = Path(os.path.expandvars(scratch)) / f"srcgcnn-stores-{os.getuid()}"
    make_private(base)
    copy = base / data_hash
    with FileLock(base / ".lock", timeout=LOCK_TIMEOUT_S):
        if not copy.exists():
            _remove_unused(base)
            _copy(store_folder, copy)
        os.utime(copy)
    return copy


def _copy(source: Path, target: Path) -> None:
    """Copy to a temporary folder, verify, then rename: a copy is complete or absent."""
    growing = target.with_name(f".{target.name}.growing")
    shutil.rmtree(growing, ignore_errors=True)
    shutil.copytree(source, growing)
    GraphStore(growing, check_hashes=True)
    growing.rename(target)


def _remove_unused(base: Path) -> None:
    for copy in base.iterdir():
        if copy.is_dir() and time.time() - copy.stat().st_mtime > UNUSED_S:
            shutil.rmtree(copy, ignore_errors=True)
