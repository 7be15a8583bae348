"""Write the log of one group that trains: which trials, where, epoch by epoch, and what went wrong.

The same lines go to the worker's own output, where the Ray dashboard shows them.
"""

from __future__ import annotations

import os
import socket
import sys
import time
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING

from srcgcnn.files import open_log
from srcgcnn.run.log import HEAD

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TextIO

    from srcgcnn.run.paths import RunPaths
    from srcgcnn.sweep.plan import TrialGroup
    from srcgcnn.training.epoch import EpochReport


class GroupLog:
    """The open log of a group that trains."""

    def __init__(self, stream: TextIO, epochs: int) -> None:
        self._stream, self._epochs = stream, epochs

    def say(self, text: str) -> None:
        """Write a line with the time."""
        line = f"{time.strftime('%F %T')} {text}"
        print(line, file=sys.stderr, flush=True)  # where the dashboard opens a log
        self._stream.write(line + "\n")

    def resumed(self, epochs: int) -> None:
        """Log that a checkpoint was found."""
        self.say(f"resumes after epoch {epochs} of {self._epochs}, from its checkpoint")

    def epoch(self, reports: Sequence[EpochReport]) -> None:
        """Write a line for an epoch of all members."""
        losses = " ".join(f"{report.train_loss:.4g}" for report in reports)
        errors = " ".join(f"{report.val_error:.4g}" for report in reports)
        epoch = f"epoch {reports[0].epoch + 1}/{self._epochs}"
        self.say(f"{epoch}: training loss {losses} (standardised), validation error {errors}")


@contextmanager
def group_log(paths: RunPaths, group: TrialGroup) -> Iterator[GroupLog]:
    """Open the log of a group, after what earlier attempts wrote; an exception is logged on its way out."""
    path = paths.log(group.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with open_log(path) as stream:
        log = GroupLog(stream, group.trials[0].training.epochs)
        if new:
            stream.writelines(f"{HEAD}{trial.key} {group.label_of(trial)}\n" for trial in group.trials)
        log.say(f"{group.label} starts on {socket.gethostname()}, process {os.getpid()}")
        try:
            yield log
        except Exception as error:
            stream.write(traceback.format_exc())
            log.say(f"{group.label} ends: {error}")
            raise
        except SystemExit:  # how Tune ends a group that its scheduler stops, and all groups at Ctrl-C
            log.say(f"{group.label} is stopped, by the scheduler or with the sweep")
            raise
        log.say(f"{group.label} ends")
