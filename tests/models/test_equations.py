"""Blocks against their equations, written once and plainly, or against PyTorch Geometric's layers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch_geometric.nn import CGConv, DiffGroupNorm, NNConv

from srcgcnn.models.batch import FlatGraph
from srcgcnn.models.config import ModelConfig
from srcgcnn.models.gaussians import Gaussians
from srcgcnn.models.network import load
from srcgcnn.models.registry import BLOCKS
from srcgcnn.models.stacked import StackedGroupNorm
from srcgcnn.models.state import State

CENTRES = (0.2 * torch.arange(41)).double()  # as the networks have them, in single precision


@pytest.fixture(params=[False, True], ids=["all edges", "some edges missing"])
def graph(request):
    """Two crystals of 3 and 4 atoms with up to 5 edges each."""
    generator = torch.Generator().manual_seed(3)
    crystal = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    centres = torch.arange(7).repeat_interleave(5)
    sources = torch.where(
        centres < 3,
        torch.randint(0, 3, (35,), generator=generator),
        torch.randint(3, 7, (35,), generator=generator),
    )
    distances = 1 + 4 * torch.rand(35, generator=generator, dtype=torch.float64)
    places = torch.arange(35)
    if request.param:
        places = torch.tensor([edge for edge in range(35) if edge % 5 < 2 + edge // 10])
    edges = torch.stack([sources, centres])[:, places]
    counts = torch.tensor([3.0, 4.0], dtype=torch.float64)
    kept = places if request.param else None
    return FlatGraph(torch.zeros(7, dtype=torch.long), edges, distances[places], None, crystal, counts, kept, 5)


class Norms:
    """Stand-ins that are easy to tell apart: each scales and shifts by its name."""

    def __getattr__(self, name):
        return lambda rows: rows * (1 + 0.1 * len(name)) + 0.01 * len(name)


def block_of(name, **settings_):
    torch.manual_seed(0)
    config = ModelConfig(name, 2, hidden_channels=6, **settings_)
    block = load(BLOCKS[name].where)(config).double()
    for value in block.parameters():
        nn.init.normal_(value, std=0.4)
    return block


def states(width=6, edges=None):
    generator = torch.Generator().manual_seed(1)

    def draw(rows):
        return torch.randn(rows, width, generator=generator, dtype=torch.float64, requires_grad=True)

    return State(draw(7), draw(edges), draw(2)) if edges else State(draw(7))


def apply(block, state, graph):
    return block.step(state, graph, block.prepare(block.expand(graph)), Norms())


def assert_same(found, expected, inputs):
    """Values and gradients of the inputs agree in double precision."""
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)
    weights = torch.linspace(-1, 1, found.numel(), dtype=torch.float64).view_as(found)
    of_found = torch.autograd.grad((found * weights).sum(), inputs, retain_graph=True, allow_unused=True)
    of_expected = torch.autograd.grad((expected * weights).sum(), inputs, retain_graph=True, allow_unused=True)
    for one, other in zip(of_found, of_expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)


def features(graph):
    return torch.exp(-(((graph.distances[:, None] - CENTRES) / 0.2) ** 2))


def test_cgconv_is_that_of_pytorch_geometric(graph):
    block, state = block_of("cgconv"), states()
    layer = CGConv(6, 41, aggr="mean").double()
    with torch.no_grad():
        for target, rows in ((layer.lin_f, slice(0, 6)), (layer.lin_s, slice(6, 12))):
            target.weight.copy_(block.gates.weight[rows])
            target.bias.copy_(block.gates.bias[rows])
    expected = Norms().atoms(layer(state.atoms, graph.edge_index, features(graph)))  # the layer adds its input itself
    assert_same(apply(block, state, graph).atoms, expected, [state.atoms])


def test_mpnn_is_nnconv_and_a_gru(graph):
    block, state = block_of("mpnn", edge_channels=8), states()
    network = nn.Sequential(block.edge_inner, nn.ReLU(), block.edge_outer)
    layer = NNConv(6, 6, network, aggr="mean").double()
    with torch.no_grad():
        layer.lin.weight.copy_(block.root.weight)
        layer.bias.copy_(block.root.bias)
    message = torch.relu(Norms().atoms(layer(state.atoms, graph.edge_index, features(graph))))
    first = apply(block, state, graph)
    assert_same(first.atoms, block.update(message, state.atoms), [state.atoms])
    # after a skip the state is not the memory any more
    skipped = first.plus(state)
    assert skipped.memory is first.memory
    again = torch.relu(Norms().atoms(layer(skipped.atoms, graph.edge_index, features(graph))))
    assert_same(apply(block, skipped, graph).atoms, block.update(again, first.atoms), [state.atoms])


@pytest.mark.parametrize("inner_skip", [False, True])
def test_megnet_step_is_its_equations(inner_skip, graph):
    block, norms = block_of("megnet", inner_skip=inner_skip), Norms()
    state = states(edges=len(graph.distances))

    def twice(part, rows):
        return torch.relu(part.outer(torch.relu(part.inner(rows))))

    def update(part, rows, inner, outer):
        first = inner(torch.relu(part.inner(rows)))
        second = outer(torch.relu(part.outer(first)))
        return first + second if inner_skip else second

    atoms, edges = twice(block.embed_atoms, state.atoms), twice(block.embed_edges, state.edges)
    crystals = twice(block.embed_crystals, state.crystals)
    new_edges = []
    for number, (source, centre) in enumerate(graph.edge_index.T.tolist()):
        row = torch.cat([atoms[source], atoms[centre], edges[number], crystals[graph.crystal[centre]]])
        new_edges.append(update(block.update_edges, row, norms.edges_inner, norms.edges))
    new_edges = torch.stack(new_edges)
    means = torch.stack([new_edges[graph.edge_index[1] == atom].mean(dim=0) for atom in range(7)])
    rows = torch.cat([atoms, means, crystals[graph.crystal]], dim=1)
    new_atoms = update(block.update_atoms, rows, norms.atoms_inner, norms.atoms)
    of_crystal = [
        torch.cat([means[graph.crystal == one].mean(dim=0), new_atoms[graph.crystal == one].mean(dim=0), crystals[one]])
        for one in range(2)
    ]
    new_crystals = update(block.update_crystals, torch.stack(of_crystal), norms.crystals_inner, norms.crystals)
    found, inputs = apply(block, state, graph), [state.atoms, state.edges, state.crystals]
    assert_same(found.atoms, new_atoms + state.atoms, inputs)
    assert_same(found.edges, new_edges + state.edges, inputs)
    assert_same(found.crystals, new_crystals + state.crystals, inputs)


def test_gatgnn_step_is_its_equations(graph):
    block, state, norms = block_of("gatgnn"), states(edges=len(graph.distances)), Norms()
    found = apply(block, state, graph)
    expected = []
    for atom in range(7):
        numbers = (graph.edge_index[1] == atom).nonzero()[:, 0].tolist()
        scores, messages = [], []
        for number in numbers:
            source = int(graph.edge_index[0, number])
            own = F.softplus(torch.cat([state.atoms[atom], state.edges[number]]) @ block.weight).view(4, 6)
            other = F.softplus(torch.cat([state.atoms[source], state.edges[number]]) @ block.weight).view(4, 6)
            score = F.softplus((block.attention * torch.cat([own, other], dim=1)).sum(dim=1))
            scores.append(F.softplus(norms.scores(score)))
            messages.append(other)
        weights = torch.softmax(torch.stack(scores), dim=0)
        expected.append((weights[..., None] * torch.stack(messages)).sum(dim=0).mean(dim=0) + block.bias)
    assert_same(found.atoms, norms.atoms(torch.stack(expected)), [state.atoms, state.edges])
    assert found.edges is state.edges
    assert found.plus(state).edges is state.edges


def test_group_normalisation_is_that_of_pytorch_geometric():
    theirs, ours = DiffGroupNorm(8, 10, 0.01), StackedGroupNorm(1, 8)
    with torch.no_grad():
        ours.assignment[0].copy_(theirs.lin.weight.T)
    rows = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(rows[None])[0], theirs(rows))


@given(st.lists(st.floats(0, 30, width=32), min_size=1, max_size=30))
def test_gaussians_are_exponentials_and_exactly_zero_far_away(found):
    distances = torch.tensor(found)
    values = Gaussians()(distances)
    exact = (-((distances[:, None].double() - 0.2 * torch.arange(41)) / 0.2).square()).exp()
    torch.testing.assert_close(values.double(), exact, atol=1e-5, rtol=1e-4)
    assert bool((values[exact < 0.9e-30] == 0).all())
    assert bool((Gaussians()(torch.tensor([torch.inf])) == 0).all())
