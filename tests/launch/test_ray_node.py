"""The private folder and the ports of a Ray node."""

import tempfile

import pytest
from filelock import FileLock

from srcgcnn.launch.ray_node import ALIVE, RayNodeError, free_ports, private_folder


def test_temporary_folders_are_private_and_short(tmp_path):
    with pytest.raises(RayNodeError, match="shorten temp_folder"):
        private_folder(f"/tmp/{'x' * 40}", "w1")
    assert len(set(free_ports(3, (20000, 29999)))) == 3
    with pytest.raises(RayNodeError, match="widen port_range"):
        free_ports(3, (20000, 20001))


def test_a_folder_that_nobody_holds_goes_and_one_in_use_stays(monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="s") as temp:
        first = private_folder(temp, "w1")
        assert first.stat().st_mode & 0o777 == first.parent.stat().st_mode & 0o777 == 0o700
        held = FileLock(first / ALIVE, is_singleton=False)
        held.acquire()
        second = private_folder(temp, "w1", restarts=1)
        assert first.exists()
        assert second != first
        held.release()
        private_folder(temp, "w1", restarts=1)
        assert not first.exists()
        second.parent.chmod(0o755)
        with pytest.raises(RayNodeError, match="only you can enter"):
            private_folder(temp, "w1")
