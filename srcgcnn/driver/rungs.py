"""Judging variants at rungs: the schedulers of Ray Tune, given first what earlier runs of the sweep reached there.

Tune's own memory goes with the driver. Curves are on disk, in the files of finished and of stopped trials, and a group
that continues from its checkpoint reports its rungs again. So one worker judges as if nothing had been interrupted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from srcgcnn.run.folder import open_run
from srcgcnn.run.stopped import read_stopped
from srcgcnn.sweep.early_stopping import EPOCH, ERROR

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from srcgcnn.run.folder import Run
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.run.trial import TrialConfig, Variant
    from srcgcnn.sweep.early_stopping import SchedulerSpec
    from srcgcnn.sweep.plan import Plan

Reached = dict[int, float]  # rung -> error of one variant


@dataclass(frozen=True)
class _EarlierTrial:
    """Stands for a variant of an earlier run where Tune expects a trial: its schedulers ask for the id only."""

    trial_id: str


def rung_error(curves: Iterable[Sequence[float]], rung: int) -> float:
    """Return what a variant is judged by: the mean over its members of the best validation error so far."""
    return fmean(min(curve[:rung]) for curve in curves)


def reached_before(plan: Plan, folder: Run | RunPaths) -> list[Reached]:
    """Return what the variants of a plan reached at its rungs, from the files of finished and of stopped trials."""
    rungs = plan.spec.scheduler.rungs(plan.spec.training.epochs)
    run = open_run(folder)
    curves: dict[Variant, list[Sequence[float]]] = {}
    for trial in plan.trials if rungs else ():
        if curve := _curve_of(trial, run):
            curves.setdefault(trial.variant, []).append(curve)
    return [
        {rung: rung_error(errors, rung) for rung in rungs if rung <= max(map(len, errors))}
        for errors in curves.values()
    ]


def _curve_of(trial: TrialConfig, run: Run) -> Sequence[float]:
    if result := run.result(trial.key):
        return result.curves.val_error
    stopped = read_stopped(run.paths, trial.key)
    return stopped.curve if stopped else ()


def tune_scheduler(spec: SchedulerSpec, epochs: int, before: Iterable[Reached] = ()) -> TrialScheduler:
    """Return the scheduler of Ray Tune, which knows what other variants reached before."""
    if not spec.rungs(epochs):
        return FIFOScheduler()
    scheduler = _asha(spec, epochs) if spec.kind == "asha" else RungMedian(spec.grace_epochs)
    for number, reached in enumerate(before):
        for rung, error in reached.items():  # complete: counted, and not judged
            earlier: Any = _EarlierTrial(f"earlier-{number}")
            nobody: Any = None
            scheduler.on_trial_add(nobody, earlier)
            scheduler.on_trial_complete(nobody, earlier, {EPOCH: rung, ERROR: error})
    return scheduler


def _asha(spec: SchedulerSpec, epochs: int) -> TrialScheduler:
    return ASHAScheduler(
        EPOCH,
        ERROR,
        "min",
        max_t=epochs,
        grace_period=spec.grace_epochs,
        reduction_factor=spec.reduction_factor,
        stop_last_trials=False,  # the worker has its result to write
    )


class RungMedian(MedianStoppingRule):
    """Ray's median rule with every rung of a trial counted once, as its ASHA does.

    Tune hands on the last report of a trial again when the trial completes, and a group that resumes reports its
    rungs again.
    """

    def __init__(self, grace_epochs: int) -> None:
        # by default it pauses trials while it knows too little: theirs would start again in another process
        never: Any = math.inf
        super().__init__(EPOCH, ERROR, "min", grace_period=grace_epochs, min_time_slice=never)
        self._reported: set[tuple[str, int]] = set()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Judge a trial at a rung."""
        new = self._is_new(trial, result)
        return super().on_trial_result(tune_controller, trial, result) if new else TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Record a rung without judging."""
        if self._is_new(trial, result):
            super().on_trial_complete(tune_controller, trial, result)

    def _is_new(self, trial: Any, result: dict[str, Any]) -> bool:
        report = (trial.trial_id, result.get(EPOCH, 0))
        new = EPOCH in result and report not in self._reported
        self._reported.add(report)
        return new
