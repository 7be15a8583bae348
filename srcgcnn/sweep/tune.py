"""A plan on Ray Tune: one Tune trial is one group. Tune schedules and retries; it remembers nothing (docs/design.md).

Results, checkpoints and failures are files that the workers write. The driver listens, shows progress and is the only
writer to MLflow.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune import Callback, FailureConfig, RunConfig, TuneConfig, Tuner

from srcgcnn.files import write_text
from srcgcnn.sweep.failures import write_failure
from srcgcnn.sweep.paths import RunPaths
from srcgcnn.sweep.plan import Plan, TrialGroup
from srcgcnn.sweep.results import read_result
from srcgcnn.sweep.retries import JUDGE_AFTER_S, RetryBudget, alive_ray_nodes
from srcgcnn.sweep.stopping import (
    NODE_STORE,
    HandedBackError,
    counted_as_running,
    fits_time_left,
    stop_asked,
    take_no_more,
)
from srcgcnn.training.epoch import EpochReport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from srcgcnn.sweep.display import SweepDisplay
    from srcgcnn.tracking.writer import MlflowWriter
    from srcgcnn.training.trial import TrialConfig

DIED = "the worker process died: killed, out of memory, or crashed"
REASON_CHARACTERS = 500
REPORT_INTERVAL_S = 2.0  # Tune's documented limit is 50 to 100 reports a second in all; epochs are sent in batches


@dataclass(frozen=True)
class GroupResources:
    """What one group gets, and how its worker behaves.

    Attributes:
        cpus: cores, and threads of torch.
        gpus: devices, or a share of one.
        max_retries: how often a group that failed starts again from its checkpoint; lost nodes are not counted.
        checkpoint_interval_s: time between checkpoints.
        nodes_come_and_go: a process that died may have died with its node: judge it only when the node is seen to live.
    """

    cpus: int = 1
    gpus: float = 0.0
    max_retries: int = 3
    checkpoint_interval_s: float = 30.0
    nodes_come_and_go: bool = False


@dataclass(frozen=True)
class SweepEnd:
    """How a run of the driver ended.

    Attributes:
        finished: trials that have a result now and had none before.
        failed: trial key -> label and reason.
        interrupted: Ctrl-C, or a request to stop, before all was done.
    """

    finished: int
    failed: dict[str, tuple[str, str]]
    interrupted: bool


def run_on_tune(
    plan: Plan,
    store_folder: Path,
    paths: RunPaths,
    resources: GroupResources,
    writer: MlflowWriter,
    display: SweepDisplay,
    train: Callable[[dict[str, Any]], None] | None = None,
) -> SweepEnd:
    """Run all groups of a plan on the connected Ray cluster, which may grow and shrink meanwhile.

    Args:
        plan: what is left to train.
        store_folder: the graphs.
        paths: the sweep's folder.
        resources: what a group gets.
        writer: MLflow.
        display: the terminal.
        train: what workers do with a group, default `train_in_worker`; benchmarks of the driver give less work.
    """
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # Tune's own banner; the display is ours
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # results are our files, not Tune's CSV and TensorBoard
    os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
    groups = {group.key: group for group in plan.groups}
    for key in groups:
        paths.given_up(key).unlink(missing_ok=True)
    judge_after_s = JUDGE_AFTER_S if resources.nodes_come_and_go else 0.0
    budget = RetryBudget(resources.max_retries, alive_ray_nodes, judge_after_s)
    listener = DriverCallback(groups, paths, writer, display, budget)
    constants = {
        "store": str(store_folder.resolve()),
        "out": str(paths.out.resolve()),
        "cpus": resources.cpus,
        "checkpoint_interval_s": resources.checkpoint_interval_s,
    }
    todo = list(groups.values())
    while todo:
        _fit(
            [{**group.to_dict(), "expected_s": plan.expected_seconds(group)} for group in todo],
            constants,
            paths,
            resources,
            listener,
            train or train_in_worker,
        )
        todo = listener.take_lost()
    return listener.end()


def _fit(
    groups: list[dict[str, Any]],
    constants: dict[str, Any],
    paths: RunPaths,
    resources: GroupResources,
    listener: DriverCallback,
    train: Callable[[dict[str, Any]], None],
) -> None:
    """Give groups to Tune once."""
    tuner = Tuner(
        tune.with_resources(train, {"cpu": resources.cpus, "gpu": resources.gpus}),
        param_space={"group": tune.grid_search(groups), **constants},
        tune_config=TuneConfig(
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
            reuse_actors=True,  # the next group skips the import of torch
        ),
        run_config=RunConfig(
            name="tune",
            storage_path=str(paths.tune.resolve()),
            callbacks=[listener],
            failure_config=FailureConfig(max_failures=-1),  # srcgcnn.sweep.retries decides
            verbose=0,
        ),
    )
    tuner.fit()


def _trial_name(trial: Any) -> str:
    """Name Tune's trial by the group's key, so that its folder and its logs are found by it."""
    return str(trial.config["group"]["key"])


def train_in_worker(config: dict[str, Any]) -> None:
    """Tune's trainable: one group, from its checkpoint if there is one, to its result files."""
    group, paths = TrialGroup.from_dict(config["group"], "the group sent by the driver"), RunPaths(Path(config["out"]))
    reporter = _Reporter()
    if not paths.given_up(group.key).exists():
        _hand_back_where_time_is_short(config["group"]["expected_s"])
        with counted_as_running():
            _train(group, paths, config, reporter)
    reporter.flush()


def _hand_back_where_time_is_short(expected_s: float | None) -> None:
    if not fits_time_left(expected_s):
        take_no_more()
    elif not stop_asked():
        return
    time.sleep(1.0)  # a node that leaves may be offered work until Ray has heard of it
    raise HandedBackError("this node is about to leave")


def _train(group: TrialGroup, paths: RunPaths, config: dict[str, Any], reporter: _Reporter) -> None:
    import torch

    from srcgcnn.sweep.worker import run_group
    from srcgcnn.training.group import InterruptedGroupError

    torch.set_num_threads(config["cpus"])
    try:
        run_group(
            group,
            Path(os.environ.get(NODE_STORE) or config["store"]),
            paths,
            checkpoint_interval_s=config["checkpoint_interval_s"],
            on_epoch=reporter.add,
            should_stop=stop_asked,
        )
    except InterruptedGroupError as stopped:
        raise HandedBackError(str(stopped)) from None
    except ValueError as error:  # what was asked for cannot be trained; another attempt would say the same
        for trial in group.trials:
            write_failure(paths, trial, str(error))


class _Reporter:
    """Sends epochs to the driver in batches."""

    def __init__(self) -> None:
        self._waiting: list[dict[str, Any]] = []
        self._sent = 0.0

    def add(self, reports: list[Any]) -> None:
        """Queue one epoch of all members; send when enough time has passed."""
        self._waiting += [asdict(report) for report in reports]
        if time.monotonic() - self._sent >= REPORT_INTERVAL_S:
            self.flush()

    def flush(self) -> None:
        """Send what waits."""
        tune.report({"epochs": self._waiting})
        self._waiting, self._sent = [], time.monotonic()


class DriverCallback(Callback):
    """Hears of every group; tells the display and MLflow."""

    def __init__(
        self,
        groups: Mapping[str, TrialGroup],
        paths: RunPaths,
        writer: MlflowWriter,
        display: SweepDisplay,
        budget: RetryBudget,
    ) -> None:
        self._groups, self._paths, self._writer, self._display = dict(groups), paths, writer, display
        self._budget = budget
        self._running: set[str] = set()
        self._lost: list[TrialGroup] = []
        self._concluded: set[str] = set()
        self._backlog = (-1, -1)
        self._finished: set[str] = set()
        self._failed: dict[str, tuple[str, str]] = {}

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Judge failures whose cause was not known at once, and tell workers how much is left."""
        self._budget.settle()
        self._report_backlog()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Open the MLflow runs of a group."""
        group = self._group(trial)
        if group.key not in self._running:
            self._running.add(group.key)
            self._display.group_started(group)
        for config in group.trials:
            self._writer.trial_started(config)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Pass epochs on."""
        reports = [EpochReport(**row) for row in result.get("epochs", [])]
        self._display.epochs(reports)
        for key in dict.fromkeys(report.key for report in reports):
            self._writer.trial_progress(key, [report for report in reports if report.key == key])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Read what the worker wrote."""
        self._conclude(trial, "the worker ended without a result")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A group failed and is tried again, unless it failed too often: then its next start finds the mark."""
        group = self._group(trial)
        self._stopped(group)
        self._judge(group, trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A group could not even start, and Tune drops it. The others go on; it gets another round."""
        group = self._group(trial)
        self._judge(group, trial)
        if self._budget.spent(group.key):
            self._conclude(trial, "", _error_text(trial))
        else:
            self._stopped(group)
            self._lost.append(group)

    def take_lost(self) -> list[TrialGroup]:
        """Return the groups that need another round."""
        lost, self._lost = self._lost, []
        return lost

    def _judge(self, group: TrialGroup, trial: Any) -> None:
        """Count the failure; where it was one too many, write down why."""
        self._budget.failed(group.key, trial.get_pickled_error(), trial.node_ip or "")
        if self._budget.spent(group.key):
            self._write_down(group, _error_text(trial))
            write_text(self._paths.given_up(group.key), "")

    def _write_down(self, group: TrialGroup, log: str) -> None:
        for config in group.trials:
            if not self._paths.result(config.key).exists():
                log_path = self._paths.failure_log(config.key)
                write_text(log_path, log)
                write_failure(self._paths, config, _reason(log), str(log_path))

    def _conclude(self, trial: Any, reason: str, log: str = "") -> None:
        group = self._group(trial)
        self._stopped(group)
        self._concluded.add(group.key)
        self._paths.given_up(group.key).unlink(missing_ok=True)
        for config in group.trials:
            path = self._paths.result(config.key)
            if path.exists():
                result = read_result(path)
                self._finished.add(config.key)
                self._display.trial_finished(result)
                self._writer.trial_finished(result)
            else:
                self._record_failure(config, reason, log)

    def _record_failure(self, config: TrialConfig, reason: str, log: str) -> None:
        """Write why a trial has no result, or read it where the worker wrote it; keep Tune's traceback beside."""
        path, log_path = self._paths.failure(config.key), self._paths.failure_log(config.key)
        if log:
            write_text(log_path, log)
            write_failure(self._paths, config, _reason(log), str(log_path))
        elif not path.exists():
            write_failure(self._paths, config, reason)
        reason = json.loads(path.read_text(encoding="utf-8"))["reason"]
        self._failed[config.key] = (config.label, reason)
        self._display.trial_failed(config.label, reason, str(log_path) if log_path.exists() else "")
        self._writer.trial_failed(config.key, reason)

    def _report_backlog(self) -> None:
        now = (len(self._groups) - len(self._running) - len(self._concluded), len(self._running))
        if now != self._backlog and self._paths.launch.is_dir():  # only jobs of a cluster want to know
            self._backlog = now
            write_text(self._paths.backlog, json.dumps({"waiting": now[0], "running": now[1]}))

    def _stopped(self, group: TrialGroup) -> None:
        if group.key in self._running:
            self._running.remove(group.key)
            self._display.group_stopped(group)

    def _group(self, trial: Any) -> TrialGroup:
        return self._groups[trial.config["group"]["key"]]

    def __getstate__(self) -> dict[str, Any]:
        """Leave nothing in the copy that Tune saves for its own restore, which this project does not use."""
        return {}

    def end(self) -> SweepEnd:
        """Sum up. Trials with neither result nor failure mean that somebody stopped the sweep."""
        total = sum(len(group.trials) for group in self._groups.values())
        missing = total - len(self._finished) - len(self._failed)
        return SweepEnd(len(self._finished), dict(self._failed), interrupted=missing > 0)


def _error_text(trial: Any) -> str:
    """Return the traceback that Tune saved; Ray's folder, where it lies, goes with the sweep."""
    path = Path(trial.error_file) if trial.error_file else None
    return path.read_text(encoding="utf-8") if path and path.exists() else DIED


def _reason(log: str) -> str:
    """Return the last line of a traceback, and Ray's long text on lost processes in a few words."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if not lines or "worker process has died" in lines[-1]:
        return DIED
    return lines[-1][:REASON_CHARACTERS]
