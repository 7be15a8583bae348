"""The log of a trial is found by a part of its name, also where the folder has moved."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from srcgcnn.driver.group_log import group_log
from srcgcnn.models.config import ModelConfig
from srcgcnn.records import as_dict
from srcgcnn.run.failures import read_failures, write_failure
from srcgcnn.run.log import find_log
from srcgcnn.run.paths import RunPaths
from srcgcnn.sweep.plan import TrialGroup


def test_of_several_logs_of_one_trial_the_last_is_found(tmp_path, trial_of):
    paths = RunPaths(tmp_path)
    first, second = (trial_of(ModelConfig("srcgcnn", 2), seed) for seed in (0, 1))
    for age, trials in enumerate([(first,), (first, second)]):
        with group_log(paths, TrialGroup(trials)) as log:
            log.say("here")
        os.utime(paths.log(TrialGroup(trials).key), (age, age))
    for wanted in (first.key, first.label, second.key):
        assert find_log(paths, wanted).path == paths.log(TrialGroup((first, second)).key)
    with pytest.raises(FileNotFoundError, match=r"2 logs of a trial 'T=2'.*\n.*seed 0  \(last written 1970-01-01 "):
        find_log(paths, "T=2")


def test_the_log_of_a_failed_trial_is_found_where_its_folder_has_moved(tmp_path, trial_of):
    paths, trial = RunPaths(tmp_path / "out"), trial_of(ModelConfig("srcgcnn", 2))
    log = paths.failure_log(trial.key)
    write_failure(paths, trial, "it broke", str(log))
    log.write_text("why it broke")
    (paths.out / "sweep.json").write_text(json.dumps({}))
    moved = RunPaths(tmp_path / "moved")
    shutil.move(paths.out, moved.out)
    (failure,) = read_failures(moved)
    assert failure.log == str(moved.failure_log(trial.key))
    command = [sys.executable, "-m", "srcgcnn", "logs", str(moved.out), "--failed"]
    assert "why it broke" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    refused = subprocess.run([*command, "--lines", "0"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "1 or more" in refused.stderr


def test_a_failure_has_the_name_that_tells_it_from_other_trials(tmp_path, trial_of):
    paths, trial = RunPaths(tmp_path), trial_of(ModelConfig("srcgcnn", 2))
    write_failure(paths, trial, "it broke", label=f"{trial.model.label} depth.supervision=rising seed 0")
    (failure,) = read_failures(paths)
    assert "supervision=rising" in failure.label
    paths.failure(trial.key).write_text(json.dumps({"config": as_dict(trial), "reason": "of an earlier version"}))
    (failure,) = read_failures(paths)
    assert failure.label == trial.label


def test_a_failure_without_words_is_still_told(tmp_path, trial_of):
    paths = RunPaths(tmp_path)
    write_failure(paths, trial_of(ModelConfig("srcgcnn", 2)), "")
    (failure,) = read_failures(paths)
    assert failure.reason.splitlines()[-1]


def test_a_failure_beside_a_result_is_over(tmp_path, trial_of):
    """A process that wrote the result was killed before it could remove the failure of an earlier start."""
    paths, trial = RunPaths(tmp_path), trial_of(ModelConfig("srcgcnn", 2))
    write_failure(paths, trial, "it broke")
    paths.results.mkdir()
    paths.result(trial.key).write_text("{}")
    assert not list(read_failures(paths))


def test_the_log_does_not_blame_a_scheduler_for_ctrl_c(tmp_path, trial_of):
    paths, trial = RunPaths(tmp_path), trial_of(ModelConfig("srcgcnn", 2))
    with pytest.raises(SystemExit), group_log(paths, TrialGroup((trial,))):
        sys.exit()
    assert "is stopped, by the scheduler or with the sweep" in find_log(paths, trial.key).path.read_text()
