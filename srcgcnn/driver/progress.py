"""`OUT/progress.json`: how far the running driver is, for `srcgcnn status`. Rewritten every few seconds."""

from __future__ import annotations

import json
import os
import socket
import time
from typing import TYPE_CHECKING

import psutil

from srcgcnn.driver.state import GroupPhase, Listener
from srcgcnn.files import KeptFiles, write_text
from srcgcnn.processes import started_s_after_boot
from srcgcnn.records import as_dict, read_if_whole, record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from srcgcnn.driver.state import SweepState
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.sweep.plan import TrialGroup

WRITE_INTERVAL_S = 3.0
MOST_SHARE = 50  # writing takes a fiftieth of the time at most


@record
class GroupState:
    """One group.

    Attributes:
        key: the group's key.
        label: its human-readable name.
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
    state: GroupPhase = "waiting"
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
        started_s_after_boot: when its process started; 0 in files of earlier versions.
    """

    host: str
    pid: int
    started_at: float
    updated_at: float
    ended: bool
    eta_s: float | None
    proposals_left: int
    groups: tuple[GroupState, ...]
    started_s_after_boot: float = 0.0


@record
class Backlog:
    """Groups that wait for a worker, and groups that train."""

    waiting: int
    running: int


class ProgressFile(Listener):
    """Writes the state of every group now and then; of groups that have not changed the text is kept.

    Args:
        paths: the sweep's folder.
        state: what is written.
    """

    def __init__(self, paths: RunPaths, state: SweepState) -> None:
        self._paths, self._state = paths, state
        self._texts: dict[str, str] = {}
        self._changed: set[str] = set()
        self._started_at, self._written, self._interval_s = time.time(), 0.0, WRITE_INTERVAL_S

    def groups_added(self, groups: Sequence[TrialGroup]) -> None:
        """Add waiting groups."""
        self._changed.update(group.key for group in groups)

    def group_changed(self, group: TrialGroup) -> None:
        """Rewrite this group the next time."""
        self._changed.add(group.key)

    def ticked(self) -> None:
        """Write the file when enough time has passed."""
        if time.monotonic() - self._written >= self._interval_s:
            self.write()

    def write(self, *, ended: bool = False) -> None:
        """Write the file."""
        began = time.monotonic()
        for key in self._changed:
            self._texts[key] = json.dumps(as_dict(_described(self._state, key)))
        self._changed.clear()
        left = None if ended else self._state.eta_s()
        now = SweepProgress(
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=self._started_at,
            updated_at=time.time(),
            ended=ended,
            eta_s=left,
            proposals_left=self._state.proposals_left,
            groups=(),
            started_s_after_boot=started_s_after_boot(psutil.Process()),
        )
        head = json.dumps({name: value for name, value in as_dict(now).items() if name != "groups"})
        groups = ", ".join(self._texts[key] for key in self._state.groups)
        write_text(self._paths.progress, f'{head[:-1]}, "groups": [{groups}]}}\n')
        self._written = time.monotonic()
        self._interval_s = max(WRITE_INTERVAL_S, MOST_SHARE * (self._written - began))


def _described(state: SweepState, key: str) -> GroupState:
    standing = state.groups[key]
    group = standing.group
    eta_s = state.remaining_s(standing) if standing.phase == "running" else None
    return GroupState(
        key=key,
        label=group.label,
        trials=tuple(trial.key for trial in group.trials),
        epochs=standing.epochs,
        state=standing.phase,
        host=standing.host,
        epoch=standing.epoch,
        val_error=standing.val_error,
        eta_s=eta_s,
    )


class BacklogFile(Listener):
    """Tells the jobs of a cluster how many groups wait and run; looks after this file and that of the sweep."""

    def __init__(self, paths: RunPaths, state: SweepState) -> None:
        self._paths, self._state = paths, state
        self._written: Backlog | None = None
        self._kept = KeptFiles()
        if paths.spec.is_file():
            self._kept.keep(paths.spec)

    def ticked(self) -> None:
        """Write the file when a number has changed."""
        self._kept.mend_if_due()
        state = self._state
        waiting = 0 if state.closed else state.phases["waiting"] + state.proposals_left
        now = Backlog(waiting, state.phases["running"])
        if now != self._written and self._paths.launch.is_dir():  # only jobs of a cluster read it
            self._written = now
            write_text(self._paths.backlog, json.dumps(as_dict(now)))
            self._kept.keep(self._paths.backlog)


def read_progress(paths: RunPaths) -> SweepProgress | None:
    """Read the file; None if no driver has written one, or it is damaged."""
    return read_if_whole(SweepProgress, paths.progress)
