"""What every block of the registry must do, whichever it is; and what norms, blocks in cycles and skips mean."""

import hashlib
from dataclasses import replace

import pytest
import torch
from backends import BACKENDS
from hypothesis import given, settings
from hypothesis import strategies as st

from srcgcnn.data.graph import build_graph
from srcgcnn.data.shard import geometry_arrays
from srcgcnn.models.batch import GraphBatch
from srcgcnn.models.blocks.cgcnn.equations import reference_forward
from srcgcnn.models.config import ModelConfig
from srcgcnn.models.counts import count_parameters
from srcgcnn.models.network import CrystalGraphNetwork
from srcgcnn.models.registry import BLOCKS, FAMILIES
from srcgcnn.models.stacked import StackedGroupNorm
from srcgcnn.training.graphset import GraphSet
from srcgcnn.training.outcome import conclude, save_member
from srcgcnn.training.predictor import Predictor, _as_shard
from srcgcnn.training.trainer import GroupTrainer, InterruptedGroupError

EVERY_BLOCK = pytest.mark.parametrize("family", BLOCKS)
SMALL = {"hidden_channels": 16, "edge_channels": 24, "head_channels": 8}
SETTINGS = [
    {},
    {"blocks": 1, "norm": "affine", "readout": "set2set"},
    {"blocks": 2, "norm": "shared", "alpha": 0.5},
    {"blocks": 1, "alpha": "learned", "layer_norm": True},
    {"norm_kind": "layer", "skip": "residual", "readout": "attention"},
    {"norm_kind": "group", "skip": "double", "readout": "max", "inner_skip": True},
    {"norm_kind": "group", "norm": "affine", "blocks": 1, "task": "classification"},
]
EVERY_SETTING = pytest.mark.parametrize("given", SETTINGS, ids=str)


@pytest.fixture(scope="module")
def crystals(demo_store):
    return GraphSet.of_store(demo_store, torch.device("cpu"), vectors=True)


@pytest.fixture(scope="module")
def dilute(demo_store):
    """Crystals of which one has atoms with fewer than 12 neighbours, and one has none at all."""
    from pymatgen.core import Lattice, Structure

    molecule = Structure(Lattice.cubic(20.0), ["C", "O"], [[0, 0, 0], [0.0565, 0, 0]])
    lonely = Structure(Lattice.cubic(30.0), ["Ar"], [[0, 0, 0]])
    first, second = (demo_store.graph(row, vectors=True) for row in (0, 1))
    graphs = [first, build_graph(molecule), second, build_graph(lonely)]
    geometry = [geometry_arrays(graphs, fixed_degree=True)]
    return GraphSet([_as_shard(graphs)], demo_store.element_features, torch.device("cpu"), geometry=geometry)


def config_of(family, depth=3, **given):
    return ModelConfig(family, depth, **{**SMALL, **given})


def network_of(config, crystals, seeds=(0,)):
    network = CrystalGraphNetwork(config, crystals.element_features, [config.alpha] * len(seeds))
    network.reset_parameters(list(seeds))
    return network


def gradient_of(value):
    """The gradient; 0 for what nothing reads, such as the norm of edges in the last step of EGGC."""
    return torch.zeros_like(value) if value.grad is None else value.grad


def doubled(batch):
    return GraphBatch.of(
        [one.double() if one is not None and one.is_floating_point() else one for one in batch.tensors]
    )


@EVERY_BLOCK
@EVERY_SETTING
def test_closed_form_counts_equal_the_built_network(family, given, crystals):
    config = config_of(family, **given)
    network, counts = network_of(config, crystals), count_parameters(config)
    assert counts.total == sum(value.numel() for value in network.parameters())
    repeated = [*network.blocks.parameters(), *network.norms.parameters()]
    assert counts.convolution == sum(value.numel() for value in repeated)


# Model files and checkpoints hold weights by these names: a hash of names and shapes, [1, ...] each
NAMES_OF_WEIGHTS = {
    "cgcnn": "dc91b6c0164a310a",
    "cgconv": "6db7d0c3b854e1ff",
    "schnet": "7ef4e142574dbc04",
    "mpnn": "f14d07b50607e70f",
    "megnet": "47d828665eb48b0a",
    "gatgnn": "5bf26ac7237dc9b1",
    "eggc": "81e883a08f7dd9de",
    "alignn": "6073b456a1546d23",
}


@pytest.mark.parametrize("family", NAMES_OF_WEIGHTS)
def test_weights_keep_the_names_of_model_files_written_before(family, crystals):
    config = ModelConfig(family, 2, hidden_channels=16, edge_channels=24)
    found = sorted(network_of(config, crystals).state_dict().items())
    names = "\n".join(f"{name} {tuple(value.shape)}" for name, value in found)
    assert hashlib.sha256(names.encode()).hexdigest()[:16] == NAMES_OF_WEIGHTS[family], names


@pytest.mark.full
@EVERY_BLOCK
@EVERY_SETTING
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_a_group_computes_what_its_members_compute_alone(family, given, training, crystals):
    """In double precision: BatchNorm over four crystals magnifies rounding."""
    config = config_of(family, **given)
    group = network_of(config, crystals, (5, 6)).train(training).double()
    rows = torch.tensor([[0, 1, 2, 3], [7, 30, 5, 60]])
    together = group(doubled(crystals.batch(rows)))
    together.square().sum().backward()
    gradients = {name: gradient_of(value) for name, value in group.named_parameters()}
    for member in range(2):
        alone = network_of(config, crystals, (5 + member,)).train(training).double()
        outputs = alone(doubled(crystals.batch(rows[member : member + 1])))
        torch.testing.assert_close(together[member], outputs[0], atol=1e-9, rtol=1e-9)
        outputs.square().sum().backward()
        for name, value in alone.named_parameters():
            torch.testing.assert_close(gradients[name][member], gradient_of(value)[0], atol=1e-8, rtol=1e-7)
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(group.state_dict()[name][member], value[0], atol=1e-5, rtol=1e-4)


@EVERY_BLOCK
@EVERY_SETTING
def test_padding_changes_nothing(family, given, dilute):
    found = []
    for static in (False, True):
        dilute.static_shapes = static
        batch = dilute.batch(torch.arange(4)[None])
        dilute.static_shapes = False
        network = network_of(config_of(family, **given), dilute)
        network(batch).square().sum().backward()
        network.eval()
        with torch.no_grad():
            evaluated = network(batch)
        found.append((evaluated, dict(network.named_buffers()), [value.grad for value in network.parameters()]))
    torch.testing.assert_close(found[1], found[0], atol=1e-4, rtol=1e-3)


@EVERY_BLOCK
@given(order=st.permutations(range(6)))
@settings(max_examples=5, deadline=None)
def test_the_order_of_crystals_does_not_matter(family, crystals, order):
    network = network_of(config_of(family), crystals).double()
    with torch.no_grad():
        straight = network(doubled(crystals.batch(torch.arange(6)[None])))[0]
        shuffled = network(doubled(crystals.batch(torch.tensor([order]))))[0]
    torch.testing.assert_close(shuffled, straight[list(order)], atol=1e-9, rtol=1e-9)


@EVERY_BLOCK
@EVERY_SETTING
def test_steps_computed_again_for_the_backward_give_the_same(family, given, crystals, monkeypatch):
    batch, found = crystals.batch(torch.arange(4)[None]), []
    for deepest in (1, 100):
        monkeypatch.setattr("srcgcnn.models.network.DEEPEST_PLAIN", deepest)
        network = network_of(config_of(family, **given), crystals)
        outputs = network(batch)
        outputs.square().sum().backward()
        found.append((outputs, dict(network.named_buffers()), [value.grad for value in network.parameters()]))
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=1e-5)


@pytest.mark.full
@EVERY_BLOCK
def test_a_trial_trains_resumes_predicts_and_has_probes(family, demo_store, trial_of, tmp_path):
    config, checkpoint = trial_of(config_of(family, 2, blocks=1), 3), tmp_path / "group.pt"
    undisturbed = GroupTrainer([config], demo_store)
    undisturbed.train()
    stops = iter([False] * 3 + [True])
    with pytest.raises(InterruptedGroupError):
        GroupTrainer([config], demo_store, checkpoint=checkpoint).train(should_stop=lambda: next(stops))
    resumed = GroupTrainer([config], demo_store, checkpoint=checkpoint)
    resumed.train()
    (expected,), (found,) = conclude(undisturbed), conclude(resumed)
    assert found.test.predictions.tolist() == expected.test.predictions.tolist()
    assert len(found.result.probes.change) == 2
    save_member(resumed, 0, tmp_path / "model.safetensors")
    predictor = Predictor.load(tmp_path / "model.safetensors")
    graphs = [demo_store.graph(row, vectors=predictor.needs_vectors) for row in found.test.rows]
    assert abs(predictor.predict_graphs(graphs) - found.test.predictions).max() < 1e-4


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig("srcgcnn", 4, "affine"),
        ModelConfig("srcgcnn", 4, "affine", 0.3, layer_norm=True),
        ModelConfig("srcgcnn", 5, blocks=2),
        ModelConfig("srcgcnn", 3, alpha=0.5, blocks="all"),
    ],
    ids=lambda config: config.label.replace(" ", "_"),
)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@BACKENDS
def test_affine_norms_and_blocks_in_cycles_equal_the_plain_equations(config, training, backend, crystals):
    network = CrystalGraphNetwork(config, crystals.element_features, backend=backend)
    network.reset_parameters([0])
    batch = crystals.batch(torch.arange(4)[None])
    network(batch)  # running averages that differ from their initial values, and from step to step
    network.train(training)
    with torch.no_grad():
        expected = reference_forward(network, batch)
        torch.testing.assert_close(network(batch)[0], expected, atol=2e-5, rtol=2e-5)


def test_affine_norms_have_the_weights_of_one_layer_and_averages_per_step(crystals):
    assert count_parameters(ModelConfig("srcgcnn", 8, "affine")) == count_parameters(ModelConfig("cgcnn", 1))
    network = network_of(ModelConfig("srcgcnn", 3, "affine"), crystals)
    network(crystals.batch(torch.arange(6)[None]))
    averages = [norms.edges.running_mean for norms in network.norms]
    assert len(averages) == 3
    assert not torch.equal(averages[0], averages[1])
    names = set(network.state_dict())
    assert "norms.0.edges.weight" in names
    assert "norms.1.edges.weight" not in names


def test_group_normalisation_is_that_of_pytorch_geometric():
    from torch_geometric.nn import DiffGroupNorm

    norm, theirs, rows = StackedGroupNorm(1, 12), DiffGroupNorm(12, 10), torch.randn(40, 12)
    norm.reset_parameters([torch.Generator().manual_seed(0)])
    with torch.no_grad():
        theirs.lin.weight.copy_(norm.assignment[0].T)
    torch.testing.assert_close(norm(rows[None])[0], theirs(rows))
    torch.testing.assert_close(norm.of_member(rows, 0), theirs(rows))
    mask = torch.ones(1, 40, dtype=torch.bool)
    torch.testing.assert_close(norm(rows[None], mask)[0], theirs(rows))


@pytest.mark.parametrize(
    ("skip", "expected"), [("none", "block + h"), ("residual", "block + h"), ("double", "block + 2h")]
)
def test_skips(skip, expected, crystals):
    """With LayerNorm left out of the way (scale 1 on a state of deviation 1 it is no identity), by counting h."""
    network = network_of(config_of("schnet", 1, skip=skip, norm_kind="group"), crystals).eval()
    batch = crystals.batch(torch.arange(3)[None])
    with torch.no_grad():
        for norm in network.norms.modules():
            if isinstance(norm, StackedGroupNorm):
                norm.norm.weight.zero_()  # the group norm is the identity now
        plain = network_of(config_of("schnet", 1, norm_kind="group"), crystals).eval()
        for norm in plain.norms.modules():
            if isinstance(norm, StackedGroupNorm):
                norm.norm.weight.zero_()
        first = network.initial_state(batch)
        (after,), (published,) = network.steps(first, batch), plain.steps(first, batch)
    extra = first.atoms if expected == "block + 2h" else 0.0
    torch.testing.assert_close(after.atoms, published.atoms + extra, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("asked", "canonical"),
    [
        (ModelConfig("cgcnn", 3, blocks=1), ModelConfig("srcgcnn", 3)),
        (ModelConfig("cgcnn", 3, blocks="all"), ModelConfig("cgcnn", 3)),
        (ModelConfig("cgcnn", 3, blocks=2), ModelConfig("srcgcnn", 3, blocks=2)),
        (ModelConfig("srcgcnn", 3, blocks=7), ModelConfig("cgcnn", 3)),
        (ModelConfig("srcgcnn", 3, blocks=1), ModelConfig("srcgcnn", 3)),
        (
            ModelConfig("srcgcnn", 3, "affine", norm_kind="layer"),
            ModelConfig("srcgcnn", 3, "shared", norm_kind="layer"),
        ),
        (ModelConfig("schnet", 1, "affine", blocks=1), ModelConfig("schnet", 1)),
        (ModelConfig("schnet", 4, blocks="all"), ModelConfig("schnet", 4)),
        (ModelConfig("schnet", 4, inner_skip=True), ModelConfig("schnet", 4)),
        (ModelConfig("megnet", 4, inner_skip=True), ModelConfig("megnet", 4, inner_skip=True)),
    ],
)
def test_equal_networks_have_one_representative(asked, canonical):
    assert asked.canonical() == canonical


@given(
    st.sampled_from(FAMILIES),
    st.integers(1, 5),
    st.sampled_from(["step", "affine", "shared"]),
    st.sampled_from(["none", 0.5, 1.0, "learned", "learned-scalar"]),
    st.booleans(),
    st.sampled_from([None, 1, 2, 4, "all"]),
    st.sampled_from(["batch", "layer", "group"]),
    st.sampled_from(["none", "residual", "double"]),
)
def test_the_representative_is_its_own_and_counts_the_same(family, depth, norm, alpha, layer_norm, blocks, kind, skip):
    more = {"blocks": blocks, "norm_kind": kind, "skip": skip}
    config = ModelConfig(family, depth, norm, alpha, layer_norm=layer_norm, **more)
    canonical = config.canonical()
    assert canonical.canonical() == canonical
    if config.varies_steps and alpha != "learned-scalar" and not (norm == "affine" and depth == 1):
        assert count_parameters(config).total == count_parameters(canonical).total


LABELS = {
    "CGCNN-3": ModelConfig("cgcnn", 3),
    "SR-CGCNN T=3 step-norm": ModelConfig("srcgcnn", 3),
    "SR-CGCNN T=3 affine-norm alpha=0.5 LayerNorm": ModelConfig("srcgcnn", 3, "affine", 0.5, layer_norm=True),
    "CGCNN K=2 T=8 step-norm": ModelConfig("srcgcnn", 8, blocks=2),
    "SchNet-4": ModelConfig("schnet", 4),
    "SR-SchNet T=4 step-norm": ModelConfig("schnet", 4, blocks=1),
    "SchNet-4 norm_kind=group skip=double": ModelConfig("schnet", 4, norm_kind="group", skip="double"),
}


@pytest.mark.parametrize("label", LABELS)
def test_labels(label):
    assert LABELS[label].label == label


def test_an_unknown_model_is_refused_by_name_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'schent' is unknown; known: srcgcnn, cgcnn, .*schnet"):
        ModelConfig("schent", 3)
    with pytest.raises(ValueError, match="blocks=0"):
        replace(ModelConfig("schnet", 3), blocks=0)


def test_a_network_is_called_doubtful_where_evaluation_uses_one_average_for_all_steps():
    assert "affine" in ModelConfig("srcgcnn", 4, "shared").caution
    doubtless = [
        ModelConfig("srcgcnn", 4, "affine"),
        ModelConfig("srcgcnn", 1, "shared"),
        ModelConfig("srcgcnn", 4, "shared", norm_kind="layer"),
        ModelConfig("cgcnn", 4, "shared"),
    ]
    assert not any(config.caution for config in doubtless)
