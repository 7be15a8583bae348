"""The state of a sweep: counts, time left, and that everybody hears of everything once."""

import io
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_results import result_of
from rich.console import Console

from srcgcnn.driver.display import SweepDisplay
from srcgcnn.driver.payload import GroupOrder, Rung, WorkerReport, WorkerSettings
from srcgcnn.driver.progress import ProgressFile, read_progress
from srcgcnn.driver.state import SweepState
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import write_result
from srcgcnn.run.stopped import Stopped
from srcgcnn.sweep.plan import plan_sweep
from srcgcnn.training.epoch import EpochReport
from tests.sweep.test_plan import DATA, spec_of

TEXT = "[axes]\nmodels=['srcgcnn']\ndepths=[2,4]\nseeds=3\n[training]\nepochs=10\n"


def state_of(tmp_path, text=TEXT, group_size=1):
    return SweepState(plan_sweep(spec_of(tmp_path, text), DATA, RunPaths(tmp_path / "out"), group_size))


def report(group, epoch, epoch_s=None):
    rows = tuple(EpochReport(trial.key, epoch, 0.5, 0.25, 1e-3) for trial in group.trials)
    return WorkerReport(rows, {}, epoch_s)


def test_orders_and_reports_go_over_the_wire_unchanged(tmp_path):
    group = state_of(tmp_path, group_size=3).plan.groups[0]
    order = GroupOrder(group, 3.5, WorkerSettings("store", "out", 2, 30.0, (3, 9)))
    assert GroupOrder.from_config(order.as_config()) == order
    sent = replace(report(group, 4, 1.5), rung=Rung(3, 0.25, ((0.5, 0.25), (0.75,))), usage={"a": 1.0})
    assert WorkerReport.from_result(json.loads(json.dumps(sent.as_result()))) == sent
    assert WorkerReport.from_result({"done": True}) == WorkerReport()


@settings(max_examples=40, deadline=None)
@given(events=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["start", "lose", "end", "report"])), max_size=40))
def test_counts_agree_with_the_groups_whatever_happens(events, tmp_path_factory):
    state = state_of(tmp_path_factory.mktemp("state"))
    keys = list(state.groups)
    for place, event in events:
        standing = state.groups[keys[place]]
        if standing.phase in ("finished", "failed"):
            continue
        if event == "start":
            state.group_started(keys[place])
        elif event == "lose":
            state.group_waits(keys[place])
        elif event == "report" and standing.phase == "running":
            state.group_reported(keys[place], report(standing.group, 3), "node")
        elif event == "end":
            state.group_ended(keys[place], "finished")
            for trial in standing.group.trials:
                state.trial_finished(result_of(trial))
    phases = [standing.phase for standing in state.groups.values()]
    assert all(state.phases[phase] == phases.count(phase) for phase in ("waiting", "running", "finished"))
    assert state.running == phases.count("running")
    assert state.waiting == phases.count("waiting")
    assert state.over == (phases.count("finished") == len(phases))


def test_the_time_left_is_known_from_the_first_steps_and_the_same_everywhere(tmp_path, monkeypatch):
    state, paths = state_of(tmp_path), RunPaths(tmp_path / "out")
    monkeypatch.setattr("srcgcnn.driver.state.ESTIMATE_INTERVAL_S", 0.0)
    file = ProgressFile(paths, state)
    console = Console(file=io.StringIO(), width=80)
    state.listen(file)
    state.listen(display := SweepDisplay(state, console))
    first, second = list(state.groups)[:2]
    state.group_started(first)
    assert state.eta_s() is None
    state.group_reported(first, WorkerReport(epoch_s=4.5), "node")  # depth 4, before its first epoch ends
    # three of depth 4 (4.5 s per epoch) and three of depth 2 (2.5 s, by the line in depth), ten epochs each
    assert state.eta_s() == pytest.approx(3 * 45 + 3 * 25)
    state.group_started(second)
    assert state.eta_s() == pytest.approx((3 * 45 + 3 * 25) / 2)
    state.group_reported(first, report(state.groups[first].group, 4, 4.5), "node")
    assert state.eta_s() == pytest.approx((22.5 + 2 * 45 + 3 * 25) / 2)
    file.write()
    progress = read_progress(paths)
    assert progress.eta_s == pytest.approx(state.eta_s())
    (running,) = [group for group in progress.groups if group.key == first]
    assert (running.state, running.epoch, running.host, running.eta_s) == ("running", 5, "node", pytest.approx(22.5))
    assert "about 94 s left" in display.line() or "about 2 min left" in display.line()
    assert display.line().index("left") < 79  # not cut on a narrow terminal
    file.write(ended=True)
    assert read_progress(paths).ended


def test_what_a_group_did_before_a_resume_is_not_expected_again(tmp_path):
    state = state_of(tmp_path)
    first = state.groups[next(iter(state.groups))]
    state.group_started(first.group.key)
    state.group_reported(first.group.key, WorkerReport(epoch_s=4.0, resumed_after=6), "node")
    assert state.remaining_s(first) == pytest.approx(4 * 4.0)
    state.group_reported(first.group.key, replace(report(first.group, 7, 4.0), resumed_after=6), "node")
    state.group_reported(first.group.key, WorkerReport(resumed_after=6), "node")
    assert state.remaining_s(first) == pytest.approx(2 * 4.0)


def test_plan_and_progress_expect_the_same(tmp_path):
    paths = RunPaths(tmp_path / "out")
    done = plan_sweep(spec_of(tmp_path, TEXT), DATA, paths)
    for trial in done.trials[:4]:
        write_result(paths, result_of(trial, seconds=10 * (0.5 + trial.model.depth)))
    plan = plan_sweep(done.spec, DATA, paths)
    state = SweepState(plan)
    state.group_started(plan.groups[0].key)
    assert state.eta_s() == pytest.approx(plan.estimate_s(1))


def test_what_became_of_every_trial_is_told_to_all(tmp_path):
    state, out = state_of(tmp_path), io.StringIO()
    state.listen(SweepDisplay(state, Console(file=out, width=200)))
    one, two, three = state.plan.trials[:3]
    state.trial_finished(result_of(one))
    state.trial_failed(two, "boom\nOutOfPatience", "some.log")
    state.trial_stopped(Stopped(three, 3, 0.4, (0.5, 0.4, 0.45), "asha"))
    text = out.getvalue()
    assert all(
        word in text for word in (one.label, two.label, "OutOfPatience", "some.log", three.label, "after 3 epochs")
    )
    assert state.best.label == one.label
    assert (state.finished, set(state.failed), state.stopped) == ({one.key}, {two.key}, {three.key})
