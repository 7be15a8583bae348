"""The SQLite file of a sweep's own MLflow store: is it intact, and how to rewrite it.

Every number in it is in the result files as well, so a damaged one is set aside and rewritten from them. That
takes a separate process: MLflow and SQLAlchemy keep connections to the file that was there before.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
import warnings
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from srcgcnn.run.paths import RunPaths

ATTEMPTS = 4
PAUSE_S = 5.0  # somebody else may hold the database's lock for a while
BESIDE = ("-journal", "-wal", "-shm")
KEYS = "SELECT value FROM tags WHERE key = 'srcgcnn.trial_key'"


def is_damaged(paths: RunPaths) -> bool:
    """Whether SQLite finds the file damaged; one that is absent, empty or locked is not."""
    try:
        with closing(sqlite3.connect(f"{paths.mlflow_db.resolve().as_uri()}?mode=ro", uri=True)) as database:
            return database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",)
    except sqlite3.OperationalError:
        return False
    except sqlite3.DatabaseError:
        return True


def lacks(paths: RunPaths, keys: Collection[str]) -> bool:
    """Whether the file is damaged, was replaced by another one, or does not know one of these trials."""
    try:
        with closing(sqlite3.connect(f"{paths.mlflow_db.resolve().as_uri()}?mode=ro", uri=True)) as database:
            known = {key for (key,) in database.execute(KEYS)}
    except sqlite3.Error:
        return True
    return is_damaged(paths) or not known.issuperset(keys)


def set_aside(paths: RunPaths) -> None:
    """Rename a damaged store, so that the next one begins empty."""
    aside = paths.mlflow_db.with_name(f"{paths.mlflow_db.name}.damaged")
    paths.mlflow_db.replace(aside)
    for ending in BESIDE:
        paths.mlflow_db.with_name(paths.mlflow_db.name + ending).unlink(missing_ok=True)
    warnings.warn(f"{paths.mlflow_db} was damaged, kept as {aside.name}; it is rewritten", stacklevel=2)


def write_anew(paths: RunPaths, sweep_name: str) -> bool:
    """Write the store from the result files in another process; returns whether that succeeded."""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE_S)
        command = [sys.executable, "-m", "srcgcnn.tracking.anew", str(paths.out.resolve()), sweep_name]
        if subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode == 0:
            return True
    return False
