"""The log of one group: which trials, where, epoch by epoch, and what went wrong. Found by trial, not by process.

The same lines go to the worker's own output, where the Ray dashboard shows them.
"""

from __future__ import annotations

import os
import socket
import time
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from srcgcnn.files import open_log

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import TextIO

    from srcgcnn.run.paths import RunPaths
    from srcgcnn.sweep.plan import TrialGroup
    from srcgcnn.training.epoch import EpochReport

HEAD = "trial "  # a line per trial at the top: key and label


class GroupLog:
    """The open log of a group that trains."""

    def __init__(self, stream: TextIO, epochs: int) -> None:
        self._stream, self._epochs = stream, epochs

    def say(self, text: str) -> None:
        """Write a line with the time."""
        line = f"{time.strftime('%F %T')} {text}"
        print(line, flush=True)
        self._stream.write(line + "\n")

    def epoch(self, reports: Sequence[EpochReport]) -> None:
        """Write a line for an epoch of all members."""
        losses = " ".join(f"{report.train_loss:.4g}" for report in reports)
        errors = " ".join(f"{report.val_error:.4g}" for report in reports)
        epoch = f"epoch {reports[0].epoch + 1}/{self._epochs}"
        self.say(f"{epoch}: training loss {losses} (standardised), validation error {errors}")


@contextmanager
def group_log(paths: RunPaths, group: TrialGroup) -> Iterator[GroupLog]:
    """Open the log of a group, behind what earlier attempts wrote; an exception is logged on its way out."""
    path = paths.log(group.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with open_log(path) as stream:
        log = GroupLog(stream, group.trials[0].training.epochs)
        if new:
            stream.writelines(f"{HEAD}{trial.key} {trial.label}\n" for trial in group.trials)
        log.say(f"{group.label} starts on {socket.gethostname()}, process {os.getpid()}")
        try:
            yield log
        except Exception as error:
            stream.write(traceback.format_exc())
            log.say(f"{group.label} ends: {error}")
            raise
        except SystemExit:  # how Tune ends a group that its scheduler stops
            log.say(f"{group.label} is stopped early by the scheduler")
            raise
        log.say(f"{group.label} ends")


@dataclass(frozen=True)
class FoundLog:
    """A log file and the trials that it tells of: key and label each."""

    path: Path
    trials: tuple[tuple[str, str], ...]

    def tells_of(self, wanted: str) -> bool:
        """Whether a trial is meant: by the beginning of its key or the group's, or by a part of its label."""
        return self.path.stem.startswith(wanted) or any(
            key.startswith(wanted) or wanted.lower() in label.lower() for key, label in self.trials
        )


def find_log(paths: RunPaths, wanted: str) -> FoundLog:
    """Return the log of one trial; of several, where groups were put together anew, the last.

    Raises:
        FileNotFoundError: no trial, or more than one, is meant; the message lists those there.
    """
    logs = [_read_head(path) for path in sorted(paths.logs.glob("*.log"))]
    exact = {key for log in logs for key, label in log.trials if wanted in (key, label)}
    found = [log for log in logs if any(key in exact for key, _ in log.trials)]
    found = found or [log for log in logs if log.tells_of(wanted)]
    if len(found) == 1 or len(exact) == 1:
        return max(found, key=lambda log: log.path.stat().st_mtime)
    pairs = sorted((label, key) for log in found or logs for key, label in log.trials)
    known = "".join(f"\n  {key}  {label}" for label, key in pairs) or " none yet"
    meant = f"{len(found)} logs" if found else "no log"
    what = f"{meant} of a trial {wanted!r}; give" if wanted else "whose log? Give"
    raise FileNotFoundError(f"{what} the beginning of a key, or more of a label:{known}")


def _read_head(path: Path) -> FoundLog:
    pairs = []
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if not line.startswith(HEAD):
                break
            key, _, label = line.removeprefix(HEAD).strip().partition(" ")
            pairs.append((key, label))
    return FoundLog(path, tuple(pairs))
