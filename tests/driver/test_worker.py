"""A group that does not fit into the device's memory: its halves, one after the other, to the same results."""

import pytest
import torch

from srcgcnn.driver.worker import run_group, run_in_parts
from srcgcnn.models.config import ModelConfig
from srcgcnn.run.folder import open_run
from srcgcnn.run.paths import RunPaths
from srcgcnn.sweep.plan import TrialGroup


class SmallDevice:
    """Trains groups of at most `room` members, and runs out of memory with more, as a GPU does after a while."""

    def __init__(self, room, store, paths):
        self.room, self.store, self.paths = room, store, paths
        self.met = []

    def __call__(self, group):
        self.met.append(len(group.trials))
        if len(group.trials) > self.room:
            self.paths.group(group.key).parent.mkdir(parents=True, exist_ok=True)
            self.paths.group(group.key).write_text("{}")  # what the larger group leaves
            raise torch.OutOfMemoryError("CUDA out of memory")
        run_group(group, self.store.folder, self.paths, checkpoint_interval_s=60)


def group_of(trial_of):
    return TrialGroup(tuple(trial_of(ModelConfig("srcgcnn", 2), seed, epochs=2) for seed in range(5)))


def test_halves_end_as_the_whole_group_and_are_not_run_twice(demo_store, trial_of, tmp_path):
    group, said = group_of(trial_of), []
    paths, whole = RunPaths(tmp_path / "parts"), RunPaths(tmp_path / "whole")
    device = SmallDevice(2, demo_store, paths)
    run_in_parts(group, paths, device, said.append)
    assert device.met == [5, 2, 3, 1, 2]
    assert said[0] == "5 trials do not fit into the device's memory together: they train in halves"
    assert list(paths.checkpoints.iterdir()) == []
    run_group(group, demo_store.folder, whole, checkpoint_interval_s=60)
    found, expected = ({one.key: one.metrics.test_mae for one in open_run(each).results} for each in (paths, whole))
    assert found.keys() == {trial.key for trial in group.trials}
    assert found == pytest.approx(expected, rel=1e-3)
    run_in_parts(group, paths, device, said.append)
    assert len(device.met) == 5


def test_a_trial_that_does_not_fit_alone_is_an_error(demo_store, trial_of, tmp_path):
    paths = RunPaths(tmp_path)
    with pytest.raises(torch.OutOfMemoryError):
        run_in_parts(group_of(trial_of), paths, SmallDevice(0, demo_store, paths), print)
