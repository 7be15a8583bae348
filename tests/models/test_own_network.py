"""Networks of one's own: the same numbers as the module itself, exact resume, and nothing imported unasked."""

import os
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from srcgcnn.data.pyg import as_batch
from srcgcnn.models.config import ModelConfig
from srcgcnn.models.counts import count_parameters
from srcgcnn.models.making import make_network
from srcgcnn.models.own import FOLDERS, PERMITTED, described, network_class, permit
from srcgcnn.models.own_module import make_module
from srcgcnn.models.own_network import try_out
from srcgcnn.records import RecordError, parse
from srcgcnn.run.trial import DataRef, TrialConfig
from srcgcnn.sweep.prepare import with_own_networks
from srcgcnn.sweep.space import trials_of
from srcgcnn.sweep.spec import SweepSpec
from srcgcnn.training.graphset import GraphSet
from srcgcnn.training.model_file import load_model
from srcgcnn.training.outcome import conclude, save_member
from srcgcnn.training.predictor import Predictor
from srcgcnn.training.trainer import GroupTrainer, InterruptedGroupError

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
GINE = "my_network:Gine"
DATA = DataRef("0" * 16, "none", "y", "")

ODD = """
import torch
from torch import nn
from srcgcnn.models.batch import FlatGraph

class Sums(nn.Module):
    def __init__(self, hidden_channels=8):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(hidden_channels))
        self.other = nn.Linear(1, hidden_channels)
        self.again = nn.Linear(1, hidden_channels)
        self.again.weight = self.other.weight  # shared

    def forward(self, graph: FlatGraph):
        edges = self.again(self.other.weight.mean() * graph.distances[:, None]) * self.weight
        return graph.mean_over_atoms(graph.sum_over_edges(edges)).sum(dim=1)

class Mixing(Sums):
    def forward(self, graph: FlatGraph):
        found = super().forward(graph)
        return found - found.mean()

class Wide(Sums):
    def forward(self, graph: FlatGraph):
        return super().forward(graph)[:, None].expand(-1, 3)

class Failing(Sums):
    def forward(self, data):
        return data.pos

class Needing(Sums):
    def __init__(self, heads):
        super().__init__()

class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.LazyLinear(3)

class Classes(nn.Module):
    def __init__(self, task="regression"):
        super().__init__()
        self.layer = nn.Linear(92, 2 if task == "classification" else 1)

    def forward(self, data):
        from torch_geometric.nn import global_add_pool
        return global_add_pool(self.layer(data.x), data.batch)

class Targets(nn.Module):
    def __init__(self, outputs=1):
        super().__init__()
        self.layer = nn.Linear(92, outputs)

    def forward(self, data):
        from torch_geometric.nn import global_add_pool
        return global_add_pool(self.layer(data.x), data.batch)

class NoModule:
    def __init__(self):
        pass
"""


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """What a test permits ends with it."""
    for name in (PERMITTED, FOLDERS):
        monkeypatch.setenv(name, "")
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name in ("my_network", "odd", "evil", "changing"):
            del sys.modules[name]


@pytest.fixture
def gine():
    permit([GINE], EXAMPLES)
    return ModelConfig(GINE, 2, hidden_channels=16, code=described(GINE).code)


@pytest.fixture
def odd(tmp_path):
    (tmp_path / "odd.py").write_text(ODD)

    def config(name, **settings):
        permit([f"odd:{name}"], tmp_path)
        return ModelConfig(f"odd:{name}", 1, code=described(f"odd:{name}").code, **settings)

    return config


@pytest.fixture(scope="module")
def crystals(demo_store):
    return GraphSet.of_store(demo_store, torch.device("cpu"), vectors=True)


@pytest.mark.parametrize("training", [True, False])
def test_a_stock_pyg_network_gives_the_numbers_that_it_gives_by_itself(gine, crystals, training):
    network = make_network(gine, crystals.element_features, ["none"] * 2).train(training)
    network.reset_parameters([3, 4])
    batch = crystals.batch(torch.tensor([[0, 1, 2, 3], [9, 8, 7, 6]]))
    for member in range(2):
        alone = make_module(gine).train(training)
        alone.dropout.p = 0.0
        state = network.module.state_dict()
        alone.load_state_dict({name: state[name][member] for name in alone.state_dict()})
        network.module.dropout.p = 0.0
        found = network(batch)
        found[member].square().sum().backward()
        outputs = alone(as_batch(batch.flat(member), network.element_features))[:, 0]
        torch.testing.assert_close(found[member], outputs)
        outputs.square().sum().backward()
        for name, value in alone.named_parameters():
            stacked = dict(network.module.named_parameters())[name]
            torch.testing.assert_close(stacked.grad[member], value.grad, atol=1e-5, rtol=1e-4)
        network.zero_grad()


def test_weights_depend_on_the_seed_alone_and_on_no_other_random_numbers(gine, crystals):
    first, second = (make_network(gine, crystals.element_features, ["none"] * n) for n in (3, 1))
    torch.manual_seed(1)
    first.reset_parameters([5, 6, 7])
    before = torch.random.get_rng_state()
    second.reset_parameters([6])
    assert torch.equal(before, torch.random.get_rng_state())
    for name, value in second.state_dict().items():
        torch.testing.assert_close(first.state_dict()[name][1:2], value, rtol=0, atol=0)


def test_a_batch_is_the_one_that_pyg_makes_of_the_stores_items(demo_store, crystals):
    from torch_geometric.data import Batch

    from srcgcnn.data.pyg import CrystalDataset

    ours = as_batch(crystals.batch(torch.tensor([[4, 2, 7]])).flat(0), crystals.element_features)
    dataset = CrystalDataset(demo_store.folder)
    theirs = Batch.from_data_list([dataset[row] for row in (4, 2, 7)])
    for name in ("x", "z", "edge_index", "edge_attr", "distances", "batch", "ptr"):
        assert torch.equal(ours[name].to(theirs[name].dtype), theirs[name]), name
    assert ours.num_graphs == theirs.num_graphs == 3
    torch.testing.assert_close(ours.vectors.norm(dim=1), ours.distances)


def test_shared_weights_stay_shared(odd, crystals):
    config = odd("Sums")
    network = make_network(config, crystals.element_features)
    network.reset_parameters([0])
    assert count_parameters(config).total == 4 * 64 == sum(one.numel() for one in network.parameters())
    assert network.module.again.weight is network.module.other.weight
    alone = make_module(config)
    alone.load_state_dict({name: value[0] for name, value in network.module.state_dict().items()})
    batch = crystals.batch(torch.arange(3)[None])
    torch.testing.assert_close(network(batch)[0], alone(batch.flat(0)))


def test_a_killed_trial_with_dropout_ends_with_the_same_numbers(gine, trial_of, demo_store, tmp_path):
    trial = trial_of(gine)
    whole = GroupTrainer([trial], demo_store)
    whole.train()
    path, count = tmp_path / "checkpoint.pt", 0

    def third():
        nonlocal count
        count += 1
        return count == 5

    with pytest.raises(InterruptedGroupError):
        GroupTrainer([trial], demo_store, checkpoint=path).train(should_stop=third)
    torch.manual_seed(99)
    resumed = GroupTrainer([trial], demo_store, checkpoint=path)
    resumed.train()
    (first,), (second,) = conclude(whole), conclude(resumed)
    assert first.result.metrics == second.result.metrics
    assert first.result.probes is None
    assert first.result.conv_parameters < first.result.total_parameters
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


def test_its_model_file_predicts_where_it_is_permitted_and_imports_nothing_elsewhere(
    gine, trial_of, demo_store, tmp_path, monkeypatch
):
    trainer = GroupTrainer([trial_of(gine)], demo_store)
    trainer.train()
    (outcome,) = conclude(trainer)
    path = tmp_path / "model.safetensors"
    save_member(trainer, 0, path)
    graphs = [demo_store.graph(int(row), vectors=True) for row in outcome.test.rows]
    torch.testing.assert_close(
        torch.from_numpy(Predictor.load(path).predict_graphs(graphs)),
        torch.from_numpy(outcome.test.predictions),
        rtol=1e-4,
        atol=1e-5,
    )
    monkeypatch.setenv(PERMITTED, "")
    with pytest.raises(ValueError, match=f"network '{GINE}' is code.*--network {GINE}"):
        load_model(path)


def test_classification_gets_log_probabilities(odd, crystals):
    config = odd("Classes", task="classification")
    network = make_network(config, crystals.element_features)
    network.reset_parameters([0])
    outputs = network(crystals.batch(torch.arange(5)[None]))
    torch.testing.assert_close(outputs.exp().sum(dim=-1), torch.ones(1, 5))


def test_several_targets_have_an_output_each(odd, tmp_path):
    try_out(odd("Targets", outputs=3))
    with pytest.raises(ValueError, match=r"returned \[3\] for 3 crystals and 3 targets; expected \[B, outputs\]"):
        try_out(odd("Sums", outputs=3))
    text = {"name": "x", "data": {"target": ["a", "b"]}, "axes": [{"models": ("odd:Targets",)}]}
    spec = with_own_networks(parse(SweepSpec, text, "test"))
    assert {trial.model.outputs for trial, _ in trials_of(spec, DATA)} == {2}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Mixing", "depends on the others in its batch"),
        ("Wide", r"returned \[3, 3\] for 3 crystals; expected \[B\]"),
        ("Failing", "returned NoneType"),
        ("Lazy", "leaves the sizes of layer.weight, layer.bias open"),
        ("NoModule", "is not a torch.nn.Module"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(odd, name, words):
    with pytest.raises(ValueError, match=words):
        try_out(odd(name))


def test_constructors_and_classes_that_do_not_fit_are_said(odd, tmp_path):
    with pytest.raises(ValueError, match=r"needs heads.*depth, hidden_channels"):
        odd("Needing")
    permit(["odd:None_such", "no_such_module:Net"], tmp_path)
    with pytest.raises(ValueError, match=r"has no class 'None_such'; its classes: .*Sums"):
        network_class("odd:None_such")
    with pytest.raises(ValueError, match="No module named 'no_such_module'"):
        network_class("no_such_module:Net")


def test_axes_reach_the_constructor_and_only_those_that_it_takes(tmp_path):
    permit([GINE], EXAMPLES)
    axes = {"models": (GINE,), "depths": (1, 2), "norms": ("step", "affine"), "widths": (16, 24), "seeds": (0, 1)}
    spec = with_own_networks(parse(SweepSpec, {"name": "x", "axes": [axes]}, "test"))
    trials = {trial.key: trial for trial, _ in trials_of(spec, DATA)}
    assert len(trials) == 2 * 2 * 2  # the norms make no difference
    assert {trial.label for trial in trials.values()} >= {"Gine-1 width=16 seed 0", "Gine-2 width=24 seed 1"}
    small = replace(next(iter(trials.values())).model, depth=1, hidden_channels=16)
    large = replace(small, depth=2)
    assert count_parameters(large).convolution == 2 * count_parameters(small).convolution


def test_a_changed_file_is_another_network(tmp_path):
    source = tmp_path / "changing.py"
    source.write_text(ODD)
    permit(["changing:Sums"], tmp_path)
    config = ModelConfig("changing:Sums", 1, code=described("changing:Sums").code)
    source.write_text(ODD + "\n# another\n")
    with pytest.raises(ValueError, match="its file has changed since this was planned"):
        make_module(config)
    sys.modules.pop("changing")
    assert described("changing:Sums").code != config.code


EVIL = "import pathlib\npathlib.Path({mark!r}).write_text('was here')\n" + ODD


def test_records_from_strangers_import_nothing(tmp_path, trial_of, monkeypatch):
    """Definitions, results and model cards that name code: read, planned and labelled, and the code never runs."""
    mark = tmp_path / "mark"
    (tmp_path / "evil.py").write_text(EVIL.format(mark=str(mark)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    known = {"name": "evil:Sums", "code": "0" * 16, "settings": ["hidden_channels"]}
    spec = parse(SweepSpec, {"name": "x", "axes": [{"models": ["evil:Sums"]}], "networks": [known]}, "theirs")
    trials = [trial for trial, _ in trials_of(spec, DATA)]
    assert {trial.model.label for trial in trials} == {"Sums-1"}
    assert parse(TrialConfig, asdict(trials[0]), "result") == trials[0]
    for act in (
        lambda: with_own_networks(spec),
        lambda: count_parameters(trials[0].model),
        lambda: make_network(trials[0].model, torch.zeros(101, 92)),
        lambda: try_out(trials[0].model),
    ):
        with pytest.raises(ValueError, match="nothing is imported because a file names it"):
            act()
    assert not mark.exists()
    assert "evil" not in sys.modules
    permit(["evil:Sums"])
    described("evil:Sums")  # and now that its user has named it
    assert mark.exists()


@pytest.mark.parametrize("name", ["os.system", "os:system()", "../evil:Net", "a:b:c", ":Net", "evil:"])
def test_names_are_plain(name):
    with pytest.raises(ValueError, match="is unknown"):
        ModelConfig(name, 1)


def test_code_belongs_to_networks_of_ones_own_and_old_keys_stay(trial_of):
    with pytest.raises(ValueError, match="must be the hash of the file"):
        ModelConfig("cgcnn", 1, code="0" * 16)
    with pytest.raises(RecordError, match="must be the hash of the file"):
        parse(ModelConfig, {"family": "evil:Net", "depth": 1, "code": "\x1b[2J"}, "theirs")


def test_permission_is_inherited_as_a_variable(tmp_path):
    permit([GINE, "cgcnn"], tmp_path)
    assert os.environ[PERMITTED] == GINE
    assert os.environ[FOLDERS] == str(tmp_path)


def test_recipes_that_need_steps_are_refused():
    permit([GINE], EXAMPLES)
    spec = {"name": "x", "axes": [{"models": [GINE]}], "training": {"depth": {"supervision": "uniform"}}}
    with pytest.raises(ValueError, match=r"\[training.depth\] needs networks whose steps are known"):
        with_own_networks(parse(SweepSpec, spec, "test"))
