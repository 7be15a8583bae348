"""Jobs and what is told of them, without SLURM: workers that cannot work say why, and logs are found."""

import errno
import json
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from srcgcnn.cli.main import main
from srcgcnn.driver.group_log import group_log
from srcgcnn.files import write_text
from srcgcnn.launch.local import private_folder as local_folder
from srcgcnn.launch.ray_node import ALIVE
from srcgcnn.launch.rendezvous import HeadAddress, JobIds, LaunchRequest, write_record_file, write_request
from srcgcnn.launch.site import parse_site
from srcgcnn.launch.slurm.job import devices_of
from srcgcnn.launch.status import cancel_sweep, worker_notes
from srcgcnn.launch.token import new_token, write_token
from srcgcnn.models.config import ModelConfig
from srcgcnn.run.failures import read_failures, write_failure
from srcgcnn.run.leftovers import remove_leftovers
from srcgcnn.run.log import find_log
from srcgcnn.run.paths import RunPaths
from srcgcnn.sweep.plan import TrialGroup

WORKER = """
import sys
from srcgcnn.launch import head_watch
from srcgcnn.launch.slurm.calls import WorkerJob
head_watch.SILENT_S = head_watch.ASK_INTERVAL_S = 1.0
print(WorkerJob(sys.argv[1])())
"""


@pytest.mark.full
@pytest.mark.parametrize(
    ("site", "reason"),
    [
        ({"worker": {"gpus": 2}}, "a group needs 1 devices, and SLURM gave this job 0 (CUDA_VISIBLE_DEVICES='')"),
        ({"worker": {"gpus": 1}, "variables": {"SLURM_JOB_GPUS": "3"}}, "finds 0 of 1 devices; SLURM gave them"),
        ({"worker": {"gpus": 0}, "interface": "no0"}, "interface='no0' has no address"),
    ],
)
def test_a_worker_that_cannot_work_here_is_named_with_the_reason(tmp_path, site, reason):
    paths, variables = RunPaths(tmp_path / "out"), site.pop("variables", {"CUDA_VISIBLE_DEVICES": ""})
    write_request(paths, LaunchRequest(parse_site({"kind": "slurm", **site}, "site")))
    write_record_file(paths.head_address, HeadAddress("10.0.0.1:1", "boot", "17", "head"))
    write_token(paths.ray_token, new_token())
    without = {name: value for name, value in os.environ.items() if "VISIBLE_DEVICES" not in name}
    variables = {**without, "SLURM_JOB_ID": "18", **variables}
    command = [sys.executable, "-c", WORKER, str(paths.out)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 3, done.stdout + done.stderr
    (note,) = worker_notes(paths)
    assert (note.job, note.state) == ("18", "broken")
    assert reason in note.reason
    assert not list(Path("/tmp").glob("srcgcnn-*/w18.*"))  # and leaves nothing


SQUEUE = """#!/bin/sh
for id in $(cat {queue}); do echo "$id|RUNNING|n1|1:00|9:00|None"; done
"""
SCANCEL = """#!/bin/sh
sed -i "$(printf 's/\\\\b%s\\\\b//;' "$@")" {queue}
[ -e {late} ] && mv {late} {jobs} && echo 19 >> {queue}
exit 0
"""


def test_cancel_takes_the_workers_that_the_head_submitted_in_its_last_second(tmp_path, monkeypatch):
    paths = RunPaths(tmp_path / "out")
    files = {"queue": tmp_path / "queue", "late": tmp_path / "late", "jobs": paths.jobs}
    write_record_file(paths.jobs, JobIds("17", ("18",)))
    write_record_file(files["late"], JobIds("17", ("18", "19")))
    files["queue"].write_text("17 18")
    for name, text in (("squeue", SQUEUE), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(text.format(**files))
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert cancel_sweep(paths) == ["17", "18", "19"]
    assert files["queue"].read_text().split() == []


def test_of_several_logs_of_one_trial_the_last_is_found(tmp_path, trial_of):
    paths = RunPaths(tmp_path)
    first, second = (trial_of(ModelConfig("srcgcnn", 2), seed) for seed in (0, 1))
    for age, trials in enumerate([(first,), (first, second)]):
        with group_log(paths, TrialGroup(trials)) as log:
            log.say("here")
        os.utime(paths.log(TrialGroup(trials).key), (age, age))
    for wanted in (first.key, first.label, second.key):
        assert find_log(paths, wanted).path == paths.log(TrialGroup((first, second)).key)
    with pytest.raises(FileNotFoundError, match="2 logs of a trial 'T=2'"):
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


def test_a_password_in_a_tracking_uri_is_refused_and_not_repeated(tmp_path):
    script = Path(__file__).resolve().parents[2] / "sweeps" / "depth_sweep.py"
    command = [sys.executable, str(script), "--tracking-uri", "postgresql://ada:hidden@db/mlflow"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert ".pgpass" in done.stderr
    assert "hidden" not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_failure_without_words_is_still_told(tmp_path, trial_of):
    paths = RunPaths(tmp_path)
    write_failure(paths, trial_of(ModelConfig("srcgcnn", 2)), "")
    (failure,) = read_failures(paths)
    assert failure.reason.splitlines()[-1]


@pytest.mark.parametrize(
    ("variables", "count"),
    [
        ({}, 0),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, 2),
        ({"CUDA_VISIBLE_DEVICES": ""}, 0),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, 0),
        ({"CUDA_VISIBLE_DEVICES": "1,-1,2"}, 1),
        ({"CUDA_VISIBLE_DEVICES": "GPU-8f2a,GPU-91cc"}, 2),
        ({"ROCR_VISIBLE_DEVICES": "0,1,2"}, 3),
        ({"HIP_VISIBLE_DEVICES": "4", "ROCR_VISIBLE_DEVICES": "4,5"}, 1),
        ({"SLURM_JOB_GPUS": "0-3"}, 4),
        ({"SLURM_STEP_GPUS": "2", "SLURM_JOB_GPUS": "0-3"}, 1),
        ({"SLURM_GPUS_ON_NODE": "2"}, 2),
        ({"SLURM_GPUS_ON_NODE": "gpu:4"}, 4),
        ({"SLURM_JOB_GPUS": "0,1", "CUDA_VISIBLE_DEVICES": "0"}, 1),
    ],
)
def test_devices_are_counted_from_the_variables_of_slurm_cuda_and_rocm(variables, count):
    devices = devices_of(variables)
    assert devices.count == count
    assert all(name in devices.told_by for name in variables) or count


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.ENOSPC])
def test_a_file_system_that_is_away_for_a_moment_is_waited_for(tmp_path, monkeypatch, number):
    failures = iter([OSError(number, os.strerror(number))] * 2)
    flush = os.fsync

    def fsync(descriptor):
        for failure in failures:
            raise failure
        flush(descriptor)

    monkeypatch.setattr("srcgcnn.files.SPACE_PAUSE_S", 0.01)
    monkeypatch.setattr("os.fsync", fsync)
    write_text(tmp_path / "file", "whole")
    assert (tmp_path / "file").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_killed_writers_left_goes_and_what_is_being_written_stays(tmp_path):
    paths = RunPaths(tmp_path)
    old = {paths.results / ".a.json.1.ab.tmp", paths.launch / ".head.json.1.ab.tmp", paths.checkpoints / "a.pt.damaged"}
    for path in (*old, paths.spec, paths.results / "a.json"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    for path in old:
        os.utime(path, (0, 0))
    young = {
        paths.results / ".b.json.1.ab.tmp",
        paths.launch / ".jobs.json.1.ab.tmp",
        paths.checkpoints / "b.pt.damaged",
    }
    for path in young:
        path.write_text("")
    remove_leftovers(paths)
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in young)
    remove_leftovers(paths, nobody_writes=True)
    assert [path.name for path in paths.results.iterdir()] == ["a.json"]
    assert (paths.launch / ".jobs.json.1.ab.tmp").exists()  # a worker may write there


def test_the_folder_of_a_sweep_that_was_killed_goes_with_the_next_one_and_a_living_one_stays(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/tmp")
    with local_folder() as living, local_folder() as dead:
        shutil.copytree(dead, copy := dead.with_name("srcgcnn-" + secrets.token_hex(4)))
        for folder in (living, copy):
            os.utime(folder / ALIVE, (0, 0))
        with local_folder():
            assert living.exists()
            assert not copy.exists()
    assert not living.exists()


DRIVER = """
import sys, time
from pathlib import Path
from srcgcnn.launch.local import terminating_as_ctrl_c
from srcgcnn.driver.noted import noted_driver
from srcgcnn.run.paths import RunPaths
with noted_driver(RunPaths(Path(sys.argv[1]))), terminating_as_ctrl_c():
    print("up", flush=True)
    time.sleep(600)
"""


def test_cancel_stops_the_driver_of_this_machine_and_no_other_process(tmp_path, capsys):
    paths = RunPaths(tmp_path)
    paths.results.mkdir()
    command = [sys.executable, "-c", DRIVER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as driver:
        assert driver.stdout.readline() == b"up\n"
        note = json.loads(paths.driver.read_text())
        assert main(["cancel", str(tmp_path)]) == 0
        assert driver.wait(10) != 0
    assert "stopped" in capsys.readouterr().out
    assert not paths.driver.exists()
    reused = {**note, "pid": os.getpid()}  # the number of a process that has started since
    paths.driver.write_text(json.dumps(reused))
    assert main(["cancel", str(tmp_path)]) == 0
    assert "nothing of this sweep runs" in capsys.readouterr().out
