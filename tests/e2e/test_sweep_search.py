"""A search and a scheduler through the whole command on real Ray, and what `status` and `logs` say of them."""

import json
import os
import signal
import subprocess
import sys

import pytest

from srcgcnn.driver.progress import read_progress
from srcgcnn.driver.worker import run_group
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import finished_keys, read_result
from srcgcnn.run.stopped import all_stopped
from srcgcnn.sweep.plan import TrialGroup
from srcgcnn.sweep.proposals import read_proposals
from tests.e2e.test_sweep import ENDLESS_EPOCHS, SITE, Sweep, wait_for

pytestmark = pytest.mark.full


def srcgcnn(sweep, *arguments, expect=0):
    command = [sys.executable, "-m", "srcgcnn", *map(str, arguments)]
    done = subprocess.run(command, cwd=sweep.folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_search_runs_its_proposals_on_ray_and_is_not_repeated(tmp_path):
    sweep = Sweep(tmp_path)
    flags = ("--search", "tpe", "--proposals", 3, "--depths", 1, 2, 3, "--seeds", 2, "--epochs", 1)
    output = sweep.run(*flags)
    proposals = read_proposals(sweep.paths).proposals
    assert [proposal.state for proposal in proposals] == ["finished"] * 3
    assert {key for proposal in proposals for key in proposal.trials} == finished_keys(sweep.paths)
    for proposal in proposals:
        errors = [read_result(sweep.paths.result(key)).metrics.val_mae for key in proposal.trials]
        assert proposal.values == (pytest.approx(sum(errors) / len(errors)),)
    assert "3 proposals" in output
    before = sorted(path.stat().st_mtime_ns for path in sweep.paths.results.iterdir())
    assert "0 left" in sweep.run(*flags)
    assert sorted(path.stat().st_mtime_ns for path in sweep.paths.results.iterdir()) == before


ASHA_FLAGS = ("--depths", 1, 2, 3, "--seeds", 2, "--epochs", 20)
ASHA = (*ASHA_FLAGS, "--scheduler", "asha", "--grace-epochs", 2)


def judged(sweep):
    """What a scheduler decided: trials that finished, and those that it stopped, with the curve up to there."""
    return finished_keys(sweep.paths), {trial.config.key: trial.curve for trial in all_stopped(sweep.paths)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A sweep with asha that ran to its end, and what it decided."""
    sweep = Sweep(tmp_path_factory.mktemp("asha"))
    sweep.run(*ASHA)
    return sweep, judged(sweep)


def test_asha_remembers_its_rungs_when_the_driver_is_killed(tmp_path, undisturbed):
    """Killed after the first group: what is left is judged against it, as in the undisturbed run."""
    rough = Sweep(tmp_path)
    driver = rough.start(*ASHA)
    wait_for(rough.numbers)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    rough.run(*ASHA)
    assert judged(rough) == undisturbed[1]


def test_asha_stops_variants_keeps_their_checkpoints_and_changes_no_number_of_those_that_finish(undisturbed):
    """With one worker the deepest starts first and fixes the rung; whoever is worse there is stopped."""
    sweep, _ = undisturbed
    stopped, finished = list(all_stopped(sweep.paths)), finished_keys(sweep.paths)
    assert stopped
    assert finished
    assert len(stopped) + len(finished) == 6
    assert all(trial.epoch == len(trial.curve) for trial in stopped)
    assert {trial.epoch for trial in stopped} <= {2, 6, 18}
    assert "stopped early" in srcgcnn(sweep, "status", sweep.paths.out)

    sweep.run(*ASHA_FLAGS)  # without a scheduler they go on
    results = {key: read_result(sweep.paths.result(key)) for key in finished_keys(sweep.paths)}
    assert len(results) == 6
    assert list(all_stopped(sweep.paths)) == []
    for trial in stopped:
        assert results[trial.config.key].curves.val_error[: trial.epoch] == trial.curve
        assert results[trial.config.key].cost.resumes == 1
    alone = RunPaths(sweep.folder / "alone")
    store = json.loads(sweep.paths.spec.read_text())["store"]
    for chosen in (stopped[0].config, results[min(finished)].config):
        members = [found.config for found in results.values() if found.config.model == chosen.model]
        group = TrialGroup(tuple(sorted(members, key=lambda config: config.seeds.init)))
        for outcome in run_group(group, sweep.folder / store, alone, checkpoint_interval_s=60):
            assert outcome.result.curves == results[outcome.config.key].curves
            assert outcome.result.metrics == results[outcome.config.key].metrics


def test_status_and_logs_tell_of_a_running_sweep_and_sigterm_stops_it_quietly(tmp_path):
    sweep = Sweep(tmp_path)
    (tmp_path / "site.toml").write_text(SITE.replace("cpus = 1", "cpus = 2"))
    search = ("--search", "random", "--proposals", 1)  # Tune comes back, and nothing else may start
    driver = sweep.start("--depths", 2, "--seeds", 2, "--epochs", ENDLESS_EPOCHS, *search)
    wait_for(lambda: (found := read_progress(sweep.paths)) and sum(group.epoch > 2 for group in found.groups) == 2)
    status = json.loads(srcgcnn(sweep, "status", sweep.paths.out, "--json"))
    assert status["alive"]
    assert (status["trials"], status["finished"]) == (2, 0)
    running = [group for group in status["progress"]["groups"] if group["state"] == "running"]
    assert running
    assert running[0]["host"]
    text = srcgcnn(sweep, "status", sweep.paths.out)
    assert "running on this machine" in text
    assert "SR-CGCNN T=2 step-norm seed 0" in text
    log = srcgcnn(sweep, "logs", sweep.paths.out, "T=2 step-norm seed 0")
    assert "validation error" in log
    assert srcgcnn(sweep, "logs", sweep.paths.out, running[0]["trials"][0][:6])
    assert "2 logs" in srcgcnn(sweep, "logs", sweep.paths.out, "T=2", expect=2)
    os.kill(driver.pid, signal.SIGTERM)
    assert driver.wait(timeout=300) == 130
    said = (tmp_path / "killed.log").read_text()
    assert "same command resumes" in said
    assert "Traceback" not in said
    assert "*** SIG" not in said
    assert "to continue" in srcgcnn(sweep, "status", sweep.paths.out)
