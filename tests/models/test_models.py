"""The networks against the plain equations, the published counts, and each other."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
import torch._dynamo
from backends import BACKENDS, COMPILER
from hypothesis import given, settings
from hypothesis import strategies as st

from srcgcnn.data.graph import build_graph
from srcgcnn.models.blocks.cgcnn.equations import reference_forward
from srcgcnn.models.blocks.cgcnn.kernels.native.library import NativeEdges, native_library
from srcgcnn.models.config import ModelConfig
from srcgcnn.models.counts import count_parameters
from srcgcnn.models.inductor import CompiledCall, mark_sizes
from srcgcnn.models.network import CrystalGraphNetwork
from srcgcnn.training.graphset import GraphSet, size_class
from srcgcnn.training.predictor import _as_shard

VARIANTS = [
    ModelConfig("cgcnn", 1),
    ModelConfig("cgcnn", 3),
    *[
        ModelConfig("srcgcnn", 3, norm, alpha, layer_norm=layer_norm)
        for norm, alpha, layer_norm in product(
            ("step", "shared"), ("none", 0.5, "learned", "learned-scalar"), (False, True)
        )
    ],
    ModelConfig("srcgcnn", 2, head_layers=3),
    ModelConfig("srcgcnn", 2, task="classification"),
]


def label(config):
    return f"{config.label} {config.task} head {config.head_layers}".replace(" ", "_")


@pytest.fixture(scope="module")
def crystals(demo_store):
    return GraphSet.of_store(demo_store, torch.device("cpu"))


@pytest.fixture(scope="module")
def dilute(demo_store):
    """Crystals of which one is so dilute that atoms have fewer than 12 neighbours, and one has none at all."""
    from pymatgen.core import Lattice, Structure

    molecule = Structure(Lattice.cubic(20.0), ["C", "O"], [[0, 0, 0], [0.0565, 0, 0]])
    lonely = Structure(Lattice.cubic(30.0), ["Ar"], [[0, 0, 0]])
    graphs = [demo_store.graph(0), build_graph(molecule), demo_store.graph(1), build_graph(lonely)]
    return GraphSet([_as_shard(graphs)], demo_store.element_features, torch.device("cpu"))


def network_of(config, crystals, seeds=(0,), alphas=None, backend="plain"):
    network = CrystalGraphNetwork(config, crystals.element_features, alphas, backend)
    network.reset_parameters(list(seeds))
    return network


@COMPILER
def test_the_native_backend_runs_machine_code_and_the_plain_one_does_not(crystals):
    """Without this, the other tests of `native` could compare the plain equations with themselves."""
    batch, config = crystals.batch(torch.arange(4)[None]), ModelConfig("srcgcnn", 2)
    plain, native = (network_of(config, crystals, backend=name).blocks[0].expand(batch) for name in ("plain", "native"))
    assert isinstance(plain, torch.Tensor)
    assert [type(edges) for edges in native] == [NativeEdges]


@pytest.mark.parametrize("config", VARIANTS, ids=label)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("source", ["crystals", "dilute"])
@BACKENDS
def test_forward_equals_the_plain_equations(config, training, source, backend, request):
    graphs = request.getfixturevalue(source)
    network = network_of(config, graphs, backend=backend)
    batch = graphs.batch(torch.arange(4)[None])
    network.train()
    network(batch)  # running averages that differ from their initial values
    network.train(training)
    with torch.no_grad():
        expected = reference_forward(network, batch)
        found = network(batch)[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("config", VARIANTS, ids=label)
@pytest.mark.parametrize("source", ["crystals", "dilute"])
def test_gradients_equal_those_of_the_plain_equations_in_double_precision(config, source, request):
    graphs = request.getfixturevalue(source)
    network = network_of(config, graphs).double()
    batch = graphs.batch(torch.arange(3)[None])
    batch = replace(batch, distances=batch.distances.double(), atom_counts=batch.atom_counts.double())
    weights = torch.linspace(0.5, 2.0, 3 * (2 if config.task == "classification" else 1)).double()
    (network(batch).flatten() * weights).sum().backward()
    found = {name: value.grad.clone() for name, value in network.named_parameters()}
    network.zero_grad()
    inputs = dict(network.named_parameters())
    with torch.enable_grad():
        plain = _reference_with_parameters(network, inputs, batch)
        expected = torch.autograd.grad((plain.flatten() * weights).sum(), list(inputs.values()))
    for (name, gradient), wanted in zip(found.items(), expected, strict=True):
        torch.testing.assert_close(gradient, wanted, atol=1e-9, rtol=1e-7, msg=lambda text, n=name: f"{n}: {text}")


def _reference_with_parameters(network, parameters, batch):
    """The oracle reads `state_dict`, which detaches: hand it the parameters themselves."""

    class Attached:
        config, training, alphas = network.config, network.training, network.alphas
        element_features = network.element_features

        def state_dict(self):
            return {**dict(network.named_buffers()), **parameters}

    return reference_forward(Attached(), batch)


@pytest.mark.parametrize("config", VARIANTS, ids=label)
@pytest.mark.parametrize("source", ["crystals", "dilute"])
@COMPILER
def test_compiled_gradients_equal_plain_ones(config, source, request):
    """Machine code works in single precision, with polynomials for exp and log and 9 of the 41 Gaussians."""
    graphs = request.getfixturevalue(source)
    batch, outputs, gradients = graphs.batch(torch.arange(4)[None]), [], []
    for backend in ("plain", "native"):
        network = network_of(config, graphs, backend=backend)
        output = network(batch)
        output.square().sum().backward()
        outputs.append(output.detach())
        gradients.append([value.grad for value in network.parameters()])
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-5, rtol=1e-5)
    for found, expected in zip(gradients[1], gradients[0], strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4 * float(expected.abs().max() + 1), rtol=1e-3)


@COMPILER
def test_compiled_sums_do_not_depend_on_the_number_of_threads(crystals):
    batch, found = crystals.batch(torch.arange(40)[None]), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        edges = NativeEdges.of_member(batch, 0, native_library(64))
        rows = torch.linspace(-2, 2, edges.neighbour.shape[0] * 128).view(-1, 128)
        inputs = (rows, rows.flip(0), torch.ones(41, 128), torch.ones(128), torch.zeros(128), rows[:, :64].contiguous())
        found.append(edges.gate_gradient(*inputs))
    torch.set_num_threads(1)
    for one, two in zip(*(vars(gradient).values() for gradient in found), strict=True):
        assert torch.equal(one, two)


def test_without_a_compiler_training_goes_on_uncompiled(crystals, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert native_library.__wrapped__(64) is None
    assert "no-such-compiler" in caplog.text


@pytest.mark.parametrize("config", VARIANTS, ids=label)
@BACKENDS
def test_padding_to_a_size_class_changes_nothing(config, backend, dilute):
    """Padding must not enter BatchNorm's statistics: same outputs, gradients and running averages."""
    graphs, found = dilute, []
    for static in (False, True):
        graphs.static_shapes = static
        batch = graphs.batch(torch.arange(4)[None])
        graphs.static_shapes = False
        assert (batch.atom_mask is not None) == static
        network = network_of(config, graphs, backend=backend)
        network(batch).square().sum().backward()
        network.eval()
        with torch.no_grad():
            evaluated = network(batch)
        found.append((evaluated, dict(network.named_buffers()), [value.grad for value in network.parameters()]))
    torch.testing.assert_close(found[1], found[0], atol=1e-4, rtol=1e-3)


@BACKENDS
def test_a_frozen_norm_uses_its_running_statistics(backend, crystals):
    network = network_of(ModelConfig("srcgcnn", 2), crystals, backend=backend)
    network.norms[0].edges.eval()
    before = network.norms[0].edges.running_mean.clone()
    plain = network_of(ModelConfig("srcgcnn", 2), crystals)
    plain.norms[0].edges.eval()
    batch = crystals.batch(torch.arange(4)[None])
    torch.testing.assert_close(network(batch), plain(batch), atol=1e-5, rtol=1e-5)
    assert torch.equal(network.norms[0].edges.running_mean, before)


def test_size_classes_are_few_and_close():
    sizes = [size_class(atoms) for atoms in range(1, 10_000)]
    assert all(atoms <= size <= max(atoms + 1, 1.125 * atoms) for atoms, size in enumerate(sizes, 1))
    assert len({size for size in sizes if size > 5000}) < 10


@pytest.mark.full
def test_a_network_compiled_whole_computes_the_same_for_all_sizes_of_batches(crystals):
    """What a GPU runs, here compiled for the CPU, with the padding of static shapes: compiled once, not per size."""
    network = network_of(ModelConfig("srcgcnn", 1), crystals)
    compiled, before = CompiledCall(network._outputs), torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for rows in (torch.arange(6)[None], torch.arange(9, 29)[None]):
        crystals.static_shapes = True
        padded = crystals.batch(rows)
        crystals.static_shapes = False
        mark_sizes(padded.tensors)
        found = compiled(padded, None)
        found.sum().backward()
        gradient = network.blocks[0].weight.grad.clone()
        if compiled.failed:
            pytest.skip("inductor cannot compile on this machine")
        network.zero_grad()
        expected = network(crystals.batch(rows))
        expected.sum().backward()
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(gradient, network.blocks[0].weight.grad, atol=1e-4, rtol=1e-3)
        network.zero_grad()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before + 1


def test_where_inductor_fails_the_network_runs_uncompiled(caplog):
    def double(value):
        if torch.compiler.is_compiling():
            torch._dynamo.graph_break()  # which a full graph may not have
        return 2 * value

    call = CompiledCall(double)
    assert call(torch.ones(1)).item() == call(torch.ones(1)).item() == 2
    assert call.failed
    assert caplog.text.count("training continues uncompiled") == 1


def test_a_deep_recurrence_computed_again_for_the_backward_gives_the_same(crystals, monkeypatch):
    """Beyond DEEPEST_PLAIN steps are taken twice; their running averages must move once."""
    batch, found = crystals.batch(torch.arange(4)[None]), []
    for deepest in (1, 100):
        monkeypatch.setattr("srcgcnn.models.network.DEEPEST_PLAIN", deepest)
        network = network_of(ModelConfig("srcgcnn", 4, alpha=0.5), crystals)
        outputs = network(batch)
        outputs.square().sum().backward()
        found.append((outputs, dict(network.named_buffers()), [value.grad for value in network.parameters()]))
    torch.testing.assert_close(found[0], found[1], atol=0, rtol=0)


PAPER_COUNTS = {
    ("cgcnn", 1): (22_144, 36_545),
    ("cgcnn", 3): (66_432, 80_833),
    ("srcgcnn", 2): (22_528, 36_929),
    ("srcgcnn", 3): (22_912, 37_313),
    ("srcgcnn", 5): (23_680, 38_081),
    ("srcgcnn", 8): (24_832, 39_233),
    ("srcgcnn", 16): (27_904, 42_305),
}


@pytest.mark.parametrize(("variant", "counts"), PAPER_COUNTS.items())
def test_counts_are_the_published_ones(variant, counts):
    found = count_parameters(ModelConfig(*variant))
    assert (found.convolution, found.total) == counts


def test_shared_norm_costs_what_one_layer_costs():
    assert all(count_parameters(ModelConfig("srcgcnn", depth, "shared")).total == 36_545 for depth in (1, 4, 30))


def test_three_steps_keep_34_5_percent_of_the_convolution_parameters():
    ratio = (
        count_parameters(ModelConfig("srcgcnn", 3)).convolution / count_parameters(ModelConfig("cgcnn", 3)).convolution
    )
    assert round(100 * ratio, 2) == 34.49


@pytest.mark.parametrize("config", VARIANTS, ids=label)
def test_closed_form_counts_equal_the_built_network(config, crystals):
    network = CrystalGraphNetwork(config, crystals.element_features)
    counts = count_parameters(config)
    assert counts.total == sum(value.numel() for value in network.parameters())
    convolutions = [*network.blocks.parameters(), *network.norms.parameters()]
    assert counts.convolution == sum(value.numel() for value in convolutions)


@pytest.mark.parametrize("config", VARIANTS, ids=label)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@BACKENDS
def test_a_group_computes_what_its_members_compute_alone(config, training, backend, crystals):
    fixed = isinstance(config.alpha, float)
    alphas = [0.3, 0.5, 1.0] if fixed else [config.alpha] * 3
    group = network_of(config, crystals, (5, 6, 7), alphas, backend).train(training)
    rows = torch.tensor([[0, 1, 2, 3], [7, 6, 5, 4], [11, 30, 2, 60]])  # three different batches of different size
    together = group(crystals.batch(rows))
    for member in range(3):
        alone = network_of(config, crystals, (5 + member,), [alphas[member]], backend).train(training)
        torch.testing.assert_close(
            together[member], alone(crystals.batch(rows[member : member + 1]))[0], atol=2e-5, rtol=1e-4
        )
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(group.state_dict()[name][member], value[0], atol=1e-5, rtol=1e-4)


@given(st.permutations(range(6)))
@settings(max_examples=10, deadline=None)
def test_the_order_of_crystals_in_a_batch_does_not_matter(crystals, order):
    network = network_of(ModelConfig("srcgcnn", 2), crystals)
    with torch.no_grad():
        straight = network(crystals.batch(torch.arange(6)[None]))[0]
        shuffled = network(crystals.batch(torch.tensor([order])))[0]
    torch.testing.assert_close(shuffled, straight[list(order)], atol=1e-5, rtol=1e-5)


def test_one_recurrent_step_is_one_layer(crystals):
    single = network_of(ModelConfig("cgcnn", 1), crystals, (3,))
    step = network_of(ModelConfig("srcgcnn", 1), crystals, (3,))
    batch = crystals.batch(torch.arange(5)[None])
    assert torch.equal(single(batch), step(batch))


@pytest.mark.parametrize(
    ("asked", "canonical"),
    [
        (ModelConfig("srcgcnn", 1), ModelConfig("cgcnn", 1)),
        (ModelConfig("srcgcnn", 1, "shared"), ModelConfig("cgcnn", 1)),
        (ModelConfig("srcgcnn", 1, "shared", 1.0), ModelConfig("cgcnn", 1)),
        (ModelConfig("srcgcnn", 3, "step", 1.0), ModelConfig("srcgcnn", 3)),
        (ModelConfig("srcgcnn", 1, "shared", "learned-scalar"), ModelConfig("srcgcnn", 1, "step", "learned")),
        (ModelConfig("cgcnn", 3, "shared", 0.5, layer_norm=True), ModelConfig("cgcnn", 3)),
        (ModelConfig("srcgcnn", 3, "shared"), ModelConfig("srcgcnn", 3, "shared")),
    ],
)
def test_equal_networks_have_one_representative(asked, canonical):
    assert asked.canonical() == canonical


@pytest.mark.parametrize(
    "wrong", [{"depth": 0}, {"alpha": 0.0}, {"alpha": 1.5}, {"hidden_channels": 0}, {"head_layers": 0}]
)
def test_impossible_networks_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ModelConfig(**{"family": "srcgcnn", "depth": 3, **wrong})


def test_learned_alpha_starts_where_the_released_code_starts(crystals):
    network = network_of(ModelConfig("srcgcnn", 4, alpha="learned"), crystals)
    np.testing.assert_allclose(network.alphas().detach(), 0.7310586, atol=1e-6)
