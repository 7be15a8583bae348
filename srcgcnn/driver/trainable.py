"""What Ray Tune runs in a worker process: one group, its log, and reports to the driver."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from srcgcnn.driver.group_log import GroupLog, group_log
from srcgcnn.driver.payload import read_sent
from srcgcnn.driver.preemption import (
    NODE_STORE,
    HandedBackError,
    counted_as_running,
    fits_time_left,
    stop_asked,
    take_no_more,
)
from srcgcnn.driver.rungs import rung_error
from srcgcnn.driver.usage import UsageMeter
from srcgcnn.run.failures import write_failure
from srcgcnn.run.paths import RunPaths
from srcgcnn.sweep.early_stopping import EPOCH, ERROR
from srcgcnn.sweep.plan import TrialGroup

if TYPE_CHECKING:
    from srcgcnn.training.epoch import EpochReport
    from srcgcnn.training.progress import GroupProgress

ENDED = "ended"
DECLINED = "declined"
REPORT_INTERVAL_S = 2.0  # Tune's documented limit is 50 to 100 reports a second in all; epochs are sent in batches


def train_in_worker(config: dict[str, Any]) -> None:
    """Tune's trainable: one group, from its checkpoint if there is one, to its result files."""
    sent, paths = read_sent(config), RunPaths(Path(config["out"]))
    group = TrialGroup.from_dict(sent, "the group sent by the driver")
    reporter = _Reporter()
    if paths.budget_used.exists():
        reporter.decline()
        return
    if not paths.given_up(group.key).exists():
        _hand_back_where_time_is_short(sent["expected_s"])
        with counted_as_running(), group_log(paths, group) as log:
            _train(group, paths, config, reporter, log)
    reporter.end()


def _hand_back_where_time_is_short(expected_s: float | None) -> None:
    if not fits_time_left(expected_s):
        take_no_more()
    elif not stop_asked():
        return
    time.sleep(1.0)  # a node that leaves may be offered work until Ray has heard of it
    raise HandedBackError("this node is about to leave")


def _train(group: TrialGroup, paths: RunPaths, config: dict[str, Any], reporter: _Reporter, log: GroupLog) -> None:
    import torch

    from srcgcnn.driver.worker import run_group, run_in_parts
    from srcgcnn.training.trainer import InterruptedGroupError

    def after_epoch(reports: list[EpochReport]) -> None:
        log.epoch(reports)
        reporter.add(reports)

    def run(some: TrialGroup) -> None:
        run_group(
            some,
            Path(os.environ.get(NODE_STORE) or config["store"]),
            paths,
            checkpoint_interval_s=config["checkpoint_interval_s"],
            on_epoch=after_epoch,
            should_stop=stop_asked,
            rungs=config["rungs"],
            on_rung=reporter.rung,
        )

    torch.set_num_threads(config["cpus"])
    try:
        if config["rungs"]:  # a scheduler judges all members together
            run(group)
        else:
            run_in_parts(group, paths, run, log.say)
    except InterruptedGroupError as stopped:
        raise HandedBackError(str(stopped)) from None
    except ValueError as error:  # what was asked for cannot be trained; another attempt would say the same
        log.say(f"cannot be trained: {error}")
        for trial in group.trials:
            write_failure(paths, trial, str(error))


class _Reporter:
    """Sends epochs to the driver in batches, and now and then what the machine does."""

    def __init__(self) -> None:
        self._waiting: list[dict[str, Any]] = []
        self._sent = 0.0
        self._usage = UsageMeter()

    def add(self, reports: list[EpochReport]) -> None:
        """Queue one epoch of all members; send when enough time has passed."""
        self._waiting += [asdict(report) for report in reports]
        if time.monotonic() - self._sent >= REPORT_INTERVAL_S:
            self._send()

    def rung(self, progress: GroupProgress, rung: int) -> None:
        """Report a rung. Where the scheduler stops the group, this does not return (SystemExit)."""
        curves = [member.val_error for member in progress.members]
        sound = [member.val_error for member in progress.members if not member.fault or len(member.val_error) >= rung]
        if sound:
            self._send({EPOCH: rung, ERROR: rung_error(sound, rung), "curves": curves})

    def end(self) -> None:
        """Send what waits, and that the group came to its end."""
        self._send({ENDED: True})

    def decline(self) -> None:
        """Say that the group was not taken."""
        self._send({DECLINED: True})

    def _send(self, more: dict[str, Any] | None = None) -> None:
        tune.report({"epochs": self._waiting, "usage": self._usage.look_if_due(), **(more or {})})
        self._waiting, self._sent = [], time.monotonic()
