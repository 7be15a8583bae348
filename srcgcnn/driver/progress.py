"""`OUT/progress.json`: where the running driver stands, for `srcgcnn status`. Written whole, every few seconds."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from srcgcnn.files import write_text
from srcgcnn.records import as_dict, read_if_whole, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from srcgcnn.run.paths import RunPaths
    from srcgcnn.sweep.plan import TrialGroup
    from srcgcnn.training.epoch import EpochReport

WRITE_INTERVAL_S = 3.0

State = Literal["waiting", "running", "finished", "failed", "stopped"]


@record
class GroupState:
    """One group.

    Attributes:
        key: the group's key.
        label: its name for people.
        trials: keys of its members.
        epochs: length of the recipe.
        state: `stopped` by a scheduler.
        host: the node it trains on, or trained on last.
        epoch: epochs done.
        val_error: validation error of the last epoch, mean over the members.
        eta_s: seconds to its end at its present speed.
    """

    key: str
    label: str
    trials: tuple[str, ...]
    epochs: int
    state: State = "waiting"
    host: str = ""
    epoch: int = 0
    val_error: float | None = None
    eta_s: float | None = None


@record
class SweepProgress:
    """One run of the driver.

    Attributes:
        host: node of the driver.
        pid: its process.
        started_at: seconds since 1970.
        updated_at: seconds since 1970.
        ended: whether the driver came to its end, by itself or by Ctrl-C.
        eta_s: seconds to the end of all groups.
        proposals_left: of a search, those that are still to be made.
        groups: those of this run of the driver, in the order of planning.
    """

    host: str
    pid: int
    started_at: float
    updated_at: float
    ended: bool
    eta_s: float | None
    proposals_left: int
    groups: tuple[GroupState, ...]


class ProgressFile:
    """Keeps the state of every group, and writes it now and then."""

    def __init__(self, paths: RunPaths, groups: Iterable[TrialGroup]) -> None:
        self._paths = paths
        self._states: dict[str, GroupState] = {}
        self._since: dict[str, tuple[float, int]] = {}
        self._started_at, self._written = time.time(), 0.0
        self.add(groups)

    def add(self, groups: Iterable[TrialGroup]) -> None:
        """Take in groups that wait."""
        for group in groups:
            keys, epochs = tuple(trial.key for trial in group.trials), group.trials[0].training.epochs
            self._states[group.key] = GroupState(group.key, group.label, keys, epochs)

    def set_state(self, key: str, state: State) -> None:
        """Note that a group waits, runs or has ended."""
        self._states[key] = replace(self._states[key], state=state, eta_s=None)
        self._since.pop(key, None)

    def heard(self, key: str, reports: Sequence[EpochReport], host: str) -> None:
        """Take in epochs of a group."""
        group = self._states[key]
        if reports:
            epoch = reports[-1].epoch + 1
            last = [report.val_error for report in reports if report.epoch + 1 == epoch]
            group = replace(group, epoch=epoch, val_error=sum(last) / len(last))
        since, first = self._since.setdefault(key, (time.monotonic(), group.epoch))
        done = group.epoch - first
        eta_s = (time.monotonic() - since) / done * (group.epochs - group.epoch) if done else None
        self._states[key] = replace(group, host=host, eta_s=eta_s)

    def write_if_due(self, eta_s: Callable[[], float | None], proposals_left: int) -> None:
        """Write the file where enough time has passed."""
        if time.monotonic() - self._written >= WRITE_INTERVAL_S:
            self.write(eta_s(), proposals_left)

    def write(self, eta_s: float | None, proposals_left: int, *, ended: bool = False) -> None:
        """Write the file."""
        self._written = time.monotonic()
        progress = SweepProgress(
            socket.gethostname(),
            os.getpid(),
            self._started_at,
            time.time(),
            ended,
            eta_s,
            proposals_left,
            tuple(self._states.values()),
        )
        write_text(self._paths.progress, json.dumps(as_dict(progress)) + "\n")


def read_progress(paths: RunPaths) -> SweepProgress | None:
    """Read the file; None where no driver has written one, or it is damaged."""
    return read_if_whole(SweepProgress, paths.progress)
