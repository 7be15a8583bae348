"""The crystal graph: it does not depend on how a crystal is written down, and it is the one that CGCNN defines."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from srcgcnn.data.build import build_store
from srcgcnn.data.demo import PROTOTYPES, ideal_structure
from srcgcnn.data.graph import GraphSettings, build_graph
from srcgcnn.data.parsing import parse_structure
from srcgcnn.data.source import RowError, Source, SourceRow
from srcgcnn.data.store import GraphStore
from srcgcnn.records import as_dict, digest
from srcgcnn.training.graphset import GraphSet

ANGSTROM = 1e-5  # float32 at 8 angstrom has 5e-7
CUBIC_FE = Structure(Lattice.cubic(2.87), ["Fe", "Fe"], [[0, 0, 0], [0.5, 0.5, 0.5]])
PRIMITIVE_FE = Structure(
    Lattice([[1.435, 1.435, -1.435], [1.435, -1.435, 1.435], [-1.435, 1.435, 1.435]]), ["Fe"], [[0] * 3]
)
CELLS = [  # other cells of the same lattice: repeated, repeated askew, and the same volume on other axes
    [[2, 0, 0], [0, 1, 0], [0, 0, 1]],
    [[1, 0, 0], [0, 3, 0], [0, 0, 1]],
    [[2, 0, 0], [0, 1, 0], [0, 0, 2]],
    [[1, 1, 0], [0, 1, 0], [0, 0, 2]],
    [[0, 1, 1], [1, 0, 1], [1, 1, 0]],
    [[1, 0, 0], [2, 1, 0], [0, -1, 1]],
]


def ideal(name):
    """Return a prototype with its first choice of ions."""
    prototype = next(prototype for prototype in PROTOTYPES if prototype.name == name)
    return ideal_structure(prototype, prototype.decorations()[0])


def conventional(name):
    """Return a cube of a face-centred prototype: several atoms of one element share every shell."""
    crystal = ideal(name)
    return crystal.make_supercell([[-1, 1, 1], [1, -1, 1], [1, 1, -1]], in_place=False)


SYMMETRIC = {
    "bcc iron": CUBIC_FE,
    "fcc copper": Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.61), ["Cu"], [[0, 0, 0]]),
    "rocksalt cube": conventional("rocksalt"),
    "fluorite cube": conventional("fluorite"),
    **{prototype.name: ideal(prototype.name) for prototype in PROTOTYPES},
}
TIED = ["bcc iron", "rocksalt cube", "perovskite", "cscl"]


@st.composite
def low_symmetry(draw):
    """Draw a crystal of 1 to 5 atoms on a triclinic lattice."""
    lengths = [draw(st.integers(250, 800)) / 100 for _ in range(3)]
    angles = [draw(st.integers(65, 115)) for _ in range(3)]
    atoms = draw(st.integers(1, 5))
    symbols = draw(st.lists(st.sampled_from(["H", "O", "Na", "Fe"]), min_size=atoms, max_size=atoms))
    places = [[draw(st.integers(0, 9999)) / 10000 for _ in range(3)] for _ in range(atoms)]
    crystal = Structure(Lattice.from_parameters(*lengths, *angles), symbols, places)
    assume(atoms == 1 or (crystal.distance_matrix + np.eye(atoms)).min() > 0.5)
    return crystal


shifts = st.tuples(*[st.integers(-1500, 1500).map(lambda thousandths: thousandths / 1000)] * 3)
few = settings(max_examples=6, deadline=None)  # of each prototype
many = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def assert_same(graph, other, atoms, parent):
    """Check that atom i of `graph` sees what atom `atoms[i]` of `other` sees; `parent` relabels other's neighbours."""
    np.testing.assert_allclose(graph.distances, other.distances[atoms], atol=ANGSTROM)
    np.testing.assert_array_equal(graph.atomic_numbers, other.atomic_numbers[atoms])
    seen = np.isfinite(graph.distances)
    mine = graph.neighbours[seen]
    theirs = other.neighbours[atoms][seen]
    np.testing.assert_array_equal(mine, parent[theirs])
    np.testing.assert_array_equal(graph.atomic_numbers[mine], other.atomic_numbers[theirs])
    np.testing.assert_allclose(graph.vectors, other.vectors[atoms], atol=2 * ANGSTROM)


def check_permutation(crystal, order):
    """Atom k of the permuted crystal is atom order[k] of this one."""
    permuted = Structure.from_sites([crystal[place] for place in order])
    assert_same(build_graph(permuted), build_graph(crystal), np.array(order), np.argsort(order))


def check_translation(crystal, shift):
    moved = crystal.copy().translate_sites(range(len(crystal)), shift, to_unit_cell=True)
    everyone = np.arange(len(crystal))
    assert_same(build_graph(moved), build_graph(crystal), everyone, everyone)


def check_supercell(crystal, cell):
    """Every atom of the supercell sees the images of what its parent sees, in the same order."""
    labelled = crystal.copy(site_properties={"parent": list(range(len(crystal)))})
    larger = labelled.make_supercell(cell, in_place=False)
    parent = np.array(larger.site_properties["parent"])
    assert len(larger) == len(crystal) * round(abs(np.linalg.det(cell)))
    folded = build_graph(larger)
    original = build_graph(crystal)
    np.testing.assert_allclose(folded.distances, original.distances[parent], atol=ANGSTROM)
    np.testing.assert_array_equal(folded.atomic_numbers, original.atomic_numbers[parent])
    seen = np.isfinite(folded.distances)
    np.testing.assert_array_equal(parent[folded.neighbours[seen]], original.neighbours[parent][seen])
    np.testing.assert_allclose(folded.vectors, original.vectors[parent], atol=2 * ANGSTROM)


@many
@given(low_symmetry(), st.data())
def test_order_of_atoms_does_not_matter(crystal, data):
    check_permutation(crystal, data.draw(st.permutations(range(len(crystal)))))


@many
@given(low_symmetry(), shifts)
def test_origin_does_not_matter(crystal, shift):
    check_translation(crystal, shift)


@many
@given(low_symmetry(), st.sampled_from(CELLS))
def test_choice_of_cell_does_not_matter(crystal, cell):
    check_supercell(crystal, cell)


@pytest.mark.parametrize("name", SYMMETRIC)
def test_ties_do_not_bring_the_order_of_atoms_back(name):
    @few
    @given(st.permutations(range(len(SYMMETRIC[name]))))
    def check(order):
        check_permutation(SYMMETRIC[name], order)

    check()


@pytest.mark.parametrize("name", SYMMETRIC)
def test_ties_do_not_bring_the_origin_back(name):
    @few
    @given(shifts)
    def check(shift):
        check_translation(SYMMETRIC[name], shift)

    check()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("name", SYMMETRIC)
def test_ties_do_not_bring_the_cell_back(name, cell):
    check_supercell(SYMMETRIC[name], cell)


def all_within_cutoff(crystal):
    """Return, per atom, (distance, index) of all neighbours within 8 angstrom, nearest first."""
    return [sorted((near.nn_distance, near.index) for near in found) for found in crystal.get_all_neighbors(8.0)]


def cut_is_a_tie(found):
    return len(found) > 12 and found[12][0] - found[11][0] < 1e-4


def check_against_definition(crystal):
    graph = build_graph(crystal)
    for atom, found in enumerate(all_within_cutoff(crystal)):
        wanted, count = found[:12], min(12, len(found))
        assert np.isfinite(graph.distances[atom]).sum() == count
        np.testing.assert_allclose(graph.distances[atom, :count], [near[0] for near in wanted], atol=ANGSTROM)
        if not cut_is_a_tie(found):
            assert sorted(graph.neighbours[atom, :count]) == sorted(near[1] for near in wanted)


SPARSE = {
    "molecule": Structure(Lattice.cubic(15), ["H", "H"], [[0, 0, 0.99], [0, 0, 0.04]]),
    "row of atoms": Structure(Lattice.orthorhombic(3, 20, 20), ["C"], [[0.5, 0.5, 0.5]]),
    "slab": Structure(Lattice.tetragonal(2.5, 30), ["Cu", "Cu"], [[0, 0, 0], [0.5, 0.5, 0.06]]),
    "cluster and one far": Structure(
        Lattice.cubic(13),
        ["Na"] * 14,
        [
            *[[0.2 * i, 0.2 * j, 0.2 * k] for i in (0, 1) for j in (0, 1) for k in (0, 1, 2)],
            [0.6, 0.6, 0.7],
            [0.1, 0.1, 0.7],
        ],
    ),
}


@many
@given(low_symmetry())
def test_graph_is_the_plain_definition(crystal):
    check_against_definition(crystal)


@pytest.mark.parametrize("crystal", [*SYMMETRIC.values(), *SPARSE.values()], ids=[*SYMMETRIC, *SPARSE])
def test_graph_of_special_crystals_is_the_plain_definition(crystal):
    check_against_definition(crystal)


@pytest.mark.parametrize("name", TIED)
def test_prototypes_do_have_ties_through_the_cut(name):
    # what the tests of ties rest on
    assert any(cut_is_a_tie(found) for found in all_within_cutoff(SYMMETRIC[name]))


def test_iron_has_8_neighbours_and_then_4_of_the_6():
    graph = build_graph(PRIMITIVE_FE)
    np.testing.assert_allclose(graph.distances[0], [2.87 * 3**0.5 / 2] * 8 + [2.87] * 4, atol=ANGSTROM)
    assert graph.neighbours.tolist() == [[0] * 12]
    assert graph.atomic_numbers.tolist() == [26]


def test_within_a_shell_the_lighter_element_comes_first():
    # around B of a perovskite 6 X stand nearest, then 8 A; around X, 4 A and 8 X share the second shell
    crystal = ideal("perovskite")
    graph = build_graph(crystal)
    x_site = len(crystal) - 1
    assert graph.atomic_numbers[graph.neighbours[x_site]].tolist() == [22, 22, *[8] * 8, 20, 20]


@pytest.fixture(scope="module")
def dilute_store(tmp_path_factory):
    """0, 6 and 12 neighbours of 12 within 8 angstrom; the second crystal has two kinds of atoms."""
    crystals = [
        Structure(Lattice.cubic(9), ["Xe"], [[0, 0, 0]]),
        Structure(Lattice.cubic(12), ["Na", "Cl", "Cl"], [[0, 0, 0.1], [0, 0, 0.3], [0.3, 0, 0.1]]),
        CUBIC_FE,
        Structure(Lattice.cubic(7), ["Ar"], [[0, 0, 0]]),
    ]
    rows = [SourceRow(f"c{k}", "structure", crystal, {"y": float(k)}) for k, crystal in enumerate(crystals)]
    identity = hashlib.sha256(b"dilute").hexdigest()
    source = Source("dilute", identity, ("y",), ("",), "made for a test", len(rows), lambda: iter(rows))
    return build_store(source, tmp_path_factory.mktemp("dilute") / "store", processes=1).store


REAL_EDGES = [0, 2, 2, 2, 12, 12, 6]  # of every atom


def test_8_and_8_0_are_one_cutoff():
    assert digest(as_dict(GraphSettings(cutoff_angstrom=8))) == digest(as_dict(GraphSettings()))


def test_a_crystal_without_any_edge_can_stand_alone_in_graphs_of_different_degrees(tmp_path):
    lonely = Structure(Lattice.cubic(30.0), ["Ar"], [[0, 0, 0]])
    rows = [SourceRow("Ar", "structure", lonely, {"y": 1.0})]
    source = Source("lonely", "0" * 16, ("y",), ("",), "made for a test", 1, lambda: iter(rows))
    settings = GraphSettings(cutoff_angstrom=4.0, neighbours="all")
    store = build_store(source, tmp_path / "store", settings=settings, processes=1).store
    batch = GraphSet.of_store(store, torch.device("cpu"), vectors=True).batch(torch.tensor([[0]]))
    assert batch.edge_mask.shape == (1, 1, 1)
    assert not batch.edge_mask.any()


def test_a_shell_at_the_cutoff_is_one_that_the_store_takes_back(tmp_path):
    copper = Structure(Lattice.cubic(2.50004), ["Cu"], [[0, 0, 0]])  # the shell of 2a is 0.00008 beyond 5
    source = Source(
        "shell", "0" * 16, ("y",), ("",), "", 1, lambda: iter([SourceRow("Cu", "structure", copper, {"y": 1})])
    )
    settings = GraphSettings(cutoff_angstrom=5.0, neighbours="all", tie_tolerance_angstrom=1e-4)
    build_store(source, tmp_path / "store", settings=settings, processes=1)
    assert float(GraphStore(tmp_path / "store").graph(0).distances.max()) > 5.0


def test_missing_neighbours_are_masked(dilute_store):
    batch = GraphSet.of_store(dilute_store, torch.device("cpu")).batch(torch.tensor([[0, 1, 2, 3]]))
    expected = torch.arange(12) < torch.tensor(REAL_EDGES)[:, None]
    assert torch.equal(batch.edge_mask[0], expected)
    assert torch.equal(torch.isinf(batch.distances[0]), ~expected)
    assert dilute_store.manifest.padded_atoms == 5


def test_exact_padding_is_the_original_one(dilute_store):
    # CGCNN fills up with atom 0 of the crystal at 9 angstrom, and does not mask
    graphs = GraphSet.of_store(dilute_store, torch.device("cpu"), exact_padding=True)
    batch = graphs.batch(torch.tensor([[0, 1, 2, 3]]))
    first_atom = torch.tensor([0, 1, 1, 1, 4, 4, 6])
    padding = torch.arange(12) >= torch.tensor(REAL_EDGES)[:, None]
    assert batch.edge_mask is None
    assert (batch.distances[0][padding] == 9.0).all()
    assert (batch.distances[0][~padding] < 8.0).all()
    assert torch.equal(batch.neighbours[0][padding], first_atom[:, None].expand(-1, 12)[padding])


def cube(species, second=(0.5, 0.5, 0.5)):
    return Structure(Lattice.cubic(4), [species, "Cl"], [[0, 0, 0], second])


REJECTED = {
    "half a sodium": (cube({"Na": 0.5}), r"partial occupancy \(Na0\.5\)"),
    "sodium or potassium": (cube({"Na": 0.5, "K": 0.5}), "partial occupancy"),
    "mendelevium": (cube("Md"), r"Md \(Z=101\).*Z=1\.\.100"),
    "one place": (cube("Na", (0, 0, 0)), "two atoms in one place"),
    "nearly one place": (cube("Na", (0, 0.02, 0)), r"two atoms in one place: 0\.08"),
    "one place over the border": (cube("Na", (0, 0, 0.999)), "two atoms in one place"),
}


@pytest.mark.parametrize("name", REJECTED)
def test_what_has_no_graph_is_rejected_with_the_reason(name):
    crystal, reason = REJECTED[name]
    with pytest.raises(RowError, match=reason):
        build_graph(crystal)
    with pytest.raises(RowError, match=reason.split(r" \(")[0].split(":")[0].split(".*")[0]):
        build_graph(parse_structure(SourceRow("row", "cif", crystal.to(fmt="cif"), {})))


@pytest.mark.parametrize("count", [0, 32768])
def test_impossible_numbers_of_atoms_are_rejected(count):
    places = np.random.default_rng(0).random((count, 3))
    with pytest.raises(RowError, match=f"^{count} atoms"):
        build_graph(Structure(Lattice.cubic(100), ["Fe"] * count, places))
