"""A sweep on this machine that is stopped: by a budget, and by `srcgcnn cancel`. Real Ray, real MLflow."""

import subprocess
import sys
from pathlib import Path

import pytest

from srcgcnn.run.spent import read_spent
from tests.e2e.test_sweep import ENDLESS_EPOCHS, Sweep, wait_for

pytestmark = pytest.mark.full

THREE = ("--depths", "1", "2", "3", "--norms", "step", "--alphas", "none", "--seeds", "1", "--epochs", "3")


def test_a_budget_takes_no_new_groups_and_a_larger_one_goes_on(tmp_path):
    sweep = Sweep(tmp_path)
    said = sweep.run(*THREE, "--budget-gpu-hours", "1e-9", expect=130)
    assert "the budget of 1e-09 core-hours is used" in said
    assert len(sweep.numbers()) < 3
    used, before = read_spent(sweep.paths).core_hours, sweep.numbers()
    assert "the budget of 1e-09 core-hours is used" in sweep.run(*THREE, "--budget-gpu-hours", "1e-9", expect=130)
    assert sweep.numbers() == before  # nothing begins when it is used up from the start
    sweep.run(*THREE, "--budget-gpu-hours", "0.5")
    assert len(sweep.numbers()) == 3
    assert not list(sweep.paths.failures.glob("*"))
    assert read_spent(sweep.paths).core_hours > used
    assert "core-hours" in _srcgcnn("status", sweep)
    sweep.paths.spent.unlink()  # what earlier versions left: results, which have times of their own
    assert 0 < read_spent(sweep.paths).core_hours < 0.5


def test_a_second_driver_is_refused_and_cancel_stops_the_first(tmp_path):
    sweep = Sweep(tmp_path)
    assert "nothing of this sweep is running" in _cancel_of_a_finished_one(sweep)
    running = sweep.start(*THREE, "--epochs", ENDLESS_EPOCHS)
    wait_for(lambda: list(sweep.paths.checkpoints.glob("*.pt")))
    asked = sweep.paths.spec.read_text()
    command = sweep.command(*THREE, "--seeds", 3)
    done = subprocess.run(command, cwd=sweep.folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert "another driver" in done.stderr
    assert sweep.paths.spec.read_text() == asked  # what was refused is not what runs
    assert "stopped" in _srcgcnn("cancel", sweep)
    assert running.wait(60) == 130
    assert not sweep.paths.driver.exists()
    assert "not running" in _srcgcnn("status", sweep)


def _cancel_of_a_finished_one(sweep):
    sweep.paths.results.mkdir(parents=True)
    return _srcgcnn("cancel", sweep)


def _srcgcnn(command, sweep):
    arguments = [sys.executable, "-m", "srcgcnn", command, str(sweep.paths.out)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr + "".join(map(Path.read_text, sweep.folder.glob("*.log")))
    return done.stdout
