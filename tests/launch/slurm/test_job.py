"""What a job reads of its allocation: when it ends, and which devices it has."""

import time

import pytest

from srcgcnn.launch.slurm.job import SlurmAllocation, devices_of


@pytest.mark.parametrize("step_s", [-7200.0, 0.0, 7200.0])
@pytest.mark.parametrize("told", [("SLURM_JOB_START_TIME", "SLURM_JOB_END_TIME"), ("SLURM_JOB_END_TIME",), ()])
def test_a_clock_that_is_wrong_moves_no_time_limit(monkeypatch, step_s, told):
    """A node whose clock was two hours ahead put every job back in the queue at once, for ever."""
    now = time.time() + step_s  # the controller's clock, as a node that is wrong sees it
    for name, at in (("SLURM_JOB_START_TIME", now), ("SLURM_JOB_END_TIME", now + 1800)):
        monkeypatch.setenv(name, str(at)) if name in told else monkeypatch.delenv(name, raising=False)
    left = SlurmAllocation().ends_at(30) - time.monotonic()
    assert left == pytest.approx(1800, abs=30)


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
    assert all(name in devices.evidence for name in variables) or count
