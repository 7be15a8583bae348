"""Whole networks with copied weights against packages that others wrote (`pip install -e .[oracles]`).

Outputs in single precision, gradients of all weights in double. Packages that are not installed are skipped;
`benchmarks/released_code.py` does the same with the released code of the deeper variants.
"""

import pytest
import torch
from torch import nn
from torch_geometric.nn import SchNet

from srcgcnn.models.batch import GraphBatch
from srcgcnn.models.config import ModelConfig
from srcgcnn.models.gaussians import Gaussians
from srcgcnn.models.network import CrystalGraphNetwork
from srcgcnn.models.stacked import EPSILON
from srcgcnn.prediction.import_cgcnn import weights_of
from srcgcnn.training.graphset import GraphSet

WIDTH = 16
MODES = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


@pytest.fixture(scope="module")
def crystals(demo_store):
    return GraphSet.of_store(demo_store, torch.device("cpu"), vectors=True)


@pytest.fixture(params=[torch.float32, torch.float64], ids=["single", "double"])
def batch(request, crystals):
    tensors = crystals.batch(torch.arange(6)[None]).tensors
    return GraphBatch.of(
        [one.to(request.param) if one is not None and one.is_floating_point() else one for one in tensors]
    )


def network_of(config, crystals, batch, weights, training):
    network = CrystalGraphNetwork(config, crystals.element_features)
    network.reset_parameters([0])
    missing, unexpected = network.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(name.startswith("head.") for name in missing)
    return network.to(batch.distances.dtype).train(training)


def drawn(module, batch, training):
    """Draw norms, too, which start as the identity."""
    generator = torch.Generator().manual_seed(4)
    for name, value in module.state_dict().items():
        if "running" in name or "bn" in name or name.endswith("layer.1.weight"):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return module.to(batch.distances.dtype).train(training)


def features_of(batch, crystals):
    """Element features [N, 92] and Gaussians [E, 41] of a batch of one model."""
    flat = batch.flat(0)
    gaussians = Gaussians().to(batch.distances.dtype)(flat.distances)
    return crystals.element_features[flat.atomic_numbers].to(gaussians.dtype), gaussians


def assert_same(found, expected, ours, theirs, renamed):
    """Outputs agree to 1e-5; in double precision to 1e-7 with all gradients: the packages have constants in single.

    Args:
        found: our outputs.
        expected: theirs.
        ours: our network.
        theirs: their network.
        renamed: their tensors by name to ours.
    """
    double = found.dtype == torch.float64
    tolerance = 1e-7 if double else 1e-5
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
    if not double:
        return
    for outputs in (found, expected):
        (outputs * torch.linspace(-1, 1, len(outputs), dtype=outputs.dtype)).sum().backward()
    gradients = {name: _gradient(value) for name, value in theirs.named_parameters()}
    mine = dict(ours.named_parameters())
    compared = renamed(gradients)
    assert compared
    for name, gradient in compared.items():
        torch.testing.assert_close(_gradient(mine[name]), gradient, atol=tolerance, rtol=tolerance, msg=name)


def _gradient(value):
    return torch.zeros_like(value) if value.grad is None else value.grad


@MODES
@pytest.mark.parametrize("depth", [1, 3])
def test_cgcnn_is_that_of_cgcnn2(depth, training, batch, crystals):
    model = pytest.importorskip("cgcnn2.model")
    theirs = drawn(model.CrystalGraphConvNet(92, 41, WIDTH, depth, 24), batch, training)
    config = ModelConfig("cgcnn", depth, hidden_channels=WIDTH, head_channels=24)
    ours = network_of(config, crystals, batch, weights_of(theirs.state_dict()), training)
    atoms, gaussians = features_of(batch, crystals)
    crystal = batch.crystal[0]
    rows = [(crystal == one).nonzero()[:, 0] for one in range(batch.atom_counts.shape[1])]
    expected, _ = theirs(atoms, gaussians.unflatten(0, (-1, 12)), batch.neighbours[0], rows)
    assert_same(ours(batch)[0], expected[:, 0], ours, theirs, weights_of)
    assert sum(value.numel() for value in ours.parameters()) == sum(value.numel() for value in theirs.parameters())


def with_batch_norm(network):
    """Put BatchNorm, which the paper has, where the package has LayerNorm."""
    for part in list(network.modules()):
        for name, norm in list(part.named_children()):
            if isinstance(norm, nn.LayerNorm):
                setattr(part, name, nn.BatchNorm1d(norm.normalized_shape[0]))
    return network


def alignn_renamed(state):
    """Name tensors of the package's network, `alignn_layers` ones, as ours; those of its last Linear are left out."""
    embeddings = {
        "atom_embedding.layer.": ("embedding.", "entry_norms.atoms."),
        "edge_embedding.1.layer.": ("entry.edges.inner.", "entry_norms.edges_inner."),
        "edge_embedding.2.layer.": ("entry.edges.outer.", "entry_norms.edges."),
        "angle_embedding.1.layer.": ("entry.angles.inner.", "entry_norms.angles_inner."),
        "angle_embedding.2.layer.": ("entry.angles.outer.", "entry_norms.angles."),
    }
    found = {}
    for theirs, ours in embeddings.items():
        for number, prefix in enumerate(ours):
            found |= _renamed(state, f"{theirs}{number}.", prefix)
    found["embedding.weight"] = found["embedding.weight"].T
    depth = len({name.split(".")[1] for name in state if name.startswith("alignn_layers.")})
    for layer in range(depth):
        for theirs, ours, norms in (
            ("node_update", "crystal", ("atoms", "edges")),
            ("edge_update", "line", ("line_nodes", "line_edges")),
        ):
            before, block = f"alignn_layers.{layer}.{theirs}.", f"blocks.{layer}.{ours}."
            for kind in ("weight", "bias"):
                for part, names in (("centre", ("dst_gate", "src_update")), ("source", ("src_gate", "dst_update"))):
                    found[f"{block}{part}.{kind}"] = torch.cat([state[f"{before}{name}.{kind}"] for name in names])
                found[f"{block}edge.{kind}"] = state[f"{before}edge_gate.{kind}"]
            for name, norm in zip(("bn_nodes", "bn_edges"), norms, strict=True):
                found |= _renamed(state, f"{before}{name}.", f"norms.{layer}.{norm}.")
    return {name: value[None] for name, value in found.items()}


def _renamed(state, theirs, ours):
    names = [name for name in state if name.startswith(theirs) and not name.endswith("num_batches_tracked")]
    return {ours + name.removeprefix(theirs): state[name] for name in names}


@MODES
@pytest.mark.parametrize("norm_kind", ["batch", "layer"])
@pytest.mark.parametrize("depth", [1, 3])
def test_alignn_is_that_of_its_package(depth, norm_kind, training, batch, crystals):
    """On its own line graph of the same bonds. The head is theirs: ours is that of all our networks."""
    pure = pytest.importorskip("alignn.models.alignn_atomwise_pure")
    builder = pytest.importorskip("alignn.torch_graph_builder")
    settings = pure.ALIGNNAtomWisePureConfig(
        name="alignn_atomwise_pure",
        alignn_layers=depth,
        gcn_layers=0,
        atom_input_features=92,
        embedding_features=24,
        hidden_features=WIDTH,
        calculate_gradient=False,
        energy_mult_natoms=False,
        use_penalty=False,
    )
    theirs = pure.ALIGNNAtomWisePure(settings)
    theirs = drawn(with_batch_norm(theirs) if norm_kind == "batch" else theirs, batch, training)
    config = ModelConfig("alignn", depth, hidden_channels=WIDTH, edge_channels=24, norm_kind=norm_kind)
    ours = network_of(config, crystals, batch, alignn_renamed(theirs.state_dict()), training)

    flat, (atoms, _) = batch.flat(0), features_of(batch, crystals)
    counts = batch.atom_counts[0].long()
    vectors = flat.vectors / flat.vectors.norm(dim=1, keepdim=True) * flat.distances[:, None]  # ours are rounded
    graph = builder.TorchGraph(
        len(atoms), flat.sources, flat.centres, {"atom_features": atoms}, {"r": -vectors}, counts, counts * 12
    )
    line = builder.TorchGraph(len(vectors), *builder._line_graph_edges(flat.sources, flat.centres, len(atoms)))
    assert sorted(torch.stack([line.dst, line.src], 1).tolist()) == sorted(flat.line.pairs.T.tolist())

    expected = theirs((graph, line, torch.zeros(len(counts), 3, 3)))["out"]
    *_, last = ours.steps(ours.initial_state(batch), batch)
    sums = last.atoms.new_zeros(len(counts), WIDTH).index_add(0, batch.crystal[0], last.atoms[0])
    found = theirs.fc(sums / counts[:, None])[:, 0]
    assert_same(found, expected, ours, theirs, alignn_renamed)


def schnet_renamed(state):
    """Name tensors of the interactions of PyTorch Geometric's SchNet as ours."""
    names = {"mlp.0": "filter_inner", "mlp.2": "filter_outer", "conv.lin1": "inwards", "conv.lin2": "outwards"}
    names |= {"lin": "last"}
    depth = len({name.split(".")[1] for name in state if name.startswith("interactions.")})
    found = {}
    for layer in range(depth):
        for theirs, ours in names.items():
            found |= _renamed(state, f"interactions.{layer}.{theirs}.", f"blocks.{layer}.{ours}.")
    return {name: value[None] for name, value in found.items()}


@pytest.mark.parametrize("depth", [1, 4])
def test_schnet_without_norms_is_that_of_pytorch_geometric(depth, batch, crystals):
    """BatchNorm in evaluation is the identity where its mean is 0 and its variance 1 less epsilon."""
    flat, dtype = batch.flat(0), batch.distances.dtype
    theirs = SchNet(WIDTH, 24, depth, 41, 8.0, lambda *_: (flat.edge_index, flat.distances), readout="mean").to(dtype)
    config = ModelConfig("schnet", depth, hidden_channels=WIDTH, edge_channels=24)
    ours = CrystalGraphNetwork(config, crystals.element_features)
    ours.reset_parameters([0])
    ours.load_state_dict(schnet_renamed(theirs.state_dict()), strict=False)
    ours = ours.to(dtype).eval()
    with torch.no_grad():
        for norms in ours.norms:
            norms.atoms.running_var.fill_(1 - EPSILON)
        theirs.embedding.weight.copy_(ours.embedding(ours.element_features[None])[0, :100])
        expansion = theirs.distance_expansion
        expansion.offset, expansion.coeff = Gaussians().centres.to(dtype), -1 / 0.2**2  # CGCNN's Gaussians

    expected = theirs(flat.atomic_numbers, None, flat.crystal)[:, 0]
    *_, last = ours.steps(ours.initial_state(batch), batch)
    found = theirs.readout(theirs.lin2(theirs.act(theirs.lin1(last.atoms[0]))), flat.crystal)[:, 0]
    assert_same(found, expected, ours, theirs, schnet_renamed)
