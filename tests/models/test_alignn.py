"""ALIGNN and its convolution: the equations by loops, published counts, symmetries, and training on real vectors."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from scipy.spatial.transform import Rotation
from torch import nn
from torch.nn import functional as F

from srcgcnn.cli.main import main
from srcgcnn.data.build import build_store
from srcgcnn.data.graph import build_graph
from srcgcnn.data.manifest import StoreError
from srcgcnn.data.shard import geometry_arrays
from srcgcnn.data.source import Source, SourceRow
from srcgcnn.data.store import GraphStore
from srcgcnn.models.batch import GraphBatch
from srcgcnn.models.blocks.alignn import Entry, LineGraphStep
from srcgcnn.models.blocks.eggc import EdgeGatedStep
from srcgcnn.models.config import ModelConfig
from srcgcnn.models.counts import count_parameters
from srcgcnn.models.line_graph import line_graph
from srcgcnn.models.network import CrystalGraphNetwork
from srcgcnn.models.registry import BLOCKS
from srcgcnn.models.state import State
from srcgcnn.training.graphset import GraphSet
from srcgcnn.training.predictor import _as_shard
from srcgcnn.training.trainer import GroupTrainer

CPU = torch.device("cpu")
WIDTH = 5
# no symmetry, so that no two distances are equal
SITES = [[0.02, 0.05, 0.11], [0.31, 0.47, 0.26], [0.58, 0.13, 0.66], [0.83, 0.71, 0.91]]
TRICLINIC = Structure(Lattice.from_parameters(4.1, 4.7, 5.3, 81, 97, 104), ["Na", "Cl", "O", "Ti"], SITES)


class Norms:
    """Stand-ins that are easy to tell apart, and not linear: each by its name."""

    def __getattr__(self, name):
        return lambda rows: rows * (1 + 0.1 * len(name)) + 0.1 * torch.sin(rows) + 0.01 * len(name)


def graphs_of(structures, element_features):
    graphs = [build_graph(structure) for structure in structures]
    geometry = [geometry_arrays(graphs, fixed_degree=True)]
    return GraphSet([_as_shard(graphs)], element_features, CPU, geometry=geometry)


@pytest.fixture(params=[False, True], ids=["all edges", "some edges missing"])
def graph(request, demo_store):
    """Real vectors in double precision: of one crystal, or with a molecule whose atoms have one neighbour."""
    molecule = Structure(Lattice.cubic(20.0), ["C", "O", "H"], [[0, 0, 0], [0.0565, 0, 0], [0.02, 0.35, 0.05]])
    small = Structure(Lattice.cubic(2.9), ["Fe"], [[0, 0, 0]])
    structures = [small, molecule] if request.param else [TRICLINIC]
    crystals = graphs_of(structures, demo_store.element_features)
    found = crystals.batch(torch.arange(len(structures))[None]).flat(0)
    assert (found.places is None) is not request.param
    return replace(found, distances=found.distances.double(), vectors=found.vectors.double())


def states(graph):
    generator = torch.Generator().manual_seed(1)
    rows = (len(graph.atomic_numbers), len(graph.distances), len(graph.line.centres))
    return [torch.randn(n, WIDTH, generator=generator, dtype=torch.float64, requires_grad=True) for n in rows]


def drawn(module):
    generator = torch.Generator().manual_seed(2)
    for value in module.parameters():
        nn.init.normal_(value, std=0.4, generator=generator)
    return module.double()


def convolution(part, nodes, edges, pairs, of_nodes, of_edges):
    """EGGC with loops: `pairs` has, by edge, the node that listens and the node that it listens to."""
    (a, u), (b, v) = (
        zip(layer.weight.chunk(2), layer.bias.chunk(2), strict=True) for layer in (part.centre, part.source)
    )
    gates = [
        F.linear(nodes[i], *a) + F.linear(nodes[j], *b) + F.linear(edges[number], part.edge.weight, part.edge.bias)
        for number, (i, j) in enumerate(pairs)
    ]
    rows = []
    for i in range(len(nodes)):
        mine = [number for number, (centre, _) in enumerate(pairs) if centre == i]
        shares = [torch.sigmoid(gates[number]) for number in mine]
        above = sum(share * F.linear(nodes[pairs[n][1]], *v) for share, n in zip(shares, mine, strict=True))
        rows.append(F.linear(nodes[i], *u) + above / (sum(shares) + 1e-6))
    return nodes + F.silu(of_nodes(torch.stack(rows))), edges + F.silu(of_edges(torch.stack(gates)))


def bonds_of(graph):
    return list(zip(graph.centres.tolist(), graph.sources.tolist(), strict=True))


def angles_of(graph):
    """Pairs of bonds that follow each other, by a double loop."""
    bonds = bonds_of(graph)
    return [(one, two) for one, (_, j) in enumerate(bonds) for two, (start, _) in enumerate(bonds) if start == j]


def assert_same(found, expected, inputs):
    """Values and gradients agree in double precision."""
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)
    weights = torch.linspace(-1, 1, found.numel(), dtype=torch.float64).view_as(found)
    both = [torch.autograd.grad((one * weights).sum(), inputs, retain_graph=True) for one in (found, expected)]
    torch.testing.assert_close(*both, atol=1e-9, rtol=1e-9)


def test_eggc_step_is_its_equations(graph):
    block, norms = drawn(EdgeGatedStep(ModelConfig("eggc", 2, hidden_channels=WIDTH))), Norms()
    atoms, edges, _ = states(graph)
    found = block.step(State(atoms, edges), graph, None, norms)
    new_atoms, new_edges = convolution(block.crystal, atoms, edges, bonds_of(graph), norms.atoms, norms.edges)
    inputs = [atoms, edges, *block.crystal.parameters()]
    assert_same(found.atoms, new_atoms, inputs)
    assert_same(found.edges, new_edges, inputs)


def test_alignn_step_is_its_equations(graph):
    block = drawn(LineGraphStep(ModelConfig("alignn", 2, hidden_channels=WIDTH)))
    (atoms, bonds, angles), norms = states(graph), Norms()
    found = block.step(State(atoms, bonds, angles=angles), graph, block.prepare(block.expand(graph)), norms)
    new_atoms, between = convolution(block.crystal, atoms, bonds, bonds_of(graph), norms.atoms, norms.edges)
    new_bonds, new_angles = convolution(
        block.line, between, angles, angles_of(graph), norms.line_nodes, norms.line_edges
    )
    assert_same(found.atoms, new_atoms, [atoms, bonds, *block.crystal.parameters()])
    inputs = [atoms, bonds, angles, block.crystal.edge.weight, *block.line.parameters()]
    assert_same(found.edges, new_bonds, inputs)
    assert_same(found.angles, new_angles, [atoms, bonds, angles, block.line.edge.weight, block.line.centre.weight])


def test_without_its_own_residual_a_step_adds_nothing(graph):
    """With norms that give 0, what a step adds is SiLU(0) = 0."""
    zero = SimpleNamespace(**dict.fromkeys(("atoms", "edges", "line_nodes", "line_edges"), torch.zeros_like))
    atoms, bonds, angles = states(graph)
    for skip in ("none", "residual"):
        block = drawn(LineGraphStep(ModelConfig("alignn", 2, hidden_channels=WIDTH, skip=skip)))
        found = block.step(State(atoms, bonds, angles=angles), graph, graph.line, zero)
        for part, before in zip((found.atoms, found.edges, found.angles), (atoms, bonds, angles), strict=True):
            assert torch.equal(part, before if skip == "none" else torch.zeros_like(before))


def test_entry_is_its_equations(graph):
    entry = drawn(Entry(ModelConfig("alignn", 1, hidden_channels=WIDTH, edge_channels=3)))
    norms, atoms = Norms(), states(graph)[0]
    found = entry(graph, State(atoms), norms)

    def twice(part, value, first, last, count, inner, outer):
        spacing = (last - first) / (count - 1)
        row = torch.stack([torch.exp(-((value - first - n * spacing) ** 2) / spacing) for n in range(count)])
        return F.silu(outer(part.outer(F.silu(inner(part.inner(row))))))

    edges = [twice(entry.edges, d, 0, 8, 80, norms.edges_inner, norms.edges) for d in graph.distances]
    cosines = []
    for one, two in angles_of(graph):
        back, on = -graph.vectors[one].numpy(), graph.vectors[two].numpy()
        cosines.append(torch.tensor(back @ on / np.linalg.norm(back) / np.linalg.norm(on)))
    angles = [twice(entry.angles, c, -1, 1, 40, norms.angles_inner, norms.angles) for c in cosines]
    torch.testing.assert_close(found.atoms, F.silu(norms.atoms(atoms)))
    # the centres are in single precision
    torch.testing.assert_close(found.edges, torch.stack(edges), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.angles, torch.stack(angles), atol=1e-5, rtol=1e-5)


def test_the_line_graph_of_full_slots_is_that_of_any_graph(graph):
    pairs = line_graph(graph.centres, graph.sources, len(graph.atomic_numbers))
    assert graph.line.pairs.tolist() == pairs.tolist()
    assert list(map(tuple, graph.line.pairs.T.tolist())) == angles_of(graph)


def test_layers_have_the_published_numbers_of_parameters():
    """Those of the released network at width 256, embedding 64, without its last Linear of 257."""

    def counts(family, depth):
        return count_parameters(ModelConfig(family, depth, blocks="all", hidden_channels=256, edge_channels=64))

    assert counts("alignn", 4).convolution == 4 * 659_968
    assert counts("eggc", 4).convolution == 4 * 329_984
    head = (256 + 1) * 128 + 129
    assert counts("alignn", 1).total - counts("alignn", 1).convolution - head == 66_945 - 257
    layer = ModelConfig("alignn", 4, hidden_channels=256, edge_channels=64, norm_kind="layer")
    assert count_parameters(layer) == counts("alignn", 4)  # so counts cannot tell LayerNorm from BatchNorm


def outputs(structures, element_features, family="alignn", depth=2):
    crystals = graphs_of(structures, element_features)
    config = ModelConfig(family, depth, hidden_channels=8, head_channels=8)
    network = CrystalGraphNetwork(config, crystals.element_features)
    network.reset_parameters([3])
    with torch.no_grad():
        network(graphs_of([TRICLINIC, TRICLINIC.copy()], element_features).batch(torch.tensor([[0, 1]])))
        return network.eval()(crystals.batch(torch.arange(len(structures))[None]))[0]


@pytest.mark.parametrize("family", BLOCKS)
@given(seed=st.integers(0, 1000), order=st.permutations(range(4)))
@settings(max_examples=5, deadline=None)
def test_rotation_reflection_translation_cell_and_order_of_atoms_do_not_matter(family, demo_store, seed, order):
    generator = np.random.default_rng(seed)
    turn = Rotation.random(random_state=seed).as_matrix()
    rotated = Structure(TRICLINIC.lattice.matrix @ turn.T, TRICLINIC.species, TRICLINIC.frac_coords)
    moved = TRICLINIC.copy().translate_sites(range(4), generator.random(3))
    shuffled = Structure.from_sites([TRICLINIC[atom] for atom in order])
    large = TRICLINIC.copy().make_supercell([2, 1, 1])
    found = outputs(
        [TRICLINIC, rotated, mirrored(rotated), moved, shuffled, large], demo_store.element_features, family
    )
    torch.testing.assert_close(found, found[:1].expand(6), atol=1e-4, rtol=1e-3)


def mirrored(structure):
    return Structure(structure.lattice.matrix * [1, 1, -1], structure.species, structure.frac_coords)


def source_of(structures):
    rows = [SourceRow(f"x{number}", "structure", one, {"y": number}) for number, one in enumerate(structures)]
    return Source("s", "0" * 64, ("y",), ("",), "made for a test", len(rows), lambda: iter(rows))


def test_mirror_images_have_one_data_hash_and_so_one_key_and_the_same_angles(tmp_path):
    """Vectors are no part of the hash: with all distances equal to the last bit, crystals differ by an isometry."""
    originals = [TRICLINIC, TRICLINIC.copy().make_supercell([2, 1, 1])]
    stores = [
        build_store(source_of(structures), tmp_path / name, processes=1).store
        for name, structures in (("left", originals), ("right", [mirrored(one) for one in originals]))
    ]
    left, right = (store.manifest for store in stores)
    assert left.data_hash == right.data_hash
    assert left.geometry[0].sha256 != right.geometry[0].sha256
    found = []
    for store in stores:
        crystals = GraphSet.of_store(store, torch.device("cpu"), vectors=True)
        network = CrystalGraphNetwork(ModelConfig("alignn", 3, hidden_channels=8), crystals.element_features)
        network.reset_parameters([0])
        with torch.no_grad():
            found.append(network.eval()(crystals.batch(torch.tensor([[0, 1]]))))
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-5)


def test_the_plan_says_that_alignn_with_one_step_knows_no_angles(demo_store, tmp_path, capsys):
    sweep = [
        "sweep",
        "--data",
        str(demo_store.folder),
        "--out",
        str(tmp_path / "out"),
        "--models",
        "alignn",
        "--dry-run",
    ]
    for depth, cautioned in (("1", True), ("2", False)):
        assert main([*sweep, "--models", "alignn", "--depths", depth]) == 0
        assert ("ALIGNN with one step uses no angles" in " ".join(capsys.readouterr().out.split())) is cautioned


@pytest.mark.parametrize(("family", "depth", "sees"), [("eggc", 3, False), ("alignn", 2, True), ("alignn", 1, False)])
def test_angles_matter_from_the_second_step_on(demo_store, family, depth, sees):
    """Two graphs that differ in the directions of their bonds only; in double precision, as they do little at first."""
    crystals = graphs_of([TRICLINIC], demo_store.element_features)
    tensors = crystals.batch(torch.tensor([[0]])).tensors
    batch = GraphBatch.of([one.double() if one is not None and one.is_floating_point() else one for one in tensors])
    bent = replace(batch, vectors=batch.vectors.roll(1, dims=2))
    config = ModelConfig(family, depth, hidden_channels=8)
    network = CrystalGraphNetwork(config, crystals.element_features)
    network.reset_parameters([0])
    network = network.double().eval()
    with torch.no_grad():
        straight, other = (network(one) for one in (batch, bent))
    assert torch.equal(straight, other) is not sees
    assert ("no angles" in config.caution) is (family == "alignn" and depth == 1)


def test_a_store_without_vectors_is_refused_with_the_way_out(demo_store, trial_of, tmp_path, capsys):
    folder = shutil.copytree(demo_store.folder, tmp_path / "first")
    manifest = json.loads((folder / "manifest.json").read_text())
    for stored in manifest.pop("geometry"):
        (folder / stored["file"]).unlink()
    (folder / "manifest.json").write_text(json.dumps({**manifest, "schema_version": 1}))
    old = GraphStore(folder)
    with pytest.raises(StoreError, match=r"has no vectors to neighbours.*build it again from its source"):
        GroupTrainer([trial_of(ModelConfig("alignn", 2))], old)
    sweep = ["sweep", "--data", str(folder), "--depths", "2", "--out", str(tmp_path / "out"), "--dry-run", "--models"]
    assert main([*sweep, "cgcnn", "alignn"]) != 0  # before anything is launched
    assert "build it again from its source" in " ".join(capsys.readouterr().err.split())
    assert main([*sweep, "cgcnn", "eggc"]) == 0
    GroupTrainer([trial_of(ModelConfig("eggc", 2, hidden_channels=8))], old)
