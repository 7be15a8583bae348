"""A worker that cannot work where it is says why."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from worker_job import WORKER

from srcgcnn.driver.progress import Backlog
from srcgcnn.launch import worker as worker_module
from srcgcnn.launch.rendezvous import HeadAddress, LaunchRequest, write_record_file, write_request
from srcgcnn.launch.site import parse_site
from srcgcnn.launch.slurm.calls import system
from srcgcnn.launch.slurm.job import SlurmAllocation
from srcgcnn.launch.status import worker_notes
from srcgcnn.launch.token import new_token, write_token
from srcgcnn.models.config import ModelConfig
from srcgcnn.run.paths import RunPaths
from srcgcnn.sweep.record import SweepRecord, write_record
from srcgcnn.sweep.spec import SweepSpec


@pytest.mark.full
@pytest.mark.parametrize(
    ("site", "reason"),
    [
        ({"worker": {"gpus": 2}}, "a group needs 1 devices, and SLURM gave this job 0 (CUDA_VISIBLE_DEVICES='')"),
        ({"worker": {"gpus": 1}, "variables": {"SLURM_JOB_GPUS": "3"}}, "finds 0 of 1 devices; SLURM gave them"),
        ({"worker": {"gpus": 0}, "interface": "no0"}, "interface='no0' has no address"),
    ],
)
def test_a_worker_that_cannot_work_here_is_named_with_the_reason(tmp_path, temp_folder, site, reason):
    paths, variables = RunPaths(tmp_path / "out"), site.pop("variables", {"CUDA_VISIBLE_DEVICES": ""})
    write_request(paths, LaunchRequest(parse_site({"kind": "slurm", "temp_folder": temp_folder, **site}, "site")))
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
    assert not list(Path(temp_folder).iterdir())  # and leaves nothing


@pytest.mark.full
def test_a_worker_that_does_not_see_the_graphs_is_named_before_it_gets_trials(tmp_path, trial_of):
    paths, data = RunPaths(tmp_path / "out"), trial_of(ModelConfig("srcgcnn", 2)).data
    write_record(paths, SweepRecord(SweepSpec("unseen"), data, str(tmp_path / "unmounted"), "depth_sweep.py"))
    write_request(paths, LaunchRequest(parse_site({"kind": "slurm", "worker": {"gpus": 0}}, "site")))
    variables = {**os.environ, "SLURM_JOB_ID": "18"}
    command = [sys.executable, "-c", WORKER, str(paths.out)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 3, done.stdout + done.stderr
    (note,) = worker_notes(paths)
    assert note.state == "broken"
    assert note.reason.startswith("the graph store cannot be read on this node: ")


@pytest.mark.full
@pytest.mark.parametrize(("waiting", "running", "leaves"), [(3, 0, True), (3, 1, False), (0, 0, False)])
def test_a_node_that_gets_nothing_while_groups_wait_leaves_ray_and_joins_again(
    tmp_path, monkeypatch, capfd, waiting, running, leaves
):
    monkeypatch.setenv("SLURM_JOB_ID", "18")
    monkeypatch.setattr(worker_module, "UNUSED_S", 0.8)
    monkeypatch.setattr(worker_module, "POLL_S", 0.05)
    paths = RunPaths(tmp_path / "out")
    write_request(paths, LaunchRequest(parse_site({"kind": "slurm", "worker": {"gpus": 0, "idle_s": 60}}, "site")))
    write_record_file(paths.backlog, Backlog(waiting, running))
    if running:  # a group trains in this process
        (tmp_path / "running").mkdir()
        (tmp_path / "running" / str(os.getpid())).touch()
    with socket.create_server(("127.0.0.1", 0)) as port:
        head = HeadAddress(f"127.0.0.1:{port.getsockname()[1]}", "boot", "17", "head")
        write_record_file(paths.head_address, head)
        node = NodeUntil(tmp_path, time.monotonic() + (60 if leaves else 2))
        idle = worker_module.Worker(paths, system(), SlurmAllocation())._watch(node, head)
    assert not idle
    assert ("joins again" in capfd.readouterr().out) == leaves


class NodeUntil(SimpleNamespace):
    """A node of Ray with a folder, which runs until some time."""

    def __init__(self, folder, end):
        super().__init__(folder=folder, end=end, log="")

    def check(self):
        """Return whether its time is not over."""
        return time.monotonic() < self.end
