"""The one adapter to Ray Tune: one Tune trial is one group. Tune schedules and retries; it stores nothing.

Results, checkpoints and failures are files that the workers write (docs/design.md). What Tune reports goes to the state
of the sweep, and from there to display, progress file and tracker.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune import Callback, FailureConfig, RunConfig, Stopper, TuneConfig, Tuner

from srcgcnn.driver.group_queue import GroupQueue
from srcgcnn.driver.lost_processes import lost_processes_endured
from srcgcnn.driver.payload import GroupOrder, WorkerReport, WorkerSettings, key_of
from srcgcnn.driver.retries import JUDGE_AFTER_S, RetryBudget, alive_ray_nodes
from srcgcnn.driver.rungs import reached_before, tune_scheduler
from srcgcnn.driver.trainable import train_in_worker
from srcgcnn.driver.trial_error import error_text, reason_of, take_error
from srcgcnn.files import write_text
from srcgcnn.run.failures import read_failure, write_failure
from srcgcnn.run.stopped import Stopped, write_stopped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from srcgcnn.driver.resources import GroupResources
    from srcgcnn.driver.state import GroupPhase, SweepState
    from srcgcnn.run.folder import Run
    from srcgcnn.run.trial import TrialConfig
    from srcgcnn.sweep.plan import TrialGroup

MOST_PENDING = (
    "200"  # as for a grid: each waiting group asks for a worker, and a worker that becomes free withdraws one request
)


def run_on_tune(
    state: SweepState,
    store_folder: Path,
    run: Run,
    resources: GroupResources,
    train: Callable[[dict[str, Any]], None] | None = None,
) -> bool:
    """Run all groups of a sweep on the connected Ray cluster, which may grow and shrink meanwhile.

    Args:
        state: the sweep, with what remains to be trained; it gets every event.
        store_folder: the graphs.
        run: the sweep's folder, opened.
        resources: what a group gets.
        train: what workers do with a group, default `train_in_worker`; benchmarks of the driver give less work.

    Returns:
        Whether it came to its end. False if somebody stopped it.
    """
    plan, paths = state.plan, run.paths
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # Tune's own banner; the display is ours
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # results are our files, not Tune's CSV and TensorBoard
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"  # schedulers get rungs only, not every report
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "1e9"  # Tune's own restore is not used
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", MOST_PENDING)
    os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
    search = None
    if plan.spec.search.proposes:
        from srcgcnn.sweep.search import Search

        search = Search(plan, paths)
    rungs = plan.spec.scheduler.rungs(plan.spec.training.epochs)
    settings = WorkerSettings(
        str(store_folder.resolve()), str(paths.out.resolve()), resources.cpus, resources.checkpoint_interval_s, rungs
    )
    queue = GroupQueue(state, search, settings, paths)
    judge_after_s = JUDGE_AFTER_S if resources.nodes_come_and_go else 0.0
    budget = RetryBudget(resources.max_retries, alive_ray_nodes, judge_after_s)
    tuner = Tuner(
        tune.with_resources(train or train_in_worker, {"cpu": resources.cpus, "gpu": resources.gpus}),
        tune_config=TuneConfig(
            search_alg=queue,
            num_samples=-1,
            scheduler=tune_scheduler(plan.spec.scheduler, plan.spec.training.epochs, reached_before(plan, paths)),
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
            reuse_actors=True,  # the next group skips the import of torch
        ),
        run_config=RunConfig(
            name="tune",
            storage_path=str(paths.tune.resolve()),
            callbacks=[TuneListener(state, run, budget, queue)],
            failure_config=FailureConfig(max_failures=-1),  # srcgcnn.driver.retries decides
            stop=EndOfBudget(state),
            verbose=0,
        ),
    )
    if not (state.over and queue.search_over) and not state.closed:
        with lost_processes_endured():
            tuner.fit()
    return state.over and queue.search_over


class EndOfBudget(Stopper):
    """Ends the experiment when no more groups are taken and none trains: those that wait would wait for ever."""

    def __init__(self, state: SweepState) -> None:
        self._state = state

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Stop no single trial."""
        return False

    def stop_all(self) -> bool:
        """Whether nothing is left to wait for."""
        return self._state.closed and not self._state.phases["running"]

    def __getstate__(self) -> dict[str, Any]:
        """Leave nothing in the copy that Tune saves for its own restore."""
        return {}


def _trial_name(trial: Any) -> str:
    """Name Tune's trial in readable form, and by the group's key, so that its folder and its logs are found by both."""
    order = GroupOrder.from_config(trial.config)
    label = "".join(char if char.isalnum() or char in "-=." else "_" for char in order.group.label)
    return f"{label[:60]}_{order.group.key}"


class TuneListener(Callback):
    """Turns Tune's events about its trials into events of groups."""

    def __init__(self, state: SweepState, run: Run, budget: RetryBudget, queue: GroupQueue) -> None:
        self._state, self._run, self._paths, self._budget, self._queue = state, run, run.paths, budget, queue
        self._kind = state.plan.spec.scheduler.kind
        self._addresses: dict[str, str] = {}  # last reported; Tune clears a trial's node before it tells of an error
        self._errors: dict[str, str] = {}

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Judge failures whose cause was not known immediately."""
        spent = self._budget.settle()
        for trial in trials if spent else ():
            if key_of(trial.config) in spent:
                self._give_up(trial)
        self._state.tick()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record a group that a worker has taken."""
        self._addresses.pop(key_of(trial.config), None)
        self._state.group_started(key_of(trial.config))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Pass a report on."""
        host = str(result.get("hostname", ""))
        self._addresses[key_of(trial.config)] = str(result.get("node_ip", ""))
        self._state.group_reported(key_of(trial.config), WorkerReport.from_result(result), host)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Read what the worker wrote; a worker that did not come to its end was stopped by the scheduler."""
        last = WorkerReport.from_result(trial.last_result)
        if last.declined:
            self._state.group_waits(key_of(trial.config))
        elif self._kind != "none" and not last.ended:
            self._conclude_stopped(self._group(trial), last)
        else:
            self._conclude(self._group(trial), "the worker ended without a result", ended=last.ended)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A group failed and Tune starts it again; after too many failures that start finds a mark and ends."""
        group = self._group(trial)
        self._state.group_waits(group.key)
        self._judge(group, trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A group could not even start, and Tune drops it. The others continue; it waits for another worker."""
        group = self._group(trial)
        self._judge(group, trial)
        if self._budget.spent(group.key):
            self._conclude(group, "", error_text(trial))
        else:
            self._state.group_waits(group.key)
            self._queue.put_back(group)

    def _conclude_stopped(self, group: TrialGroup, last: WorkerReport) -> None:
        self._end(group, "stopped")
        rung = last.rung
        for config, curve in zip(group.trials, rung.curves if rung else (), strict=True):
            best = min(curve, default=rung.error if rung else 0.0)
            stopped = Stopped(config, len(curve), best, curve, self._kind)
            write_stopped(self._paths, stopped)
            self._state.trial_stopped(stopped)
        self._queue.group_ended(group)

    def _judge(self, group: TrialGroup, trial: Any) -> None:
        """Count the failure; if it was one too many, write down why."""
        self._budget.failed(group.key, take_error(trial), self._addresses.pop(group.key, ""))
        self._errors[group.key] = error_text(trial)
        if self._budget.spent(group.key):
            self._give_up(trial)

    def _give_up(self, trial: Any) -> None:
        """Write down why; the next start of the group finds the mark, and is the last one if it dies before that."""
        trial.max_failures = 0
        group = self._group(trial)
        log = self._errors[group.key]
        write_text(self._paths.given_up(group.key), "")
        for config in group.trials:
            if not self._paths.result(config.key).exists():
                self._write_failure(group, config, log)

    def _conclude(self, group: TrialGroup, reason: str, log: str = "", *, ended: bool = False) -> None:
        there = {config.key for config in group.trials if self._paths.result(config.key).exists()}
        if ended:  # then its worker wrote a result or a failure of every member
            there |= {config.key for config in group.trials if not self._paths.failure(config.key).exists()}
        results = {config.key: self._run.result(config.key) for config in group.trials}
        if any(results[key] is None for key in there):  # removed or damaged since: trained again
            self._state.group_waits(group.key)
            self._queue.put_back(group)
            return
        self._end(group, "finished" if all(results.values()) else "failed")
        for config in group.trials:
            result = results[config.key]
            if result is not None:
                self._state.trial_finished(result)
            else:
                self._record_failure(group, config, reason, log)
        self._queue.group_ended(group)

    def _end(self, group: TrialGroup, phase: GroupPhase) -> None:
        self._state.group_ended(group.key, phase)
        self._paths.given_up(group.key).unlink(missing_ok=True)

    def _record_failure(self, group: TrialGroup, config: TrialConfig, reason: str, log: str) -> None:
        """Write why a trial has no result, or read it if the worker wrote it; keep Tune's traceback next to it."""
        if log:
            self._write_failure(group, config, log)
        elif not self._paths.failure(config.key).exists():
            write_failure(self._paths, config, reason, label=group.label_of(config))
        failure = read_failure(self._paths, config.key)
        self._state.trial_failed(config, failure.reason if failure else reason, failure.log if failure else "")

    def _write_failure(self, group: TrialGroup, config: TrialConfig, log: str) -> None:
        log_path = self._paths.failure_log(config.key)
        write_text(log_path, log)
        write_failure(self._paths, config, reason_of(log), str(log_path), group.label_of(config))

    def _group(self, trial: Any) -> TrialGroup:
        return self._state.groups[key_of(trial.config)].group

    def __getstate__(self) -> dict[str, Any]:
        """Leave nothing in the copy that Tune saves for its own restore, which this project does not use."""
        return {}
