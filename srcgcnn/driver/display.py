"""Progress that a person can read: a live bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from srcgcnn.terminal import duration

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from rich.console import Console

    from srcgcnn.run.stopped import Stopped
    from srcgcnn.run.trial import TrialResult
    from srcgcnn.sweep.plan import Plan, TrialGroup
    from srcgcnn.training.epoch import EpochReport

LINE_INTERVAL_S = 20.0


class SweepDisplay:
    """Trials done, running and left; the best so far; time left."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self._console = console
        self._total, self._done, self._failed, self._running, self._stopped = 0, 0, 0, 0, 0
        self._work: dict[str, float] = {}
        self._unit: dict[str, float] = {}
        self._worked: dict[str, float] = {}
        self._resumed_work: dict[str, float] = {}
        self._best: tuple[float, str] | None = None
        self._target_unit = plan.data.unit
        self._started = self._last_line = time.monotonic()
        self._live = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._live.add_task("sweep", total=None, state="")
        self.add(plan.groups)

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

    def add(self, groups: Iterable[TrialGroup]) -> None:
        """Take in groups that are to be trained."""
        for trial in (trial for group in groups for trial in group.trials):
            self._total += 1
            self._unit[trial.key] = 1.0 + trial.model.depth
            self._work[trial.key] = trial.training.epochs * self._unit[trial.key]
            self._worked[trial.key] = 0.0
        self._live.update(self._task, total=sum(self._work.values()), state=self.state())

    def group_started(self, group: TrialGroup) -> None:
        """Count a group as running."""
        self._running += len(group.trials)
        self._refresh()

    def group_stopped(self, group: TrialGroup) -> None:
        """Count a group as no longer running, for whatever reason."""
        self._running -= len(group.trials)
        self._refresh()

    def epochs(self, reports: list[EpochReport]) -> None:
        """Take in progress. Work that a checkpoint brought along does not count for the speed."""
        for report in reports:
            reached = (report.epoch + 1) * self._unit[report.key]
            self._resumed_work.setdefault(report.key, reached - self._unit[report.key])
            self._worked[report.key] = reached
        self._refresh()

    def trial_finished(self, result: TrialResult) -> None:
        """Announce a result."""
        self._done += 1
        self._worked[result.key] = self._work[result.key]
        error, text = _errors(result)
        if self._best is None or error < self._best[0]:
            self._best = (error, result.config.label)
        self._console.print(f"  done  {result.config.label:44} {text}  {result.cost.seconds:.0f} s")
        self._refresh()

    def trial_failed(self, label: str, reason: str, log: str) -> None:
        """Announce a failure."""
        self._failed += 1
        where = f"  (log: {log})" if log else ""
        self._console.print(f"  FAILED {label}: {reason.splitlines()[-1][:200]}{where}")
        self._refresh()

    def trial_stopped(self, stopped: Stopped) -> None:
        """Announce a trial that a scheduler stopped."""
        self._stopped += 1
        self._work[stopped.config.key] = self._worked[stopped.config.key]  # nothing more is to be done for it
        where = f"after {stopped.epoch} epochs at validation error {stopped.val_error:.4f}"
        self._console.print(f"  stopped early  {stopped.config.label:35} {where}")
        self._refresh()

    def state(self) -> str:
        """Return the line of numbers."""
        left = max(self._total - self._done - self._failed - self._stopped - self._running, 0)
        parts = [f"{self._done}/{self._total} done", f"{self._running} running", f"{left} left"]
        if self._failed:
            parts.append(f"{self._failed} failed")
        if self._stopped:
            parts.append(f"{self._stopped} stopped early")
        if self._best:
            parts.append(f"best validation error {self._best[0]:.4g} {self._target_unit} ({self._best[1]})")
        remaining_s = self.remaining_s()
        if remaining_s is not None:
            parts.append(f"about {duration(remaining_s)} left")
        return ", ".join(parts)

    def remaining_s(self) -> float | None:
        """Return the seconds to the end of all groups at the present speed; None where that cannot be said."""
        gained = sum(self._worked.values()) - sum(self._resumed_work.values())
        elapsed = time.monotonic() - self._started
        if gained <= 0 or elapsed < 5 or self._done + self._failed + self._stopped == self._total:
            return None
        return elapsed * (sum(self._work.values()) - sum(self._worked.values())) / gained

    def _refresh(self) -> None:
        self._live.update(self._task, completed=sum(self._worked.values()), state=self.state())
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last_line >= LINE_INTERVAL_S:
            self._last_line = now
            self._console.print(self.state())


def _errors(result: TrialResult) -> tuple[float, str]:
    metrics, unit = result.metrics, result.config.data.unit
    if metrics.val_mae is None or metrics.test_mae is None:
        accuracy = metrics.val_accuracy or 0.0
        return 1 - accuracy, f"accuracy val {accuracy:.4f} test {metrics.test_accuracy or 0.0:.4f}"
    return metrics.val_mae, f"MAE val {metrics.val_mae:.4f} test {metrics.test_mae:.4f} {unit}"
