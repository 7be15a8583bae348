"""A cluster that runs does not need the token file of OUT: a real head, a real worker, and a squeue that is played."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from played_slurm import play, put_on_path, running

from srcgcnn.launch.rendezvous import JobIds, LaunchRequest, SweepEndRecord, write_record_file, write_request
from srcgcnn.launch.site import parse_site
from srcgcnn.launch.status import worker_notes
from srcgcnn.models.config import ModelConfig
from srcgcnn.records import read_if_whole
from srcgcnn.run.folder import open_run
from srcgcnn.run.paths import RunPaths
from srcgcnn.sweep.record import SweepRecord, write_record
from srcgcnn.sweep.spec import read_spec

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]

DEFINITION = Path(__file__).resolve().parents[2] / "sweeps" / "depth.toml"
SITE = {"kind": "slurm", "dashboard": False, "trials_per_group": 1, "worker": {"gpus": 0, "count": 1, "cpus": 1}}


@pytest.fixture
def paths(tmp_path, temp_folder, trial_of, demo_store, monkeypatch):
    """A sweep of two small trials that was submitted: head 17, worker 18."""
    (tmp_path / "queue").write_text("17 18")
    play(tmp_path, "squeue", running(tmp_path / "queue"))
    put_on_path(tmp_path, monkeypatch)
    paths = RunPaths(tmp_path / "out")
    axes = {"models": ["srcgcnn"], "depths": [2], "norms": ["step"], "alphas": ["none"], "seeds": 2}
    training = {"epochs": 3, "batch_size": 16}
    spec = read_spec(DEFINITION, {"name": "depth", "axes": axes, "training": training})
    data = trial_of(ModelConfig("srcgcnn", 2)).data
    write_record(paths, SweepRecord(spec, data, str(demo_store.folder), "depth_sweep.py"))
    paths.launched_spec.parent.mkdir(parents=True, exist_ok=True)
    paths.launched_spec.write_bytes(paths.spec.read_bytes())
    write_request(paths, LaunchRequest(parse_site({**SITE, "temp_folder": temp_folder}, "site")))
    write_record_file(paths.jobs, JobIds("17", ("18",)))
    return paths


def job(number, *words):
    """Start what a job runs, without what other tests' Ray left in the environment."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-m", "srcgcnn.launch.start", *map(str, words)]
    return subprocess.Popen(command, env={**variables, "SLURM_JOB_ID": number}, text=True)


def wait_for(condition, job, seconds=200.0):
    end = time.monotonic() + seconds
    while not condition():
        assert job.poll() is None
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_damaged_token_is_written_again_and_a_running_cluster_does_not_need_it(paths):
    head = job("17", "head", paths.out)
    worker = None
    try:
        wait_for(paths.head_address.exists, head)
        paths.ray_token.write_bytes(b"\xff" * 64)
        worker = job("18", "worker", paths.out, 0)
        wait_for(lambda: "joined" in {note.state for note in worker_notes(paths)}, worker)
        paths.ray_token.unlink()
        paths.ray_token.mkdir()  # no head can mend this; trainers start later than it
        wait_for(paths.sweep_end.exists, worker)
        assert read_if_whole(SweepEndRecord, paths.sweep_end).status == 0
        assert head.wait(60) == worker.wait(60) == 0
    finally:
        for process in (head, worker):
            if process is not None and process.poll() is None:
                process.terminate()
                process.wait(60)
    assert len(open_run(paths).results) == 2
