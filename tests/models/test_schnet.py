"""SchNet's interaction against its equations, written once and plainly."""

import math

import pytest
import torch

from srcgcnn.models.batch import GraphBatch
from srcgcnn.models.config import ModelConfig
from srcgcnn.models.network import CrystalGraphNetwork
from srcgcnn.training.graphset import GraphSet


@pytest.fixture(scope="module")
def crystals(demo_store):
    return GraphSet.of_store(demo_store, torch.device("cpu"))


def schnet(config, crystals, seeds=(0,)):
    network = CrystalGraphNetwork(config, crystals.element_features, [config.alpha] * len(seeds))
    network.reset_parameters(list(seeds))
    return network


def equations(network, batch, rows, block, norm):
    """One interaction, atom by atom and edge by edge."""
    weights = {name: value[0] for name, value in network.named_parameters()}

    def linear(name, values):
        bias = weights.get(f"blocks.{block}.{name}.bias", 0.0)
        return values @ weights[f"blocks.{block}.{name}.weight"].T + bias

    def ssp(values):
        return torch.log(0.5 * values.exp() + 0.5)

    found = []
    for atom, (neighbours, distances) in enumerate(zip(batch.neighbours[0], batch.distances[0], strict=True)):
        message = 0.0
        for neighbour, distance in zip(neighbours, distances, strict=True):
            features = torch.exp(-(((distance - (0.2 * torch.arange(41)).to(rows.dtype)) / 0.2) ** 2))
            envelope = 0.5 * (math.cos(math.pi * float(distance) / 8.0) + 1)
            filters = linear("filter_outer", ssp(linear("filter_inner", features.to(rows.dtype)))) * envelope
            message = message + linear("inwards", rows[neighbour]) * filters
        found.append(rows[atom] + linear("last", ssp(linear("outwards", message))))
    found = torch.stack(found)
    mean, variance = found.mean(dim=0), found.var(dim=0, unbiased=False)
    scale, shift = weights[f"norms.{norm}.atoms.weight"], weights[f"norms.{norm}.atoms.bias"]
    return (found - mean) / torch.sqrt(variance + 1e-5) * scale + shift


@pytest.mark.parametrize("blocks", [None, 1, 2], ids=["stacked", "tied", "K=2"])
def test_steps_and_gradients_equal_the_plain_equations_in_double_precision(blocks, crystals):
    network = schnet(ModelConfig("schnet", 3, blocks=blocks, hidden_channels=16, edge_channels=24), crystals).double()
    batch = crystals.batch(torch.arange(2)[None])
    values = [one.double() if one is not None and one.is_floating_point() else one for one in batch.tensors]
    batch = GraphBatch.of(values)
    first = network.initial_state(batch)
    expected = first.atoms[0]
    for step, state in enumerate(network.steps(first, batch)):
        expected = equations(network, batch, expected, step % network.config.distinct_blocks, step)
        torch.testing.assert_close(state.atoms[0], expected, atol=1e-9, rtol=1e-9)
    parameters = [value for name, value in network.named_parameters() if not name.startswith("head")]
    found = torch.autograd.grad(state.atoms.square().sum(), parameters, retain_graph=True)
    for one, other in zip(found, torch.autograd.grad(expected.square().sum(), parameters), strict=True):
        torch.testing.assert_close(one, other, atol=1e-7, rtol=1e-7)
