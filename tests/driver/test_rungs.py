"""Rungs: variants are judged alike whether the driver lived through the whole sweep or was started again meanwhile."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_results import result_of
from ray.tune.schedulers import TrialScheduler

from srcgcnn.driver.rungs import reached_before, rung_error, tune_scheduler
from srcgcnn.driver.worker import run_group
from srcgcnn.models.config import ModelConfig
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import write_result
from srcgcnn.run.stopped import Stopped, write_stopped
from srcgcnn.run.trial_result import Curves
from srcgcnn.sweep.early_stopping import EPOCH, ERROR, SchedulerSpec
from srcgcnn.sweep.plan import TrialGroup, plan_sweep
from srcgcnn.training.trainer import InterruptedGroupError
from tests.sweep.test_plan import DATA, spec_of

EPOCHS = 9


@dataclass(frozen=True)
class Trial:
    """All that schedulers ask of Tune's trials."""

    trial_id: str


def judge(scheduler, name, curve, rungs):
    """Train one variant as Tune does: a report at every rung, and the last one again at the end."""
    trial = Trial(name)
    scheduler.on_trial_add(None, trial)
    last = {}
    for rung in rungs:
        last = {EPOCH: rung, ERROR: rung_error([curve], rung)}
        if scheduler.on_trial_result(None, trial, last) == TrialScheduler.STOP:
            scheduler.on_trial_complete(None, trial, last)
            return rung
    scheduler.on_trial_result(None, trial, last)
    scheduler.on_trial_complete(None, trial, last)
    return None


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["asha", "median"]),
    errors=st.lists(st.lists(st.floats(0, 9), min_size=EPOCHS, max_size=EPOCHS), min_size=2, max_size=9),
    done=st.integers(0, 8),
)
def test_a_new_scheduler_that_is_told_of_earlier_variants_decides_as_the_old_one(kind, errors, done):
    spec = SchedulerSpec(kind, grace_epochs=2, reduction_factor=2)
    rungs = spec.rungs(EPOCHS)
    undisturbed = tune_scheduler(spec, EPOCHS)
    wanted = [judge(undisturbed, str(number), curve, rungs) for number, curve in enumerate(errors)]
    before = [
        {rung: rung_error([curve], rung) for rung in rungs if stopped is None or rung <= stopped}
        for curve, stopped in zip(errors[:done], wanted[:done], strict=True)
    ]
    restarted = tune_scheduler(spec, EPOCHS, before)
    again = [judge(restarted, f"new {number}", curve, rungs) for number, curve in enumerate(errors[done:])]
    assert again == wanted[done:]


@pytest.mark.parametrize("kind", ["asha", "median"])
def test_a_rung_that_is_told_again_counts_once(kind):
    spec = SchedulerSpec(kind, grace_epochs=2, reduction_factor=2)
    scheduler, twice = tune_scheduler(spec, EPOCHS), tune_scheduler(spec, EPOCHS)
    for number, error in enumerate((1.0, 3.0, 2.0, 8.0)):
        curve = [error / epoch for epoch in range(1, EPOCHS + 1)]
        judge(scheduler, str(number), curve, (2, 4))
        judge(twice, str(number), curve, (2, 2, 4, 2, 4))
    for error in (0.1, 0.4, 0.6, 0.7, 0.9, 5.0):
        report = {EPOCH: 4, ERROR: error}
        decisions = []
        for one in (scheduler, twice):
            one.on_trial_add(None, Trial(f"at {error}"))
            decisions.append(one.on_trial_result(None, Trial(f"at {error}"), report))
        assert decisions[0] == decisions[1]


def test_a_recipe_without_rungs_is_trained_to_its_end():
    assert judge(tune_scheduler(SchedulerSpec("asha", grace_epochs=10), 6), "a", [1.0] * 6, ()) is None


def test_what_variants_reached_is_read_from_finished_and_stopped_trials(tmp_path):
    text = "[axes]\nmodels=['srcgcnn']\ndepths=[2,3,4]\nseeds=2\n[training]\nepochs=9\n"
    text += "[scheduler]\nkind='asha'\ngrace_epochs=2\nreduction_factor=2\n"
    paths = RunPaths(tmp_path / "out")
    plan = plan_sweep(spec_of(tmp_path, text), DATA, paths)
    assert reached_before(plan, paths) == []
    by_depth = {depth: [trial for trial in plan.trials if trial.model.depth == depth] for depth in (2, 3)}
    for trial, curve in zip(by_depth[2], [(4.0, 3.0, 5.0, 2.0), (2.0, 5.0, 5.0, 1.0)], strict=True):
        write_result(paths, replace(result_of(trial), curves=Curves(curve, curve, curve)))
    for trial in by_depth[3]:
        write_stopped(paths, Stopped(trial, 2, 6.0, (7.0, 6.0), "asha"))
    assert reached_before(plan, paths) == [{2: 2.5, 4: 1.5}, {2: 6.0}]


def test_a_group_that_resumes_tells_the_rungs_that_it_passed(tmp_path, demo_store, trial_of):
    group = TrialGroup(tuple(trial_of(ModelConfig("srcgcnn", 2), seed, epochs=6) for seed in (0, 1)))
    told = []

    def train(should_stop):
        run_group(
            group,
            demo_store.folder,
            RunPaths(tmp_path),
            checkpoint_interval_s=60,
            should_stop=should_stop,
            rungs=(2, 4),
            on_rung=lambda progress, rung: told.append((rung, [len(one.val_error) for one in progress.members])),
        )

    with pytest.raises(InterruptedGroupError):
        train(lambda: bool(told))  # within the third epoch
    assert told == [(2, [2, 2])]
    train(None)
    assert told == [(2, [2, 2]), (2, [2, 2]), (4, [4, 4])]
