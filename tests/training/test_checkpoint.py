"""Checkpoints: a damaged file costs the time between two checkpoints, and never other numbers."""

import random
import resource
import shutil
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srcgcnn.models.config import ModelConfig
from srcgcnn.training.checkpoint import MAGIC, CheckpointFile, DamagedCheckpointError, decode
from srcgcnn.training.outcome import conclude
from srcgcnn.training.trainer import GroupTrainer, InterruptedGroupError

SR2 = ModelConfig("srcgcnn", 2)


def numbers(outcome):
    return outcome.result.metrics, outcome.result.curves, outcome.test.predictions.tolist()


def state_of(number):
    return {"keys": ["a"], "number": number, "network": {"weight": torch.arange(50.0) + number}}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Two checkpoints, one after the other."""
    path = tmp_path_factory.mktemp("written") / "group.pt"
    for number in (1, 2):
        CheckpointFile(path).write(state_of(number))
    return path


def damaged(data: bytes, draw: random.Random) -> bytes:
    """Cut the file anywhere, or change one bit of it."""
    place = draw.randrange(len(data))
    if draw.random() < 0.5:
        return data[:place]
    return data[:place] + bytes([data[place] ^ (1 << draw.randrange(8))]) + data[place + 1 :]


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False))
def test_no_truncation_and_no_flipped_bit_is_ever_read(written, draw):
    with pytest.raises(DamagedCheckpointError):
        decode(damaged(written.read_bytes(), draw))


def test_the_one_before_takes_over_then_nothing(written, tmp_path):
    file = CheckpointFile(tmp_path / "group.pt")
    shutil.copy(written, file.path)
    shutil.copy(written.with_suffix(".previous"), file.previous)
    assert file.read()["number"] == 2
    file.path.write_bytes(file.path.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="digest differs.*the previous one is used"):
        assert file.read()["number"] == 1
    file.previous.write_bytes(b"")
    with pytest.warns(UserWarning, match="training starts over"):
        assert file.read() is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["group.previous.damaged", "group.pt.damaged"]


def test_a_write_that_finds_no_space_leaves_both_files(written, tmp_path):
    file = CheckpointFile(tmp_path / "group.pt")
    shutil.copy(written, file.path)
    shutil.copy(written.with_suffix(".previous"), file.previous)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            file.write(state_of(3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_checkpoint_of_an_earlier_version_is_read_and_its_truncations_are_not(tmp_path):
    torch.save({"format": 2, **state_of(7)}, tmp_path / "group.pt")
    data = (tmp_path / "group.pt").read_bytes()
    assert decode(data)["number"] == 7
    draw = random.Random(0)
    for _ in range(100):
        with pytest.raises(DamagedCheckpointError):
            decode(data[: draw.randrange(len(data))])


def test_a_file_that_cannot_be_read_is_no_damaged_one(tmp_path):
    file = CheckpointFile(tmp_path / "group.pt")
    file.path.mkdir()
    with pytest.raises(IsADirectoryError):
        file.read()
    assert file.path.exists()


@pytest.mark.full
@pytest.mark.parametrize("seed", range(6))
def test_training_ends_with_the_same_numbers_after_damage(seed, demo_store, trial_of, tmp_path):
    config, path, draw = trial_of(SR2, 2), tmp_path / "group.pt", random.Random(seed)
    undisturbed = GroupTrainer([config], demo_store)
    undisturbed.train()
    stops = draw.randrange(1, 4)
    for _ in range(stops):
        with pytest.raises(InterruptedGroupError):
            GroupTrainer([config], demo_store, checkpoint=path).train(should_stop=lambda: True)
    path.write_bytes(damaged(path.read_bytes(), draw))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        resumed = GroupTrainer([config], demo_store, checkpoint=path)
    assert any("checkpoint" in str(one.message) for one in caught)
    assert resumed.progress.resumes == stops - 1
    resumed.train()
    assert numbers(conclude(resumed)[0]) == numbers(conclude(undisturbed)[0])


def test_a_file_starts_with_its_name(written):
    assert written.read_bytes().startswith(MAGIC)
