"""A node's own copy of the graph store: made once, verified, old ones removed."""

import os
import shutil
import time

import pytest

from srcgcnn.data.manifest import StoreError
from srcgcnn.data.store import GraphStore
from srcgcnn.launch.scratch import UNUSED_S, node_copy


def test_a_copy_is_made_once_and_unused_ones_go(tmp_path, demo_store, monkeypatch):
    monkeypatch.setenv("NODE_DISK", str(tmp_path))
    data_hash = demo_store.manifest.data_hash
    copy = node_copy("$NODE_DISK", demo_store.folder, data_hash)
    assert copy.parent.stat().st_mode & 0o777 == 0o700
    assert GraphStore(copy, check_hashes=True).manifest == demo_store.manifest
    shard = next(path for path in copy.iterdir() if path.suffix == ".safetensors")
    made = shard.stat().st_mtime_ns
    assert node_copy("$NODE_DISK", demo_store.folder, data_hash) == copy
    assert shard.stat().st_mtime_ns == made
    os.utime(copy, (0, time.time() - 2 * UNUSED_S))
    node_copy("$NODE_DISK", demo_store.folder, "other")
    assert not copy.exists()


def test_copies_that_somebody_else_laid_out_are_not_read(tmp_path, demo_store):
    theirs, disk = tmp_path / "theirs", tmp_path / "disk"
    shutil.copytree(demo_store.folder, theirs / demo_store.manifest.data_hash)
    disk.mkdir()
    (disk / f"srcgcnn-stores-{os.getuid()}").symlink_to(theirs)
    with pytest.raises(PermissionError, match="is a link or belongs to somebody else"):
        node_copy(str(disk), demo_store.folder, demo_store.manifest.data_hash)


def test_a_damaged_original_is_not_taken(tmp_path, demo_store):
    damaged = tmp_path / "store"
    shutil.copytree(demo_store.folder, damaged)
    shard = next(path for path in damaged.iterdir() if path.suffix == ".safetensors")
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(StoreError):
        node_copy(str(tmp_path / "disk"), damaged, "hash")
    assert not list((tmp_path / "disk").glob("*/hash"))
