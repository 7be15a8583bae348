"""Stores of format 2: vectors, angles and graphs of other settings; the graph of format 1 and its hash stay."""

import hashlib
import json
import shutil
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.core.operations import SymmOp
from safetensors.numpy import load_file, save_file

from srcgcnn.cli.main import main
from srcgcnn.data.build import BuildError, build_key, build_store
from srcgcnn.data.demo import demo_source
from srcgcnn.data.domain import domain_of
from srcgcnn.data.graph import GraphSettings, build_graph
from srcgcnn.data.images import packed, unpacked
from srcgcnn.data.manifest import StoreError
from srcgcnn.data.source import RowError, Source, SourceRow
from srcgcnn.data.store import GraphStore
from srcgcnn.models.line_graph import bond_cosines, line_graph
from srcgcnn.training.graphset import GraphSet

CPU = torch.device("cpu")
COUNT = 80
ANGSTROM = 2e-5  # float32
RADIUS = GraphSettings(cutoff_angstrom=5.0, neighbours="all")
SHELLS = GraphSettings(whole_shells=True)
OTHER = {
    "radius": RADIUS,
    "shells": SHELLS,
    "eight": GraphSettings(neighbours=8),
    "short": GraphSettings(cutoff_angstrom=3.0),
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory, demo_store):
    """The demonstration crystals as graphs of several settings, each in several shards."""
    folder = tmp_path_factory.mktemp("stores")
    built = {
        name: build_store(demo_source(COUNT), folder / name, settings=graph, processes=1, shard_bytes=20_000).store
        for name, graph in OTHER.items()
    }
    return {"default": demo_store, **built}


@pytest.fixture
def first_format(demo_store, tmp_path):
    """The shared store as format 1 had it."""
    folder = shutil.copytree(demo_store.folder, tmp_path / "first")
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    for stored in data.pop("geometry"):
        (folder / stored["file"]).unlink()
    data["schema_version"] = 1
    data["graph"].pop("whole_shells")
    path.write_text(json.dumps(data))
    return folder


def test_the_default_graph_keeps_the_hashes_of_format_1(demo_store):
    # of a store that the code before format 2 built
    assert demo_store.manifest.data_hash == "3cc189a2f44dcba6"
    assert demo_store.manifest.build_key == "f919f00c45f4416f"


def test_stores_of_format_1_open_without_vectors(first_format, demo_store):
    store = GraphStore(first_format, check_hashes=True)
    assert store.manifest.data_hash == demo_store.manifest.data_hash
    assert build_store(demo_source(COUNT), first_format, processes=1).found
    rows = torch.tensor([[0, 5, 7]])
    ours, theirs = (GraphSet.of_store(each, CPU).batch(rows) for each in (store, demo_store))
    assert all(torch.equal(one, two) for one, two in zip(ours.tensors, theirs.tensors, strict=True) if one is not None)
    assert ours.vectors is None
    for ask in (lambda: GraphSet.of_store(store, CPU, vectors=True), lambda: store.graph(0, vectors=True)):
        with pytest.raises(StoreError, match=r"first has no vectors to neighbours, only distances .* build it again"):
            ask()


def test_every_other_setting_is_another_store(stores):
    assert len({store.manifest.data_hash for store in stores.values()}) == len(stores)
    assert len({build_key(demo_source(COUNT), graph) for graph in (GraphSettings(), *OTHER.values())}) == len(stores)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(*[st.integers(-511, 511)] * 3), min_size=1, max_size=8), st.booleans())
def test_images_come_back_as_they_were(images, wide):
    array = np.array(images)
    whole = packed(array, wide=wide)
    np.testing.assert_array_equal(unpacked(whole), array)
    assert whole.dtype == (np.int16 if np.abs(array).max() < 16 and not wide else np.int32)


def test_an_image_too_far_is_refused():
    with pytest.raises(ValueError, match="512 cells away; 511 are possible"):
        packed(np.array([[512, 0, 0]]))


@pytest.mark.parametrize("name", ["default", *OTHER])
def test_batches_hold_the_graphs_and_vectors_of_their_rows(stores, name):
    store = stores[name]
    crystals = demo_crystals()
    graphs = GraphSet.of_store(store, CPU, vectors=True)
    rows = torch.tensor([[3, 70, 11], [60, 1, 2]])
    for static in (False, True):
        graphs.static_shapes = static
        batch = graphs.batch(rows)
        for model, chosen in enumerate(rows.tolist()):
            start = 0
            for row in chosen:
                whole, stored = build_graph(crystals[row], store.manifest.graph), store.graph(row, vectors=True)
                for attribute in ("atomic_numbers", "neighbours", "distances", "images", "places", "lattice"):
                    np.testing.assert_array_equal(getattr(stored, attribute), getattr(whole, attribute), strict=True)
                atoms, width = slice(start, start + len(whole.atomic_numbers)), whole.distances.shape[1]
                real = np.isfinite(whole.distances)
                np.testing.assert_array_equal(batch.distances[model, atoms, :width], whole.distances)
                assert batch.distances[model, atoms, width:].isinf().all()
                np.testing.assert_array_equal(
                    batch.neighbours[model, atoms, :width][real] - start, whole.neighbours[real]
                )
                np.testing.assert_allclose(batch.vectors[model, atoms, :width], whole.vectors, atol=ANGSTROM)
                start = atoms.stop
        assert (batch.neighbours >= 0).all()
        assert (batch.neighbours < batch.atomic_numbers.shape[1]).all()
        lengths = torch.where(batch.edge_mask, batch.distances, 0.0) if batch.edge_mask is not None else batch.distances
        np.testing.assert_allclose(batch.vectors.norm(dim=-1), lengths, atol=ANGSTROM)


def test_networks_of_distances_get_no_vectors_and_read_no_geometry(demo_store, tmp_path):
    folder = shutil.copytree(demo_store.folder, tmp_path / "store")
    path = folder / "geometry-00000.safetensors"
    path.write_bytes(b"\0" * path.stat().st_size)
    store = GraphStore(folder)
    assert GraphSet.of_store(store, CPU).batch(torch.tensor([[0, 1]])).vectors is None
    with pytest.raises(StoreError, match=r"geometry-00000\.safetensors is not a safetensors file"):
        GraphSet.of_store(store, CPU, vectors=True)


def test_vectors_take_at_most_40_bytes_an_atom(demo_store):
    small = sum(stored.bytes for stored in demo_store.manifest.geometry) - 36 * len(demo_store)  # a lattice a crystal
    assert small / demo_store.manifest.atoms <= 40


def wide_and_narrow_rows():
    """Two crystals in two shards, one of which has images far away."""
    thin = Structure(Lattice.orthorhombic(30, 30, 0.4), ["H"], [[0.1, 0.2, 0.3]])
    salt = Structure(Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    for name, crystal in (("salt", salt), ("thin", thin)):
        yield SourceRow(name, "structure", crystal, {"y": 1.0})


def test_shards_with_images_of_different_widths_make_one_batch(tmp_path):
    source = Source("s", "0" * 64, ("y",), ("",), "made for a test", 2, wide_and_narrow_rows)
    graph = GraphSettings(neighbours="all", cutoff_angstrom=8.0)
    store = build_store(source, tmp_path / "store", settings=graph, processes=1, shard_bytes=1).store
    assert [shard["images"].dtype for shard in store.geometry] == [np.int16, np.int32]
    batch = GraphSet.of_store(store, CPU, vectors=True).batch(torch.tensor([[0, 1]]))
    real = batch.edge_mask
    np.testing.assert_allclose(batch.vectors.norm(dim=-1)[real], batch.distances[real], atol=ANGSTROM)


# bcc iron has 8 neighbours at 2.49 and 6 at 2.87 angstrom: the 12th is in the second shell
IRON = Structure(Lattice.cubic(2.87), ["Fe", "Fe"], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.mark.parametrize(
    ("graph", "degree"),
    [
        (SHELLS, 14),
        (GraphSettings(neighbours=8, whole_shells=True), 8),
        (GraphSettings(neighbours="all", cutoff_angstrom=2.5), 8),
        (GraphSettings(neighbours="all", cutoff_angstrom=2.87), 14),
        (GraphSettings(neighbours="all", cutoff_angstrom=4.1), 26),
    ],
)
def test_degrees_are_those_of_the_shells(graph, degree):
    found = build_graph(IRON, graph)
    assert np.isfinite(found.distances).sum(axis=1).tolist() == [degree, degree]


def test_the_fixed_graph_is_the_start_of_the_one_with_whole_shells():
    fixed, shells = build_graph(IRON), build_graph(IRON, SHELLS)
    for attribute in ("neighbours", "distances", "images"):
        np.testing.assert_array_equal(getattr(fixed, attribute), getattr(shells, attribute)[:, :12])


def cosines_of(structure, graph):
    """Return the sorted cosines of all pairs of edges."""
    found = build_graph(structure, graph)
    real = torch.from_numpy(np.isfinite(found.distances))
    centre = torch.nonzero(real)[:, 0]
    neighbour = torch.from_numpy(found.neighbours.astype(np.int64))[real]
    pairs = line_graph(centre, neighbour, len(structure))
    assert torch.equal(neighbour[pairs[0]], centre[pairs[1]])
    degrees = torch.bincount(centre, minlength=len(structure))
    assert pairs.shape[1] == degrees[neighbour].sum()
    assert len(torch.unique(pairs, dim=1).T) == pairs.shape[1]
    return bond_cosines(torch.from_numpy(found.vectors)[real], pairs).sort().values


@cache
def demo_crystals():
    return [row.content for row in demo_source(COUNT).rows()]


crystals = st.integers(0, COUNT - 1).map(lambda row: demo_crystals()[row])


@settings(max_examples=15, deadline=None)
@given(crystals, st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda axis: np.linalg.norm(axis) > 0.1), st.floats(0, 360))
def test_angles_do_not_change_when_a_crystal_is_turned_moved_or_reordered(crystal, axis, degrees):
    turned = crystal.copy()
    turned.apply_operation(SymmOp.from_axis_angle_and_translation(axis, degrees))
    turned.translate_sites(range(len(turned)), [0.123, -0.456, 0.789], to_unit_cell=True)
    turned = Structure.from_sites(list(turned)[::-1])
    graph = GraphSettings(cutoff_angstrom=3.5, neighbours="all")
    before, after = cosines_of(crystal, graph), cosines_of(turned, graph)
    np.testing.assert_allclose(before, after, atol=1e-4)


@settings(max_examples=8, deadline=None)
@given(crystals)
def test_a_supercell_has_the_same_angles_more_often(crystal):
    graph = GraphSettings(cutoff_angstrom=3.0, neighbours="all")
    once, twice = cosines_of(crystal, graph), cosines_of(crystal.make_supercell([2, 1, 1], in_place=False), graph)
    np.testing.assert_allclose(once.repeat_interleave(2), twice, atol=1e-4)


def test_angles_of_a_square_lattice_are_those_of_the_plane():
    plane = Structure(Lattice.orthorhombic(3, 3, 30), ["C"], [[0, 0, 0]])
    found = cosines_of(plane, GraphSettings(cutoff_angstrom=3.5, neighbours="all"))
    # back (1), to both sides (0), straight on (-1), for each of four edges
    np.testing.assert_allclose(found, [-1.0] * 4 + [0.0] * 8 + [1.0] * 4, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"neighbours": 0}, "neighbours=0 must be all, or lie in 1..1000"),
        ({"cutoff_angstrom": 0.0}, "cutoff_angstrom=0.0"),
        ({"cutoff_angstrom": 1e9}, "cutoff_angstrom=1000000000.0"),
        ({"neighbours": "all", "whole_shells": True}, "whole_shells goes with a number"),
        ({"neighbours": "all", "rule": 0}, "rule 0"),
    ],
)
def test_settings_that_define_no_graph_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        GraphSettings(**values)


def test_too_many_neighbours_are_a_bad_row():
    with pytest.raises(RowError, match="neighbours within 20 angstrom; choose a smaller cutoff"):
        build_graph(IRON, GraphSettings(cutoff_angstrom=20.0, neighbours="all"))


@pytest.mark.full
def test_settings_are_flags_and_info_tells_them(tmp_path, capsys):
    assert main(["data", "build", "demo", "--out", str(tmp_path / "s"), "--neighbours", "all", "--cutoff", "4"]) == 0
    assert "all within 4 angstrom, 0 atoms have none; vectors" in capsys.readouterr().out
    assert main(["data", "verify", str(tmp_path / "s")]) == 0
    assert main(["data", "build", "demo", "--out", str(tmp_path / "t"), "--neighbours", "many"]) == 2
    assert "neighbours: must be" in capsys.readouterr().err


def test_strict_holds_for_a_store_that_is_there(tmp_path):
    rows = [*wide_and_narrow_rows(), SourceRow("bad", "error", "is bad", {})]
    source = Source("s", "0" * 64, ("y",), ("",), "made for a test", 3, lambda: iter(rows))
    build_store(source, tmp_path / "store", processes=1)
    assert build_store(source, tmp_path / "store", processes=1).found
    with pytest.raises(BuildError, match=r"--strict: 1 bad rows in .*store; all are listed in .*rejected\.csv"):
        build_store(source, tmp_path / "store", processes=1, strict=True)


def test_the_domain_of_graphs_of_different_degrees(stores):
    store = stores["radius"]
    domain = domain_of(store.shards, np.arange(COUNT), 5.0)
    graphs = [store.graph(row) for row in range(COUNT)]
    assert domain.shortest_distance_angstrom[0] == min(graph.distances.min() for graph in graphs)
    assert domain.last_distance_angstrom[1] <= 5.0
    assert all(domain.departures(graph, 5.0, fixed_degree=False) == "" for graph in graphs)


def forge(folder, file, name, place, value):
    """Write a value into an array, and make the manifest agree."""
    arrays = load_file(folder / file)
    arrays[name] = arrays[name].copy()
    arrays[name][place] = value
    save_file(arrays, folder / file)
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    for stored in (*data["shards"], *data["geometry"]):
        stored["sha256"] = hashlib.sha256((folder / stored["file"]).read_bytes()).hexdigest()
        stored["bytes"] = (folder / stored["file"]).stat().st_size
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("name", "value"),
    [("places", np.nan), ("places", -0.5), ("places", 2.0), ("lattices", np.inf), ("lattices", np.nan)],
)
def test_geometry_that_cannot_be_is_named(demo_store, tmp_path, name, value):
    folder = shutil.copytree(demo_store.folder, tmp_path / "store")
    forge(folder, "geometry-00000.safetensors", name, 3, value)
    with pytest.raises(StoreError, match=f"array '{name}' has {value}, must lie in"):
        _ = GraphStore(folder).geometry


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("degrees", -1, "'degrees' has -1"),
        ("degrees", 999, "'degrees' adds up to"),
        ("neighbours", -5, "'neighbours' has -5"),
    ],
)
def test_degrees_that_cannot_be_are_named(stores, tmp_path, name, value, message):
    folder = shutil.copytree(stores["radius"].folder, tmp_path / "store")
    forge(folder, "shard-00000.safetensors", name, 0, value)
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    from srcgcnn.data.manifest import content_hash_of, read_manifest

    path.write_text(json.dumps({**data, "data_hash": content_hash_of(read_manifest(folder))}))
    with pytest.raises(StoreError, match=message):
        _ = GraphStore(folder).shards
