"""A worker that cannot work where it is says why."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from worker_job import WORKER

from srcgcnn.launch.rendezvous import HeadAddress, LaunchRequest, write_record_file, write_request
from srcgcnn.launch.site import parse_site
from srcgcnn.launch.status import worker_notes
from srcgcnn.launch.token import new_token, write_token
from srcgcnn.run.paths import RunPaths


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
