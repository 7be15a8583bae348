"""Progress that a person can read: a live bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from srcgcnn.driver.state import Listener
from srcgcnn.terminal import duration

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

    from srcgcnn.driver.state import SweepState
    from srcgcnn.run.stopped import Stopped
    from srcgcnn.run.trial import TrialConfig
    from srcgcnn.run.trial_result import TrialResult

LINE_INTERVAL_S = 20.0
REFRESH_INTERVAL_S = 0.5
NARROW = 110  # columns; below, there is no room for the best trial next to the remaining time


class SweepDisplay(Listener):
    """Trials done, running and left; time left; the best so far."""

    def __init__(self, state: SweepState, console: Console) -> None:
        self._state, self._console = state, console
        self._last_line, self._refreshed = time.monotonic(), 0.0
        self._live = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None if console.width >= NARROW else 10),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._live.add_task("sweep", total=None, state="")

    def __enter__(self) -> SweepDisplay:
        """Start the live bar."""
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state on the screen."""
        self._refresh()
        self._live.stop()

    def trial_finished(self, result: TrialResult) -> None:
        """Announce a result."""
        self._say(f"  done  {self._state.plan.label_of(result.config)}  {_errors(result)}  {result.cost.seconds:.0f} s")

    def trial_failed(self, config: TrialConfig, reason: str, log: str) -> None:
        """Announce a failure."""
        where = f"  (log: {log})" if log else ""
        self._say(f"  FAILED {self._state.plan.label_of(config)}: {reason.splitlines()[-1][:200]}{where}")

    def trial_stopped(self, stopped: Stopped) -> None:
        """Announce a trial that a scheduler stopped."""
        where = f"after {stopped.epoch} epochs at validation error {stopped.val_error:.4f}"
        self._say(f"  stopped early  {self._state.plan.label_of(stopped.config)}  {where}")

    def ticked(self) -> None:
        """Bring the bar up to date; a line now and then if there is no bar."""
        now = time.monotonic()
        if self._console.is_terminal and now - self._refreshed >= REFRESH_INTERVAL_S:
            self._refresh()
        if not self._console.is_terminal and now - self._last_line >= LINE_INTERVAL_S:
            self._last_line = now
            self._console.print(self.line(), soft_wrap=True)

    def line(self) -> str:
        """Return the line of numbers; what matters most comes first, because a narrow terminal cuts off the end."""
        state = self._state
        parts = [f"{len(state.finished)}/{state.total} done", f"{state.running} running", f"{state.waiting} left"]
        eta_s = state.eta_s()
        if eta_s is not None:
            parts.append(f"about {duration(eta_s)} left")
        if state.failed:
            parts.append(f"{len(state.failed)} failed")
        if state.stopped:
            parts.append(f"{len(state.stopped)} stopped early")
        if state.best and self._console.width >= NARROW:
            unit = state.plan.data.unit
            parts.append(f"best validation error {state.best.error:.4g} {unit} ({state.best.label})")
        return ", ".join(parts)

    def _say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)

    def _refresh(self) -> None:
        self._refreshed = time.monotonic()
        done = sum(standing.epoch * len(standing.group.trials) for standing in self._state.groups.values())
        whole = sum(standing.epochs * len(standing.group.trials) for standing in self._state.groups.values())
        self._live.update(self._task, completed=done, total=whole or None, state=self.line())


def _errors(result: TrialResult) -> str:
    metrics, data = result.metrics, result.config.data
    if metrics.val_mae is None or metrics.test_mae is None:
        return f"accuracy val {metrics.val_accuracy or 0.0:.4f} test {metrics.test_accuracy or 0.0:.4f}"
    if not data.targets:
        return f"MAE val {metrics.val_mae:.4f} test {metrics.test_mae:.4f} {data.unit}"
    pairs = zip(result.targets, data.targets, strict=True)
    each = ", ".join(f"{one.name} {one.test_mae:.4f} {target.unit}".rstrip() for one, target in pairs)
    return f"{data.unit} val {metrics.val_mae:.4f} test {metrics.test_mae:.4f} (test MAE: {each})"
