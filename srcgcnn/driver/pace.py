"""How fast a group trains: known after a few steps, long before its first epoch ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

WARM_STEPS = 1  # the first one allocates, and records on a GPU
TIMED_STEPS = 2
EVALUATION = 1 / 3  # of the time of a step per crystal: there is no backward


class Pace:
    """Times the first steps, then whole epochs.

    Args:
        batches: of one epoch.
        evaluated: validation crystals, in batches.
        done: batches of the first epoch that were trained before, if it resumes within an epoch.
        tell: called with the seconds of an epoch when they are first known, and after every whole epoch.
    """

    def __init__(self, batches: int, evaluated: float, tell: Callable[[float], None], done: int = 0) -> None:
        self._steps_of_epoch, self._tell = batches + EVALUATION * evaluated, tell
        self._steps, self._epoch_is_whole = 0, not done
        self._began = self._epoch_began = time.monotonic()

    def step(self) -> None:
        """Record that a step has ended."""
        self._steps += 1
        if self._steps == WARM_STEPS:
            self._began = time.monotonic()
        elif self._steps == WARM_STEPS + TIMED_STEPS:
            self._tell((time.monotonic() - self._began) / TIMED_STEPS * self._steps_of_epoch)

    def epoch(self) -> None:
        """Record that an epoch has ended."""
        now = time.monotonic()
        if self._epoch_is_whole:
            self._tell(now - self._epoch_began)
        self._epoch_began, self._epoch_is_whole = now, True
