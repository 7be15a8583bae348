"""What Ray Tune runs in a worker process: one group, its log, and reports to the driver."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from srcgcnn.data.manifest import StoreError
from srcgcnn.driver.group_log import GroupLog, group_log
from srcgcnn.driver.payload import GroupOrder, Rung, WorkerReport
from srcgcnn.driver.preemption import (
    NODE_STORE,
    HandedBackError,
    counted_as_running,
    fits_time_left,
    stop_requested,
    take_no_more,
)
from srcgcnn.driver.rungs import rung_error
from srcgcnn.driver.usage import UsageMeter
from srcgcnn.run.failures import write_failure
from srcgcnn.run.paths import RunPaths

if TYPE_CHECKING:
    from srcgcnn.sweep.plan import TrialGroup
    from srcgcnn.training.epoch import EpochReport
    from srcgcnn.training.progress import GroupProgress

TITLE = "ray::ImplicitFunc"  # Ray's own, at every report
OFFERED_AGAIN_S = 60.0
REPORT_INTERVAL_S = 2.0  # Tune's documented limit is 50 to 100 reports a second in all; epochs are sent in batches


def train_in_worker(config: dict[str, Any]) -> None:
    """Tune's trainable: one group, from its checkpoint if there is one, to its result files."""
    order = GroupOrder.from_config(config)
    group, paths = order.group, RunPaths(Path(order.settings.out))
    reporter = _Reporter(group)
    if paths.budget_used.exists():
        reporter.decline()
        return
    if not paths.given_up(group.key).exists():
        _hand_back_where_time_is_short(order.expected_s)
        with counted_as_running(), group_log(paths, group) as log:
            _train(order, paths, reporter, log)
    reporter.end()


def _hand_back_where_time_is_short(expected_s: float | None) -> None:
    if not fits_time_left(expected_s):
        take_no_more()
    elif not stop_requested():
        return
    until = time.monotonic() + OFFERED_AGAIN_S  # a node that still trains others is offered the group at once
    while not stop_requested() and time.monotonic() < until:
        time.sleep(1.0)
    raise HandedBackError("this node is about to leave")


def _train(order: GroupOrder, paths: RunPaths, reporter: _Reporter, log: GroupLog) -> None:
    import torch

    from srcgcnn.driver.worker import run_group, run_in_parts
    from srcgcnn.training.trainer import InterruptedGroupError

    group, settings = order.group, order.settings

    def after_epoch(reports: list[EpochReport]) -> None:
        log.epoch(reports)
        reporter.add(reports)

    def resumed(epochs: int) -> None:
        log.resumed(epochs)
        reporter.resumed(epochs)

    def run(some: TrialGroup) -> None:
        run_group(
            some,
            _store_of(settings.store),
            paths,
            checkpoint_interval_s=settings.checkpoint_interval_s,
            on_epoch=after_epoch,
            should_stop=stop_requested,
            rungs=settings.rungs,
            on_rung=reporter.rung,
            on_pace=reporter.pace,
            on_resume=resumed,
        )

    torch.set_num_threads(settings.cpus)
    try:
        if settings.rungs:  # a scheduler judges all members together
            run(group)
        else:
            run_in_parts(group, paths, run, log.say)
    except InterruptedGroupError as stopped:
        raise HandedBackError(str(stopped)) from None
    except StoreError:  # of this node, perhaps: another one may see the graphs
        raise
    except ValueError as error:  # the request cannot be trained; another attempt would fail in the same way
        log.say(f"cannot be trained: {error}")
        for trial in group.trials:
            if not paths.result(trial.key).exists():
                write_failure(paths, trial, str(error), label=group.label_of(trial))


def _store_of(original: str) -> Path:
    """Return the node's copy of the store, or the original if there is none (any more)."""
    copy = os.environ.get(NODE_STORE)
    return Path(copy) if copy and Path(copy).is_dir() else Path(original)


class _Reporter:
    """Sends epochs to the driver in batches, and now and then what the machine does."""

    def __init__(self, group: TrialGroup) -> None:
        self._group, self._epoch, self._resumed_after = group, 0, 0
        self._waiting: list[EpochReport] = []
        self._sent = 0.0
        self._epoch_s: float | None = None
        self._usage = UsageMeter()

    def resumed(self, epochs: int) -> None:
        """Record that the group begins after so many epochs."""
        self._epoch = self._resumed_after = epochs
        self._send_if_due()

    def add(self, reports: list[EpochReport]) -> None:
        """Queue one epoch of all members; send when enough time has passed."""
        self._waiting += reports
        self._epoch = reports[-1].epoch + 1
        self._send_if_due()
        self._entitle()

    def pace(self, epoch_s: float) -> None:
        """Record how long an epoch takes; it is first reported long before the first epoch has ended."""
        self._epoch_s = epoch_s
        if epoch_s >= REPORT_INTERVAL_S:  # otherwise the report of the epoch comes soon
            self._send_if_due()

    def rung(self, progress: GroupProgress, rung: int) -> None:
        """Report a rung. Where the scheduler stops the group, this does not return (SystemExit)."""
        curves = tuple(tuple(member.val_error) for member in progress.members)
        sound = [member.val_error for member in progress.members if not member.fault or len(member.val_error) >= rung]
        if sound:
            self._send(rung=Rung(rung, rung_error(sound, rung), curves))

    def end(self) -> None:
        """Send what is queued, and that the group came to its end."""
        self._send(ended=True)

    def decline(self) -> None:
        """Say that the group was not taken."""
        self._send(declined=True)

    def _send_if_due(self) -> None:
        if time.monotonic() - self._sent >= REPORT_INTERVAL_S:
            self._send()

    def _send(self, rung: Rung | None = None, *, ended: bool = False, declined: bool = False) -> None:
        usage = self._usage.look_if_due()
        epochs = tuple(self._waiting)
        report = WorkerReport(epochs, usage, self._epoch_s, rung, ended, declined, self._resumed_after)
        tune.report(report.as_result())
        self._waiting, self._sent = [], time.monotonic()

    def _entitle(self) -> None:
        epochs = self._group.trials[0].training.epochs
        entitle(f"{self._group.label}, epoch {self._epoch}/{epochs}")


def entitle(text: str) -> None:
    """Write into the title of this process what it does: `top` and the dashboard's list of processes show it."""
    from ray import _raylet

    with suppress(AttributeError):  # not part of what Ray promises
        _raylet.setproctitle(f"{TITLE} {text}")  # type: ignore[attr-defined]
