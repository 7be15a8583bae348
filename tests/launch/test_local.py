"""The private folder of a sweep on this machine."""

import os
import secrets
import shutil

from srcgcnn.launch.local import private_folder as local_folder
from srcgcnn.launch.ray_node import ALIVE


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
