"""What Tune saved of a trial's last failure: the exception, its traceback, and the reason in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray import cloudpickle

DIED = "the worker process died: killed, out of memory, or crashed"
REASON_CHARACTERS = 500


def take_error(trial: Any) -> BaseException | None:
    """Return the exception of a trial's last failure, once; None if there is none, or it could not be saved.

    Tune's own `get_pickled_error` looks in the folder of the sweep, where errors come with saves of Tune's state only.
    """
    path = _existing(trial.pickled_error_file)
    if path is None:
        return None
    try:
        error: BaseException = cloudpickle.loads(path.read_bytes())  # written by this process, in Ray's private folder
    except Exception as unreadable:  # noqa: BLE001 - an exception may be of any library, which may refuse to restore it
        error = RuntimeError(f"an error that cannot be read ({unreadable})")
    path.unlink()
    return error


def error_text(trial: Any) -> str:
    """Return the traceback that Tune saved; Ray's folder, where it lies, goes with the sweep."""
    path = _existing(trial.error_file)
    return path.read_text(encoding="utf-8") if path else DIED


def _existing(name: str | None) -> Path | None:
    return Path(name) if name and Path(name).exists() else None


def reason_of(log: str) -> str:
    """Return the last line of a traceback, and Ray's long text on lost processes in a few words."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if not lines or "worker process has died" in lines[-1]:
        return DIED
    return lines[-1][:REASON_CHARACTERS]
