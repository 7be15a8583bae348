"""A sweep on this machine that is stopped: by a budget, and by `srcgcnn cancel`. Real Ray, real MLflow."""

import subprocess
import sys
import time
from pathlib import Path

from srcgcnn.run.spent import read_spent
from tests.e2e.test_sweep import ENDLESS_EPOCHS, Sweep

THREE = ("--depths", "1", "2", "3", "--norms", "step", "--alphas", "none", "--seeds", "1", "--epochs", "3")


def test_a_budget_takes_no_new_groups_and_a_larger_one_goes_on(tmp_path):
    sweep = Sweep(tmp_path)
    (tmp_path / "site.toml").write_text("dashboard = false\ncpus = 1\n")
    said = sweep.run(*THREE, "--budget-gpu-hours", "1e-9", expect=130)
    assert "the budget of 1e-09 core-hours is used" in said
    assert len(sweep.numbers()) < 3
    used = read_spent(sweep.paths).core_hours
    sweep.run(*THREE, "--budget-gpu-hours", "0.5")
    assert len(sweep.numbers()) == 3
    assert not list(sweep.paths.failures.glob("*"))
    assert read_spent(sweep.paths).core_hours > used
    assert "core-hours" in _srcgcnn("status", sweep)
    sweep.paths.spent.unlink()  # what earlier versions left: results, which have times of their own
    assert 0 < read_spent(sweep.paths).core_hours < 0.5


def test_cancel_stops_a_sweep_on_this_machine(tmp_path):
    sweep = Sweep(tmp_path)
    assert "nothing of this sweep runs" in _cancel_of_a_finished_one(sweep)
    running = sweep.start(*THREE, "--epochs", ENDLESS_EPOCHS)
    end = time.monotonic() + 120
    while not list(sweep.paths.checkpoints.glob("*.pt")):
        assert time.monotonic() < end
        time.sleep(0.2)
    assert "stopped" in _srcgcnn("cancel", sweep)
    assert running.wait(60) == 130
    assert not sweep.paths.driver.exists()
    assert "not running" in _srcgcnn("status", sweep)


def _cancel_of_a_finished_one(sweep):
    sweep.paths.results.mkdir(parents=True)
    return _srcgcnn("cancel", sweep)


def _srcgcnn(command, sweep):
    arguments = [sys.executable, "-m", "srcgcnn", command, str(sweep.paths.out)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr + "".join(map(Path.read_text, sweep.folder.glob("*.log")))
    return done.stdout
