"""`python -m srcgcnn.tracking.anew OUT NAME`: a sweep's own MLflow store, written from its result files.

A driver starts this if its store was damaged: MLflow keeps connections to the file that was there before.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from srcgcnn.analysis.tradeoff import as_csv, as_markdown, tradeoff_of
from srcgcnn.run.paths import RunPaths
from srcgcnn.tracking.own_store import is_damaged, set_aside
from srcgcnn.tracking.writer import rebuild

SECOND = "second"


def main(out: str, sweep_name: str, attempt: str = "") -> None:
    """Write the store of a sweep from its result files; one that cannot be used is set aside first."""
    paths = RunPaths(Path(out))
    if is_damaged(paths):
        set_aside(paths)
    rows = tradeoff_of(paths)
    tables = as_markdown(rows), as_csv(rows)
    try:
        rebuild(paths, sweep_name, None, *tables)
    except Exception as error:
        if attempt == SECOND or "locked" in str(error) or not paths.mlflow_db.exists():
            raise
        set_aside(paths)  # damage that SQLite does not see: a text, a number
        # a fresh process: this one has connections to the file that was there before, which are read-only now
        os.execv(sys.executable, [sys.executable, "-m", "srcgcnn.tracking.anew", out, sweep_name, SECOND])  # noqa: S606 - our own module


if __name__ == "__main__":
    main(*sys.argv[1:])
