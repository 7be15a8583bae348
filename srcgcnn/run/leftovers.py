"""What killed processes leave in the folder of a sweep: half-written files and folders, and what was set aside."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from srcgcnn.run.paths import RunPaths

ABANDONED_S = 600.0  # a writer that lives has long renamed or removed its file
PATTERNS = (".*.tmp", ".test-only.*.sh")
ASIDE = "*.damaged"


def remove_leftovers(paths: RunPaths, *, nobody_writes: bool = False) -> None:
    """Remove files that killed writers left, and damaged ones that are older than the last start of this sweep.

    Args:
        paths: the sweep's folder.
        nobody_writes: every group has ended; else files younger than ten minutes may still grow.
    """
    written = [paths.results.parent / name for name in ("results", "predictions", "models", "failures", "stopped")]
    written += [paths.checkpoints, paths.logs]
    others = [paths.out, paths.launch, paths.worker_note("").parent, paths.job_logs]
    before = time.time() - ABANDONED_S
    for folder in (*written, *others):
        limit = float("inf") if nobody_writes and folder in written else before
        for pattern in PATTERNS:
            _remove_older(folder, pattern, limit)
    with suppress(OSError):
        started = paths.spec.stat().st_mtime
        for folder in (*written, *others):
            _remove_older(folder, ASIDE, started)


def _remove_older(folder: Path, pattern: str, limit: float) -> None:
    for path in folder.glob(pattern):
        with suppress(OSError):
            if path.lstat().st_mtime >= limit:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
