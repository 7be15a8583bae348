"""MLflow's writer in a process of its own: the same pages, nothing lost, nothing left behind."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from tracked_sweep import SWEEP, a_config, client_of, family, finish, steps

from srcgcnn.run.failures import write_failure
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import read_result
from srcgcnn.tracking.background import BackgroundWriter
from srcgcnn.training.epoch import EpochReport

pytestmark = pytest.mark.full


def epochs(key, *numbers):
    return [EpochReport(key, number, 1.0, 0.3, 1e-3) for number in numbers]


def test_every_event_is_on_the_pages_when_the_sweep_has_ended(tmp_path):
    paths = RunPaths(tmp_path / "out")
    tracker = BackgroundWriter(paths, SWEEP, None)
    done, failed, running = (a_config(seed) for seed in (1, 2, 3))
    for config in (done, failed, running):
        tracker.trial_started(config)
    tracker.trial_progress(running.key, epochs(running.key, 0, 1))
    tracker.trial_usage(running.key, {"system/cpu_utilization_percentage": 50.0})
    tracker.trial_failed(failed.key, "boom")
    tracker.trial_usage(done.key, {"system/cpu_utilization_percentage": 70.0})
    tracker.trial_finished(finish(paths, done))
    tracker.sweep_finished("| t |", "t", stopped=True)
    parent, children = family(client_of(paths))
    status = {key: run.info.status for key, run in children.items()}
    assert status == {done.key: "FINISHED", failed.key: "FAILED", running.key: "KILLED"}
    assert steps(client_of(paths), children[running.key]) == [0, 1]
    assert len(steps(client_of(paths), children[done.key])) == len(read_result(paths.result(done.key)).curves.val_error)
    assert children[running.key].data.metrics["system/cpu_utilization_percentage"] == 50.0
    assert children[done.key].data.metrics["system/cpu_utilization_percentage"] == 70.0
    assert parent.info.status == "KILLED"


DRIVER = """
import sys, time
from pathlib import Path
sys.path += sys.argv[2:]
from tracked_sweep import SWEEP, a_config
from srcgcnn.run.paths import RunPaths
from srcgcnn.tracking.background import BackgroundWriter
tracker = BackgroundWriter(RunPaths(Path(sys.argv[1])), SWEEP, None)
tracker.trial_started(a_config(1))
while not tracker._process.all_sent:
    time.sleep(0.01)
time.sleep(0.2)
print(tracker._process.pid, flush=True)
time.sleep(600)
"""


def test_a_killed_driver_leaves_a_written_page_and_no_process(tmp_path):
    paths = RunPaths(tmp_path / "out")
    command = [sys.executable, "-c", DRIVER, str(paths.out), *sys.path]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
    ) as driver:
        writer = psutil.Process(int(driver.stdout.readline()))
        writer.send_signal(signal.SIGINT)  # as Ctrl-C does: it is for the driver
        driver.kill()
    deadline = time.monotonic() + 120
    while writer.is_running() and writer.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not writer.is_running() or writer.status() == psutil.STATUS_ZOMBIE
    assert set(family(client_of(paths))[1]) == {a_config(1).key}


def test_a_writer_that_dies_does_not_stop_the_driver(tmp_path):
    paths = RunPaths(tmp_path / "out")
    tracker = BackgroundWriter(paths, SWEEP, None)
    config = a_config(1)
    tracker.trial_started(config)
    os.kill(tracker._process.pid, signal.SIGKILL)
    for number in range(2000):  # more than a pipe holds
        tracker.trial_progress(config.key, epochs(config.key, number))
    tracker.sweep_finished("", "")


def test_a_machine_without_room_for_a_writer_does_not_stop_the_driver(tmp_path, monkeypatch):
    paths = RunPaths(tmp_path / "out")
    tracker, config = BackgroundWriter(paths, SWEEP, None), a_config(1)
    with monkeypatch.context() as without_programs:
        without_programs.setenv("PATH", "")
        tracker.trial_started(config)
        tracker.trial_finished(finish(paths, config))
    assert tracker.sweep_finished("", "")
    assert {run.info.status for run in family(client_of(paths))[1].values()} == {"FINISHED"}


def die(tracker):
    """Kill the writer; returns when it is gone."""
    os.kill(tracker._process.pid, signal.SIGKILL)
    end = time.monotonic() + 60
    while tracker._process.alive:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_a_killed_writer_lost_is_on_the_pages_at_the_end_of_the_sweep(tmp_path):
    paths = RunPaths(tmp_path / "out")
    tracker = BackgroundWriter(paths, SWEEP, None)
    done, failed = (a_config(seed) for seed in (1, 2))
    tracker.trial_started(done)
    tracker.trial_started(failed)
    die(tracker)
    write_failure(paths, failed, "boom")
    tracker.trial_failed(failed.key, "boom")
    tracker.trial_finished(finish(paths, done))
    tracker.sweep_finished("| t |", "t")
    parent, children = family(client_of(paths))
    assert {key: run.info.status for key, run in children.items()} == {done.key: "FINISHED", failed.key: "FAILED"}
    assert parent.info.status == "FINISHED"


def test_a_writer_that_was_killed_does_not_spoil_the_next_round_of_the_same_driver(tmp_path):
    paths = RunPaths(tmp_path / "out")
    tracker = BackgroundWriter(paths, SWEEP, None)
    first, again = (a_config(seed) for seed in (1, 2))
    tracker.trial_started(first)
    die(tracker)
    for number in range(3):  # the pipe is broken, and lines wait for ever
        tracker.trial_progress(first.key, epochs(first.key, number))
    tracker.trial_finished(finish(paths, first))
    tracker.sweep_finished("", "")
    tracker.trial_started(again)
    tracker.trial_finished(finish(paths, again))
    tracker.sweep_finished("", "")
    parent, children = family(client_of(paths))
    assert {run.info.status for run in children.values()} == {"FINISHED"}
    assert set(children) == {first.key, again.key}
    assert parent.info.status == "FINISHED"


def test_a_writer_that_follows_a_killed_one_knows_the_trials_that_run(tmp_path, monkeypatch):
    monkeypatch.setattr("srcgcnn.tracking.background.RESTART_INTERVAL_S", 0.0)
    paths = RunPaths(tmp_path / "out")
    tracker = BackgroundWriter(paths, SWEEP, None)
    config = a_config(1)
    tracker.trial_started(config)
    die(tracker)
    tracker.trial_progress(config.key, epochs(config.key, 0, 1))
    tracker.sweep_finished("", "", stopped=True)
    parent, children = family(client_of(paths))
    assert steps(client_of(paths), children[config.key]) == [0, 1]
    assert parent.info.status == "KILLED"
