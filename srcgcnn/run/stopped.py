"""Trials that a scheduler stopped: no results. Their checkpoints stay; a run without scheduler continues from them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from srcgcnn.files import write_text
from srcgcnn.records import RecordError, as_dict, read_record_file, record
from srcgcnn.run.damaged import set_aside
from srcgcnn.run.trial import TrialConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from srcgcnn.run.paths import RunPaths


@record
class Stopped:
    """A trial that was stopped early.

    Attributes:
        config: the trial.
        epoch: epochs it was trained.
        val_error: best validation error so far, MAE in the target's unit or error rate.
        curve: validation error after every epoch.
        scheduler: what stopped it.
    """

    config: TrialConfig
    epoch: int
    val_error: float
    curve: tuple[float, ...]
    scheduler: str


def write_stopped(paths: RunPaths, stopped: Stopped) -> None:
    """Record that a trial was stopped; removed when the trial finishes later."""
    write_text(paths.stopped_trial(stopped.config.key), json.dumps(as_dict(stopped), indent=1) + "\n")


def read_stopped(paths: RunPaths, key: str) -> Stopped | None:
    """Read the record of one trial; None if it was not stopped, or has finished since."""
    path = paths.stopped_trial(key)
    if not path.exists() or paths.result(key).exists():
        return None
    try:
        return read_record_file(Stopped, path)
    except FileNotFoundError:
        return None
    except RecordError as error:
        set_aside(path, error, "its trial counts as not stopped")
        return None


def all_stopped(paths: RunPaths) -> Iterator[Stopped]:
    """Yield all stopped trials, ordered by key."""
    for path in sorted(paths.stopped.glob("*.json")):
        stopped = read_stopped(paths, path.stem)
        if stopped is not None:
            yield stopped
