"""Reading a store: every kind of damage is named, shards are invisible, the manifest tells the truth."""

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from srcgcnn.cli.main import main
from srcgcnn.data.build import build_store
from srcgcnn.data.demo import TARGET, demo_source
from srcgcnn.data.graph import build_graph
from srcgcnn.data.manifest import StoreError
from srcgcnn.data.source import Source, SourceRow
from srcgcnn.data.store import GraphStore
from srcgcnn.training.graphset import GraphSet

FILES = ["shard-00000.safetensors", "elements.safetensors"]
COUNT = 80  # of the shared store
quick = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def copied(demo_store, tmp_path):
    """A copy of the shared store, to be damaged."""
    return shutil.copytree(demo_store.folder, tmp_path / "store")


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """The shared store once more, in many shards."""
    out = tmp_path_factory.mktemp("sharded") / "store"
    return build_store(demo_source(COUNT), out, processes=1, shard_bytes=5000).store


def flip(path, position):
    contents = bytearray(path.read_bytes())
    contents[position] ^= 0x10
    path.write_bytes(contents)


@pytest.mark.parametrize("position", [0, 100, 5000, -1])
@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_found_and_named(copied, name, position):
    flip(copied / name, position)
    with pytest.raises(StoreError, match=rf"{name} differs from the manifest's sha256") as caught:
        GraphStore(copied, check_hashes=True)
    assert sum(file in str(caught.value) for file in FILES) == 1


def test_verify_reports_damage_and_health(copied, capsys):
    assert main(["data", "verify", str(copied)]) == 0
    assert "intact (80 crystals, 1 shards" in capsys.readouterr().out
    flip(copied / FILES[0], -1)
    assert main(["data", "verify", str(copied)]) == 2
    assert f"{FILES[0]} differs" in capsys.readouterr().err


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_named_on_opening(copied, name):
    size = (copied / name).stat().st_size
    with (copied / name).open("r+b") as stream:
        stream.truncate(size - 1)
    with pytest.raises(StoreError, match=rf"{name} has {size - 1} bytes, the manifest says {size}"):
        GraphStore(copied)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_on_opening(copied, name):
    (copied / name).unlink()
    with pytest.raises(StoreError, match=rf"{name} is missing"):
        GraphStore(copied)


def test_one_damaged_shard_of_many_is_named(sharded, tmp_path):
    folder = shutil.copytree(sharded.folder, tmp_path / "store")
    (folder / "shard-00003.safetensors").unlink()
    flip(folder / "shard-00005.safetensors", -1)
    with pytest.raises(StoreError) as caught:
        GraphStore(folder, check_hashes=True)
    named = [name for name in (f"shard-{k:05d}" for k in range(len(sharded.shards))) if name in str(caught.value)]
    assert named == ["shard-00003", "shard-00005"]


def test_a_header_that_is_none_is_named(copied):
    path = copied / FILES[0]
    path.write_bytes(b"\xff" * path.stat().st_size)
    store = GraphStore(copied)  # opening does not read the shards
    with pytest.raises(StoreError, match="is not a safetensors file; run: srcgcnn data verify"):
        store.graph(0)


def test_a_folder_without_a_manifest_is_no_store(tmp_path):
    with pytest.raises(StoreError, match=r"not a graph store \(no manifest\.json\); make one with: srcgcnn data build"):
        GraphStore(tmp_path)


def test_a_table_is_no_store_and_is_not_to_be_overwritten(tmp_path):
    (tmp_path / "a.csv").write_text("id,cif,y\n")
    with pytest.raises(StoreError, match=r"a\.csv is not a graph store \(a file\); .* --out STORE$"):
        GraphStore(tmp_path / "a.csv")
    with pytest.raises(StoreError, match=r"\(no such folder\)"):
        GraphStore(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 1}', "\xff"])
def test_a_damaged_manifest_is_named(copied, text):
    (copied / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(StoreError, match=r"manifest\.json"):
        GraphStore(copied)


def test_another_schema_version_is_refused(copied):
    path = copied / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))
    with pytest.raises(StoreError, match="schema_version=99, this version reads 1"):
        GraphStore(copied)


@pytest.mark.full
@settings(quick, max_examples=200)
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_in_the_manifest_is_never_a_crash(demo_store, tmp_path_factory, share, bit):
    contents = bytearray((demo_store.folder / "manifest.json").read_bytes())
    contents[int(share * len(contents))] ^= 1 << bit
    folder = tmp_path_factory.mktemp("flipped")
    for name in FILES:
        (folder / name).symlink_to(demo_store.folder / name)
    (folder / "manifest.json").write_bytes(contents)
    message = str(folder)
    try:
        GraphStore(folder)  # a changed digit of a statistic cannot be told from the right one
    except StoreError as error:
        message = str(error)
    assert str(folder) in message


def test_several_shards_read_as_one(demo_store, sharded):
    assert len(sharded.shards) > 5
    assert len(demo_store.shards) == 1
    assert sharded.ids == demo_store.ids
    assert sharded.formulas == demo_store.formulas
    np.testing.assert_array_equal(sharded.target(TARGET), demo_store.target(TARGET))
    for row in range(COUNT):
        assert_equal_graphs(sharded.graph(row), demo_store.graph(row))


def assert_equal_graphs(one, other):
    for name in ("atomic_numbers", "neighbours", "distances"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), strict=True)


rows_of_models = st.integers(1, 3).flatmap(
    lambda models: st.integers(1, 6).flatmap(
        lambda crystals: st.lists(
            st.lists(st.integers(0, COUNT - 1), min_size=crystals, max_size=crystals),
            min_size=models,
            max_size=models,
        )
    )
)


@quick
@given(rows_of_models)
def test_batches_of_several_shards_are_those_of_one(demo_store, sharded, rows):
    cpu = torch.device("cpu")
    one, many = (vars(GraphSet.of_store(store, cpu).batch(torch.tensor(rows))) for store in (demo_store, sharded))
    for name, values in one.items():
        assert (values is None and many[name] is None) or torch.equal(values, many[name]), name


@quick
@given(rows_of_models)
def test_a_batch_holds_the_graphs_of_its_rows(demo_store, rows):
    batch = GraphSet.of_store(demo_store, torch.device("cpu")).batch(torch.tensor(rows))
    for model, crystals in enumerate(rows):
        start = 0
        for place, row in enumerate(crystals):
            graph = demo_store.graph(row)
            atoms = slice(start, start + len(graph.atomic_numbers))
            np.testing.assert_array_equal(batch.atomic_numbers[model, atoms], graph.atomic_numbers)
            np.testing.assert_array_equal(batch.distances[model, atoms], graph.distances)
            np.testing.assert_array_equal(batch.neighbours[model, atoms] - start, graph.neighbours)
            assert (batch.crystal[model, atoms] == place).all()
            assert batch.atom_counts[model, place] == len(graph.atomic_numbers)
            start = atoms.stop
        if batch.atom_mask is not None:
            assert batch.atom_mask[model].sum() == start


def test_a_store_holds_the_graphs_of_its_source(demo_store):
    for row, crystal in enumerate(demo_source(COUNT).rows()):
        assert demo_store.ids[row] == crystal.row_id
        assert demo_store.formulas[row] == crystal.content.composition.reduced_formula
        assert_equal_graphs(demo_store.graph(row), build_graph(crystal.content))


@pytest.mark.parametrize("row", [-1, COUNT])
def test_a_row_outside_is_an_error(sharded, row):
    with pytest.raises(IndexError, match=f"row {row} is outside 0..79"):
        sharded.graph(row)


def test_manifest_counts_and_statistics_are_those_of_the_rows(sharded):
    manifest = sharded.manifest
    crystals = list(demo_source(COUNT).rows())
    values = np.array([row.targets[TARGET] for row in crystals])
    (column,) = manifest.targets
    assert (column.name, column.unit) == (TARGET, "eV/atom")
    assert [column.mean, column.std] == pytest.approx([values.mean(), values.std(ddof=1)], rel=1e-12)
    assert [column.minimum, column.maximum] == [values.min(), values.max()]
    assert manifest.crystals == len(sharded) == sum(shard.crystals for shard in manifest.shards) == COUNT
    assert manifest.atoms == sum(shard.atoms for shard in manifest.shards) == sum(len(row.content) for row in crystals)
    assert (manifest.padded_atoms, manifest.rejected) == (0, 0)
    assert manifest.source_hash == demo_source(COUNT).content_hash


def test_an_unknown_target_is_an_error_with_the_known_ones(demo_store):
    with pytest.raises(StoreError, match=rf"target 'gap' is not in this store; it has: {TARGET}"):
        demo_store.target("gap")


def test_names_and_targets_come_back_as_they_were(tmp_path):
    crystals = [row.content for row in demo_source(3).rows()]
    ids = ["a,b", "Größe 2 µm", 'quote " and space ']
    targets = [{"y": 0.1 + 0.2, "z": -1e-300}, {"y": 1e9, "z": 2.0}, {"y": "3.5", "z": 4}]
    rows = [
        SourceRow(row_id, "structure", crystal, values)
        for row_id, crystal, values in zip(ids, crystals, targets, strict=True)
    ]
    source = Source("names", "0" * 64, ("y", "z"), ("eV", ""), "made for a test", 3, lambda: iter(rows))
    store = build_store(source, tmp_path / "store", processes=1, shard_bytes=1).store
    assert len(store.shards) == 3
    assert store.ids == ids
    assert store.target("y").tolist() == [0.1 + 0.2, 1e9, 3.5]
    assert store.target("z").tolist() == [-1e-300, 2.0, 4.0]


def test_a_reader_cannot_change_the_files(copied):
    store = GraphStore(copied)
    store.graph(0).distances[:] = 1.0  # the map is private: training may write into its own copy
    GraphStore(copied, check_hashes=True)
