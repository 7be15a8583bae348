"""What the groups of this driver use, added up while they train; and the end of a budget."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from srcgcnn.driver.state import Listener
from srcgcnn.files import write_text
from srcgcnn.run.spent import read_spent, write_spent

if TYPE_CHECKING:
    from srcgcnn.driver.state import SweepState
    from srcgcnn.run.paths import RunPaths

WRITE_INTERVAL_S = 5.0


class Spending(Listener):
    """Counts the time of running groups; if a budget is used up, groups that start find a mark and do not train.

    Args:
        paths: the sweep's folder.
        state: counts the groups that train; no more are taken when the budget is used up.
        cpus: cores of one group.
        gpus: devices of one group.
        budget_hours: GPU-hours of the whole sweep, earlier runs counted; core-hours if groups have no GPU.
    """

    def __init__(
        self, paths: RunPaths, state: SweepState, cpus: float, gpus: float, budget_hours: float | None
    ) -> None:
        self._paths, self._state = paths, state
        self._cpus, self._gpus, self._budget_hours = cpus, gpus, budget_hours
        self._spent, self._groups = read_spent(paths), 0
        self._at = self._written = time.monotonic()
        paths.budget_used.unlink(missing_ok=True)
        self.tick(0)
        state.closed = self.budget_used  # before a group is asked for

    @property
    def budget_used(self) -> bool:
        """Whether the budget is used up."""
        used = self._spent.gpu_hours if self._gpus else self._spent.core_hours
        return self._budget_hours is not None and used >= self._budget_hours

    def ticked(self) -> None:
        """Add the time since the last call."""
        self.tick(self._state.phases["running"])
        self._state.closed = self.budget_used

    def tick(self, running: int) -> None:
        """Charge the time since the last call to the groups that ran then; `running` is their number from now on."""
        now = time.monotonic()
        seconds, self._at = (now - self._at) * self._groups, now
        self._spent, self._groups = self._spent.plus(seconds, self._gpus, self._cpus), running
        if self.budget_used and not self._paths.budget_used.exists():
            write_text(self._paths.budget_used, budget_text(self._budget_hours or 0.0, self._gpus) + "\n")
        if now - self._written >= WRITE_INTERVAL_S:
            self.write()

    def end(self) -> None:
        """Write down what was used to the end."""
        self.tick(0)
        self.write()

    def write(self) -> None:
        """Write down what was used."""
        self._written = time.monotonic()
        with suppress(OSError):  # a full disk: next time
            write_spent(self._paths, self._spent)


def budget_text(budget_hours: float, gpus: float) -> str:
    """Say that a budget is used up."""
    return f"the budget of {budget_hours:g} {'GPU' if gpus else 'core'}-hours is used up"
