"""A plan on Ray Tune: one Tune trial is one group. Tune schedules and retries; it remembers nothing (docs/design.md).

Results, checkpoints and failures are files that the workers write. The driver listens, shows progress and is the only
writer to MLflow.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune import Callback, FailureConfig, RunConfig, TuneConfig, Tuner

from srcgcnn.driver.group_searcher import GroupSearcher
from srcgcnn.driver.payload import as_sent, read_sent, sent_key
from srcgcnn.driver.progress import ProgressFile
from srcgcnn.driver.retries import JUDGE_AFTER_S, RetryBudget, alive_ray_nodes
from srcgcnn.driver.rungs import reached_before, tune_scheduler
from srcgcnn.driver.spending import Spending
from srcgcnn.driver.trainable import DECLINED, ENDED, train_in_worker
from srcgcnn.driver.trial_error import error_text, reason_of, take_error
from srcgcnn.files import KeptFiles, write_text
from srcgcnn.run.failures import write_failure
from srcgcnn.run.results import find_result
from srcgcnn.run.stopped import Stopped, write_stopped
from srcgcnn.sweep.early_stopping import ERROR
from srcgcnn.training.epoch import EpochReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from srcgcnn.driver.display import SweepDisplay
    from srcgcnn.driver.progress import State
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.run.trial import TrialConfig
    from srcgcnn.sweep.plan import Plan, TrialGroup
    from srcgcnn.sweep.search import Search
    from srcgcnn.tracking.writer import MlflowWriter


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
        stopped: trials that a scheduler stopped early.
    """

    finished: int
    failed: dict[str, tuple[str, str]]
    interrupted: bool
    stopped: int = 0


def run_on_tune(
    plan: Plan,
    store_folder: Path,
    paths: RunPaths,
    resources: GroupResources,
    writer: MlflowWriter,
    display: SweepDisplay,
    train: Callable[[dict[str, Any]], None] | None = None,
    budget_hours: float | None = None,
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
        budget_hours: of the whole sweep, see `Spending`; no new group is taken when they are used.
    """
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # Tune's own banner; the display is ours
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # results are our files, not Tune's CSV and TensorBoard
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"  # schedulers hear of rungs only, not of every report
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "1e9"  # Tune's own restore is not used
    os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
    search = None
    if plan.spec.search.proposes:
        from srcgcnn.sweep.search import Search

        search = Search(plan, paths)
    judge_after_s = JUDGE_AFTER_S if resources.nodes_come_and_go else 0.0
    budget = RetryBudget(resources.max_retries, alive_ray_nodes, judge_after_s)
    spending = Spending(paths, resources.cpus, resources.gpus, budget_hours)
    listener = DriverCallback(plan, paths, writer, display, budget, search, spending)
    constants = {
        "store": str(store_folder.resolve()),
        "out": str(paths.out.resolve()),
        "cpus": resources.cpus,
        "checkpoint_interval_s": resources.checkpoint_interval_s,
        "rungs": plan.spec.scheduler.rungs(plan.spec.training.epochs),
    }
    todo = list(plan.groups)
    while todo or (search and not search.over):
        _fit(plan, todo, constants, paths, resources, listener, train or train_in_worker)
        todo = listener.take_lost()
        if listener.interrupted(todo):
            break
    return listener.end()


def _fit(
    plan: Plan,
    groups: list[TrialGroup],
    constants: dict[str, Any],
    paths: RunPaths,
    resources: GroupResources,
    listener: DriverCallback,
    train: Callable[[dict[str, Any]], None],
) -> None:
    """Give groups to Tune once: those of a grid all at the start, those of a search as they are proposed."""
    asked = GroupSearcher(plan, listener, constants) if plan.spec.search.proposes else None
    grid = {"group": tune.grid_search([as_sent(plan, group) for group in groups]), **constants}
    tuner = Tuner(
        tune.with_resources(train, {"cpu": resources.cpus, "gpu": resources.gpus}),
        param_space={} if asked else grid,
        tune_config=TuneConfig(
            search_alg=asked,
            num_samples=-1 if asked else 1,
            scheduler=tune_scheduler(plan.spec.scheduler, plan.spec.training.epochs, reached_before(plan, paths)),
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
            reuse_actors=True,  # the next group skips the import of torch
        ),
        run_config=RunConfig(
            name="tune",
            storage_path=str(paths.tune.resolve()),
            callbacks=[listener],
            failure_config=FailureConfig(max_failures=-1),  # srcgcnn.driver.retries decides
            verbose=0,
        ),
    )
    tuner.fit()


def _trial_name(trial: Any) -> str:
    """Name Tune's trial for people, and by the group's key, so that its folder and its logs are found by both."""
    sent = read_sent(trial.config)
    return f"{''.join(char if char.isalnum() or char in '-=.' else '_' for char in sent['label'])[:60]}_{sent['key']}"


class DriverCallback(Callback):
    """Hears of every group; tells the display and MLflow."""

    def __init__(
        self,
        plan: Plan,
        paths: RunPaths,
        writer: MlflowWriter,
        display: SweepDisplay,
        budget: RetryBudget,
        search: Search | None,
        spending: Spending,
    ) -> None:
        self._plan, self._paths, self._writer, self._display = plan, paths, writer, display
        self._budget, self._search, self._spending = budget, search, spending
        self._groups: dict[str, TrialGroup] = {}
        self._progress = ProgressFile(paths, ())
        self._add(plan.groups)
        self._running: set[str] = set()
        self._lost: list[TrialGroup] = []
        self._concluded: set[str] = set()
        self._declined: set[str] = set()
        self._kept = KeptFiles()
        if paths.spec.is_file():
            self._kept.keep(paths.spec)
        self._backlog = (-1, -1)
        self._finished: set[str] = set()
        self._failed: dict[str, tuple[str, str]] = {}
        self._stopped_early: set[str] = set()

    def _add(self, groups: Iterable[TrialGroup]) -> None:
        for group in groups:
            self._groups[group.key] = group
            self._paths.given_up(group.key).unlink(missing_ok=True)
        self._progress.add(groups)

    def take_proposed(self) -> list[TrialGroup]:
        """Return groups that a search has proposed by now."""
        groups = self._search.advance() if self._search else []
        self._add(groups)
        self._display.add(groups)
        return groups

    @property
    def budget_used(self) -> bool:
        """Whether no new group is to be taken."""
        return self._spending.budget_used

    @property
    def search_over(self) -> bool:
        """Whether nothing more will be proposed, and all proposals have ended."""
        return self._search is None or self._search.over

    @property
    def _proposals_left(self) -> int:
        return self._search.left if self._search else 0

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Judge failures whose cause was not known at once, and tell workers how much is left."""
        self._budget.settle()
        self._spending.tick(len(self._running))
        self._kept.mend_if_due()
        self._report_backlog()
        self._progress.write_if_due(self._display.remaining_s, self._proposals_left)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Open the MLflow runs of a group."""
        group = self._group(trial)
        if group.key not in self._running:
            self._running.add(group.key)
            self._display.group_started(group)
            self._progress.set_state(group.key, "running")
        for config in group.trials:
            self._writer.trial_started(config)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Pass epochs on, and what the worker's machine does."""
        reports = [EpochReport(**row) for row in result.get("epochs", [])]
        self._display.epochs(reports)
        self._progress.heard(self._group(trial).key, reports, str(result.get("hostname", "")))
        for key in dict.fromkeys(report.key for report in reports):
            self._writer.trial_progress(key, [report for report in reports if report.key == key])
        if usage := result.get("usage"):
            for config in self._group(trial).trials:
                self._writer.trial_usage(config.key, usage)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Read what the worker wrote; a worker that did not come to its end was stopped by the scheduler."""
        if trial.last_result.get(DECLINED):
            group = self._group(trial)
            self._stopped(group)
            self._declined.add(group.key)
        elif self._plan.spec.scheduler.stops and not trial.last_result.get(ENDED):
            self._conclude_stopped(trial)
        else:
            self._conclude(trial, "the worker ended without a result")

    def _conclude_stopped(self, trial: Any) -> None:
        group, last = self._group(trial), trial.last_result
        self._ended(group, "stopped")
        for config, curve in zip(group.trials, last["curves"], strict=True):
            best, kind = min(curve, default=last[ERROR]), self._plan.spec.scheduler.kind
            stopped = Stopped(config, len(curve), best, tuple(curve), kind)
            write_stopped(self._paths, stopped)
            self._stopped_early.add(config.key)
            self._display.trial_stopped(stopped)
            self._writer.trial_stopped(stopped)
        self._tell_search(group)

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
            self._conclude(trial, "", error_text(trial))
        else:
            self._stopped(group)
            self._lost.append(group)

    def take_lost(self) -> list[TrialGroup]:
        """Return the groups that need another round."""
        lost, self._lost = self._lost, []
        return lost

    def interrupted(self, lost: list[TrialGroup]) -> bool:
        """Whether Tune came back, for Ctrl-C, before every group had ended or was lost: it raises nothing then."""
        return len(self._concluded) + len(lost) < len(self._groups) or not self.search_over

    def _judge(self, group: TrialGroup, trial: Any) -> None:
        """Count the failure; where it was one too many, write down why."""
        self._budget.failed(group.key, take_error(trial), trial.node_ip or "")
        if self._budget.spent(group.key):
            self._write_down(group, error_text(trial))
            write_text(self._paths.given_up(group.key), "")

    def _write_down(self, group: TrialGroup, log: str) -> None:
        for config in group.trials:
            if not self._paths.result(config.key).exists():
                log_path = self._paths.failure_log(config.key)
                write_text(log_path, log)
                write_failure(self._paths, config, reason_of(log), str(log_path))

    def _conclude(self, trial: Any, reason: str, log: str = "") -> None:
        group = self._group(trial)
        there = {config.key for config in group.trials if self._paths.result(config.key).exists()}
        results = {config.key: find_result(self._paths.result(config.key)) for config in group.trials}
        if any(results[key] is None for key in there):  # damaged since: set aside, and trained again
            self._stopped(group)
            self._lost.append(group)
            return
        self._ended(group, "finished" if all(results.values()) else "failed")
        for config in group.trials:
            result = results[config.key]
            if result is not None:
                self._finished.add(config.key)
                self._display.trial_finished(result)
                self._writer.trial_finished(result)
            else:
                self._record_failure(config, reason, log)
        self._tell_search(group)

    def _ended(self, group: TrialGroup, state: State) -> None:
        self._stopped(group)
        self._concluded.add(group.key)
        self._progress.set_state(group.key, state)
        self._paths.given_up(group.key).unlink(missing_ok=True)

    def _tell_search(self, group: TrialGroup) -> None:
        if self._search:
            self._search.group_ended(group)

    def _record_failure(self, config: TrialConfig, reason: str, log: str) -> None:
        """Write why a trial has no result, or read it where the worker wrote it; keep Tune's traceback beside."""
        path, log_path = self._paths.failure(config.key), self._paths.failure_log(config.key)
        if log:
            write_text(log_path, log)
            write_failure(self._paths, config, reason_of(log), str(log_path))
        elif not path.exists():
            write_failure(self._paths, config, reason)
        reason = json.loads(path.read_text(encoding="utf-8"))["reason"]
        self._failed[config.key] = (config.label, reason)
        self._display.trial_failed(config.label, reason, str(log_path) if log_path.exists() else "")
        self._writer.trial_failed(config.key, reason)

    def _report_backlog(self) -> None:
        ended = len(self._concluded) + len(self._declined)
        waiting = len(self._groups) - len(self._running) - ended + self._proposals_left
        now = (waiting, len(self._running))
        if now != self._backlog and self._paths.launch.is_dir():  # only jobs of a cluster want to know
            self._backlog = now
            write_text(self._paths.backlog, json.dumps({"waiting": now[0], "running": now[1]}))
            self._kept.keep(self._paths.backlog)

    def _stopped(self, group: TrialGroup) -> None:
        if group.key in self._running:
            self._running.remove(group.key)
            self._display.group_stopped(group)
            self._progress.set_state(group.key, "waiting")

    def _group(self, trial: Any) -> TrialGroup:
        return self._groups[sent_key(trial.config)]

    def __getstate__(self) -> dict[str, Any]:
        """Leave nothing in the copy that Tune saves for its own restore, which this project does not use."""
        return {}

    def end(self) -> SweepEnd:
        """Sum up. Trials with neither result nor failure mean that somebody stopped the sweep."""
        self._spending.tick(0)
        self._spending.write()
        total = sum(len(group.trials) for group in self._groups.values())
        missing = total - len(self._finished) - len(self._failed) - len(self._stopped_early)
        self._progress.write(None, self._proposals_left, ended=True)
        interrupted = missing > 0 or not self.search_over
        return SweepEnd(len(self._finished), dict(self._failed), interrupted, len(self._stopped_early))
