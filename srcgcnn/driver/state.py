"""The state of a running sweep: it gets every event once; display, progress file and tracker listen and read."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from srcgcnn.sweep.cost import Timing, sweep_s

if TYPE_CHECKING:
    from collections.abc import Sequence

    from srcgcnn.driver.payload import WorkerReport
    from srcgcnn.run.stopped import Stopped
    from srcgcnn.run.trial import TrialConfig
    from srcgcnn.run.trial_result import TrialResult
    from srcgcnn.sweep.plan import Plan, TrialGroup

GroupPhase = Literal["waiting", "running", "finished", "failed", "stopped"]
ENDED: tuple[GroupPhase, ...] = ("finished", "failed", "stopped")
ESTIMATE_INTERVAL_S = 1.0  # an estimate looks at every group


class Listener:
    """Is notified of what happens to a sweep, after the state has recorded it. By default methods do nothing."""

    def groups_added(self, groups: Sequence[TrialGroup]) -> None:
        """Groups wait for a worker."""

    def group_started(self, group: TrialGroup) -> None:
        """A worker has taken a group."""

    def group_changed(self, group: TrialGroup) -> None:
        """A group changed its phase or reported progress."""

    def group_reported(self, group: TrialGroup, report: WorkerReport) -> None:
        """A worker has reported epochs, or usage of its machine."""

    def trial_finished(self, result: TrialResult) -> None:
        """A trial has a result."""

    def trial_failed(self, config: TrialConfig, reason: str, log: str) -> None:
        """A trial has no result, and is not tried again."""

    def trial_stopped(self, stopped: Stopped) -> None:
        """A scheduler has stopped a trial."""

    def ticked(self) -> None:
        """Called again and again, also when nothing happens."""


@dataclass
class GroupStanding:
    """One group.

    Attributes:
        host: the node it trains on, or trained on last.
        epoch: epochs done.
        val_error: validation error of the last epoch, mean over the members.
        epoch_s: seconds per epoch, as its worker measured them.
    """

    group: TrialGroup
    phase: GroupPhase = "waiting"
    host: str = ""
    epoch: int = 0
    val_error: float | None = None
    epoch_s: float | None = None

    @property
    def epochs(self) -> int:
        """Length of the recipe."""
        return self.group.trials[0].training.epochs


@dataclass(frozen=True)
class Best:
    """The trial with the lowest validation error so far."""

    error: float
    label: str


class SweepState:
    """All groups of one run of the driver, and what became of their trials.

    Attributes:
        groups: every group by its key, in the order in which they came.
        phases: number of groups in each phase.
        running: trials on workers.
        total: trials.
        finished: keys of trials that got a result in this run.
        failed: key -> label and reason.
        stopped: keys of trials that a scheduler stopped.
        best: the lowest validation error so far.
        proposals_left: of a search, those that are still to be made.
        closed: no more groups are taken because a budget is used up; those that train continue.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._listeners: list[Listener] = []
        self.groups: dict[str, GroupStanding] = {}
        self.phases: Counter[GroupPhase] = Counter()
        self.running = self.total = 0
        self.finished: set[str] = set()
        self.failed: dict[str, tuple[str, str]] = {}
        self.stopped: set[str] = set()
        self.best: Best | None = None
        self.proposals_left = plan.proposals_left
        self.closed = False
        self._timings: dict[object, Timing] = {}
        self._cost = plan.cost
        self._estimated_at = 0.0
        self._estimate: float | None = None
        self.add(plan.groups)

    def listen(self, listener: Listener) -> None:
        """Notify a listener of what happens from now on, waiting groups included."""
        self._listeners.append(listener)
        listener.groups_added([standing.group for standing in self.groups.values()])

    def add(self, groups: Sequence[TrialGroup]) -> None:
        """Add groups that are to be trained."""
        for group in groups:
            self.groups[group.key] = GroupStanding(group)
            self.phases["waiting"] += 1
            self.total += len(group.trials)
        for listener in self._listeners:
            listener.groups_added(groups)

    @property
    def over(self) -> bool:
        """Whether every group has ended."""
        return sum(self.phases[phase] for phase in ENDED) == len(self.groups)

    @property
    def waiting(self) -> int:
        """Trials that no worker has taken yet."""
        return max(self.total - len(self.finished) - len(self.failed) - len(self.stopped) - self.running, 0)

    def group_started(self, key: str) -> None:
        """Record that a worker has taken a group."""
        group = self._enter(key, "running")
        for listener in self._listeners:
            listener.group_started(group)

    def group_waits(self, key: str) -> None:
        """Record that a group is on no worker any more, and has not ended."""
        if self.groups[key].phase == "running":
            self._enter(key, "waiting")

    def group_ended(self, key: str, phase: GroupPhase) -> None:
        """Record that a group has ended; what became of its trials is reported one by one."""
        self._enter(key, phase)

    def _enter(self, key: str, phase: GroupPhase) -> TrialGroup:
        standing = self.groups[key]
        if standing.phase != phase:
            self.phases[standing.phase] -= 1
            self.phases[phase] += 1
            self.running += len(standing.group.trials) * ((phase == "running") - (standing.phase == "running"))
            standing.phase = phase
            for listener in self._listeners:
                listener.group_changed(standing.group)
        return standing.group

    def group_reported(self, key: str, report: WorkerReport, host: str) -> None:
        """Process what a worker reports."""
        standing = self.groups[key]
        standing.host = host or standing.host
        if report.epochs:
            standing.epoch = report.epochs[-1].epoch + 1
            last = [row.val_error for row in report.epochs if row.epoch + 1 == standing.epoch]
            standing.val_error = sum(last) / len(last)
        else:
            standing.epoch = max(standing.epoch, report.resumed_after)
        if report.epoch_s is not None:
            standing.epoch_s = report.epoch_s
            self._learn(standing)
        for listener in self._listeners:
            listener.group_reported(standing.group, report)
            listener.group_changed(standing.group)

    def trial_finished(self, result: TrialResult) -> None:
        """Record a result."""
        self.finished.add(result.key)
        if self.best is None or result.val_error < self.best.error:
            self.best = Best(result.val_error, self.plan.label_of(result.config))
        for listener in self._listeners:
            listener.trial_finished(result)

    def trial_failed(self, config: TrialConfig, reason: str, log: str) -> None:
        """Record that a trial is given up."""
        self.failed[config.key] = (self.plan.label_of(config), reason)
        for listener in self._listeners:
            listener.trial_failed(config, reason, log)

    def trial_stopped(self, stopped: Stopped) -> None:
        """Record that a scheduler stopped a trial."""
        self.stopped.add(stopped.config.key)
        for listener in self._listeners:
            listener.trial_stopped(stopped)

    def tick(self) -> None:
        """Let listeners act; called often."""
        for listener in self._listeners:
            listener.ticked()

    def _learn(self, standing: GroupStanding) -> None:
        """Remember how long a trial of this shape takes; a shape that was timed costs one number."""
        trial, members = standing.group.trials[0], len(standing.group.trials)
        known = self._timings.get(trial.shape)
        self._timings[trial.shape] = Timing(trial, (standing.epoch_s or 0.0) / members)
        if known is None:
            self._cost = self.plan.cost.with_timings(self._timings.values())

    def expected_s(self, standing: GroupStanding) -> float | None:
        """Return the seconds that a group takes from its start: its own pace, else that of its shape, else the line."""
        if standing.epoch_s is not None:
            return standing.epoch_s * standing.epochs
        timing = self._timings.get(standing.group.trials[0].shape)
        if timing is not None:
            return timing.epoch_s * standing.epochs * len(standing.group.trials)
        times = [self._cost.seconds(trial) for trial in standing.group.trials]
        known = [seconds for seconds in times if seconds is not None]
        return sum(known) if len(known) == len(times) else None

    def remaining_s(self, standing: GroupStanding) -> float | None:
        """Return the seconds to the end of a group; 0 if it has ended."""
        if standing.phase in ENDED:
            return 0.0
        expected = self.expected_s(standing)
        return None if expected is None else expected * max(1 - standing.epoch / standing.epochs, 0.0)

    def eta_s(self) -> float | None:
        """Return the seconds to the end of the sweep with as many workers as train now; None if nothing is known."""
        now = time.monotonic()
        if now - self._estimated_at >= ESTIMATE_INTERVAL_S:
            self._estimated_at, self._estimate = now, self._estimated()
        return self._estimate

    def _estimated(self) -> float | None:
        open_groups = [standing for standing in self.groups.values() if standing.phase not in ENDED]
        times = [self.remaining_s(standing) for standing in open_groups]
        known = [seconds for seconds in times if seconds is not None]
        workers = self.phases["running"]
        if not workers or len(known) < len(times):
            return None
        if self.proposals_left:  # of variants that are not known yet: as long as the known ones, on average
            whole = [self.expected_s(standing) or 0.0 for standing in self.groups.values()]
            repeats = self.plan.spec.axes[0].repeats
            known.append(sum(whole) / self.total * repeats * self.proposals_left / workers)
        return sweep_s(known, workers)
