"""A store is data from a stranger: wrong types, shapes, ranges and headers are named, and never reach a kernel."""

import hashlib
import json
import os
import shutil
import struct
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from srcgcnn.cli.main import main
from srcgcnn.data.manifest import StoreError, content_hash_of, read_manifest
from srcgcnn.data.store import GraphStore
from srcgcnn.records import as_dict

SHARD = "shard-00000.safetensors"
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def copied(demo_store, tmp_path):
    """A copy of the shared store, to be forged."""
    return shutil.copytree(demo_store.folder, tmp_path / "store")


def sign(folder, **changes):
    """Make sizes, hashes and data hash of a manifest agree with its files, as a forger does."""
    path = folder / "manifest.json"
    data = {**json.loads(path.read_text()), **changes}
    for stored in (*data["shards"], data["elements"]):
        contents = (folder / stored["file"]).read_bytes()
        stored |= {"bytes": len(contents), "sha256": hashlib.sha256(contents).hexdigest()}
    path.write_text(json.dumps(data))
    data["data_hash"] = content_hash_of(read_manifest(folder))
    path.write_text(json.dumps(data))


def change(folder, name, place, value):
    """Write a value into an array of the shard."""
    arrays = load_file(folder / SHARD)
    arrays[name] = arrays[name].copy()
    arrays[name][place] = value
    save_file(arrays, folder / SHARD)
    sign(folder)


WRONG_VALUES = [
    ("neighbours", (0, 0), 32767, "'neighbours' has 32767 in crystal 0, must lie in 0.."),
    ("neighbours", (-1, 3), -32768, "'neighbours' has -32768 in crystal 79"),
    ("distances", (5, 2), np.nan, "'distances' has nan"),
    ("distances", (5, 2), -1.0, "'distances' has -1.0"),
    ("distances", (5, 2), -np.inf, "'distances' has -inf"),
    ("distances", (5, 11), 1e30, "must be at most the cutoff 8 or inf"),
    ("distances", (5, 2), np.inf, "'distances' has a neighbour after a missing one"),
    ("offsets", 1, 10**9, "'offsets' has 1000000000"),
    ("offsets", 1, -5, "'offsets' has -5"),
    ("offsets", 0, 1, "'offsets' runs from 1"),
    ("offsets", 2, 0, "must increase"),
    ("offsets", 2, -(2**63), "'offsets' has -9223372036854775808"),
    ("atomic_numbers", 0, 255, "'atomic_numbers' has 255, must lie in 1..100"),
    ("atomic_numbers", 0, 0, "'atomic_numbers' has 0"),
    ("targets", (3, 0), np.nan, "'targets' has nan"),
    ("ids", 0, 0xFF, "'ids' is not UTF-8"),
    ("formulas", 0, ord("\n"), "'formulas' has 81 lines, must have 80"),
]


@pytest.mark.parametrize(("name", "place", "value", "message"), WRONG_VALUES)
def test_a_value_that_cannot_be_is_named_by_verify_and_on_use(copied, capsys, name, place, value, message):
    change(copied, name, place, value)
    with pytest.raises(StoreError) as caught:
        _ = GraphStore(copied).shards
    assert f"{copied / SHARD}: array {name!r}" in str(caught.value)
    assert message in str(caught.value)
    assert main(["data", "verify", str(copied)]) == 2
    assert message in capsys.readouterr().err


def test_missing_neighbours_at_the_end_are_allowed(copied):
    change(copied, "distances", (5, slice(7, None)), np.inf)
    assert np.isinf(GraphStore(copied, check_hashes=True).shards[0]["distances"][5, 7:]).all()


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("neighbours", np.zeros((3, 12), np.int16), r"'neighbours' is 'I16' \[3, 12\], must be I16 \["),
        ("neighbours", None, "'neighbours' is missing"),
        ("offsets", np.zeros(81, np.float64), r"'offsets' is 'F64' \[81\], must be I64 \[81\]"),
        ("targets", np.zeros(80), r"'targets' is 'F64' \[80\], must be F64 \[80, 1\]"),
    ],
)
def test_types_and_shapes_are_checked_before_mapping(copied, name, array, message):
    arrays = load_file(copied / SHARD)
    arrays.pop(name)
    save_file(arrays if array is None else {**arrays, name: array}, copied / SHARD)
    sign(copied)
    with pytest.raises(StoreError, match=message):
        GraphStore(copied, check_hashes=True)


@pytest.mark.parametrize(
    "edit",
    [
        lambda data: data["shards"][0].update(crystals=10**12),
        lambda data: data.update(crystals=10**12),
        lambda data: data.update(crystals=-1),
        lambda data: data.update(crystals="80"),
        lambda data: data.update(crystals=True),
        lambda data: data["shards"][0].update(atoms=10**12),
        lambda data: data["shards"][0].update(file="../../secret"),
        lambda data: data["shards"][0].update(file="/etc/passwd"),
        lambda data: data["elements"].update(file=".."),
        lambda data: data["graph"].update(neighbours=10**12),
        lambda data: data["graph"].update(neighbours=-12),
        lambda data: data["graph"].update(cutoff_angstrom=float("nan")),
        lambda data: data["targets"][0].update(mean="1"),
        lambda data: data.update(targets=[]),
        lambda data: data.update(targets=5),
        lambda data: data.update(shards=[]),
        lambda data: data.update(versions=[]),
        lambda data: data["shards"][0].update(sha256=None),
    ],
)
def test_a_manifest_that_cannot_be_is_refused(copied, edit):
    path = copied / "manifest.json"
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))
    with pytest.raises(StoreError, match=r"manifest\.json"):
        _ = GraphStore(copied).shards


def test_graph_settings_that_were_changed_are_seen_without_reading_the_shards(copied):
    path = copied / "manifest.json"
    path.write_text(path.read_text().replace('"cutoff_angstrom": 8.0', '"cutoff_angstrom": 6.0'))
    with pytest.raises(StoreError, match="its data hash does not belong to its files"):
        GraphStore(copied)


@pytest.mark.parametrize("name", [SHARD, "manifest.json", "elements.safetensors"])
def test_a_pipe_in_the_place_of_a_file_is_refused(copied, name):
    (copied / name).unlink()
    os.mkfifo(copied / name)
    with pytest.raises(StoreError, match=r"not a regular file|not a graph store"):
        GraphStore(copied)


HEADERS = [
    b"",
    b"{}",
    b"[" * 100_000,
    b'{"neighbours": 5}',
    b'{"neighbours": {"dtype": [], "shape": {}, "data_offsets": null}}',
    b'{"neighbours": {"dtype": "I16", "shape": [-1, 12], "data_offsets": [0, 4]}}',
    b'{"neighbours": {"dtype": "I16", "shape": [1e400], "data_offsets": [0, 4]}}',
    b"9" * 5000,
]


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("name", [SHARD, "elements.safetensors"])
def test_damaged_headers_are_refused(copied, name, header):
    (copied / name).write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 64)
    sign(copied)
    with pytest.raises(StoreError, match=name):
        GraphStore(copied, check_hashes=True)


@pytest.mark.full
@quick
@given(data=st.data())
def test_a_garbled_header_is_refused_or_gives_arrays_in_range(demo_store, tmp_path_factory, data):
    folder = shutil.copytree(demo_store.folder, tmp_path_factory.mktemp("garbled") / "store")
    contents = bytearray((folder / SHARD).read_bytes())
    header = 8 + int.from_bytes(contents[:8], "little")
    for _ in range(data.draw(st.integers(1, 4))):
        contents[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
    (folder / SHARD).write_bytes(contents)
    sign(folder)
    found = opened(folder, check_hashes=True)
    if found is not None:  # the text of a header has some freedom, its meaning has none
        assert_in_range(found)


@pytest.mark.full
@quick
@given(data=st.data())
def test_garbled_arrays_are_refused_or_in_range(demo_store, tmp_path_factory, data):
    folder = shutil.copytree(demo_store.folder, tmp_path_factory.mktemp("garbled") / "store")
    contents = bytearray((folder / SHARD).read_bytes())
    header = 8 + int.from_bytes(contents[:8], "little")
    for _ in range(data.draw(st.integers(1, 6))):
        contents[data.draw(st.integers(header, len(contents) - 1))] = data.draw(st.integers(0, 255))
    (folder / SHARD).write_bytes(contents)
    changed = bytes(contents) != (demo_store.folder / SHARD).read_bytes()
    if changed:
        with pytest.raises(StoreError):
            GraphStore(folder, check_hashes=True)
    sign(folder)
    found = opened(folder, check_hashes=False)
    if found is not None:
        assert_in_range(found)


def opened(folder, *, check_hashes):
    """Return the arrays of a store, or None where it is refused in the right way: no other error is."""
    try:
        return GraphStore(folder, check_hashes=check_hashes).shards[0]
    except StoreError as error:
        if str(folder) not in str(error):
            raise AssertionError(f"{error} does not name {folder}") from error
        return None


def assert_in_range(arrays):
    """Assert what the compiled convolution relies on, in the plainest way."""
    offsets = arrays["offsets"].tolist()
    assert offsets[0] == 0
    assert offsets[-1] == len(arrays["atomic_numbers"])
    for first, last in pairwise(offsets):
        assert first < last
        assert all(0 <= index < last - first for index in arrays["neighbours"][first:last].flatten().tolist())
    assert all(1 <= number <= 100 for number in arrays["atomic_numbers"].tolist())
    assert all(0 <= length <= 8.001 or length == np.inf for length in arrays["distances"].flatten().tolist())


@quick
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_garbled_manifest_is_refused_or_means_the_same_graphs(demo_store, tmp_path_factory, share, bit):
    folder = tmp_path_factory.mktemp("garbled")
    for name in (SHARD, "elements.safetensors"):
        (folder / name).symlink_to(demo_store.folder / name)
    contents = bytearray((demo_store.folder / "manifest.json").read_bytes())
    contents[int(share * len(contents))] ^= 1 << bit
    (folder / "manifest.json").write_bytes(contents)
    try:
        store = GraphStore(folder, check_hashes=True)
    except StoreError:
        return
    assert store.manifest.data_hash == demo_store.manifest.data_hash
    assert as_dict(store.manifest)["graph"] == as_dict(demo_store.manifest)["graph"]
