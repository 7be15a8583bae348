"""The interface of an experiment tracker. MLflow is the one that ships (`srcgcnn.tracking`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from srcgcnn.driver.state import Listener

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from srcgcnn.driver.payload import WorkerReport
    from srcgcnn.run.stopped import Stopped
    from srcgcnn.run.trial import TrialConfig
    from srcgcnn.run.trial_result import TrialResult
    from srcgcnn.sweep.plan import TrialGroup
    from srcgcnn.training.epoch import EpochReport


class Tracker(Protocol):
    """Shows a sweep while it runs. It never raises: its pages can be written again from the result files."""

    def trial_started(self, config: TrialConfig) -> None:
        """A worker has taken a trial, for the first time or again."""

    def trial_progress(self, key: str, epochs: Sequence[EpochReport]) -> None:
        """A trial has got further; a resumed one reports some epochs again."""

    def trial_usage(self, key: str, values: Mapping[str, float]) -> None:
        """What the machine of a trial does, by names such as `system/cpu_utilization_percentage`."""

    def trial_finished(self, result: TrialResult) -> None:
        """A trial has a result, and its file is written."""

    def trial_failed(self, key: str, reason: str) -> None:
        """A trial has no result, and is not tried again."""

    def trial_stopped(self, stopped: Stopped) -> None:
        """A scheduler has stopped a trial."""

    def sweep_finished(self, table_markdown: str, table_csv: str, *, stopped: bool = False) -> bool:
        """Write all that is missing, and the tables; returns at the end whether everything is written.

        `stopped`: before all was done.
        """


class TrackerListener(Listener):
    """Passes what happens to trials on to a tracker."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def group_started(self, group: TrialGroup) -> None:
        """Start the trials of a group."""
        for config in group.trials:
            self._tracker.trial_started(config)

    def group_reported(self, group: TrialGroup, report: WorkerReport) -> None:
        """Pass on epochs, and what the machine does."""
        for key in dict.fromkeys(row.key for row in report.epochs):
            self._tracker.trial_progress(key, [row for row in report.epochs if row.key == key])
        if report.usage:
            for config in group.trials:
                self._tracker.trial_usage(config.key, report.usage)

    def trial_finished(self, result: TrialResult) -> None:
        """Pass it on."""
        self._tracker.trial_finished(result)

    def trial_failed(self, config: TrialConfig, reason: str, log: str) -> None:  # noqa: ARG002 - a file of OUT
        """Pass it on."""
        self._tracker.trial_failed(config.key, reason)

    def trial_stopped(self, stopped: Stopped) -> None:
        """Pass it on."""
        self._tracker.trial_stopped(stopped)
