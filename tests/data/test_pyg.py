"""A store as a PyTorch Geometric dataset: the same graphs, on which a stock network of that library learns."""

import hashlib
import pickle
from itertools import chain

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure
from torch import nn
from torch.nn import functional as F
from torch_geometric.loader import DataLoader
from torch_geometric.nn import CGConv, SimpleConv, global_mean_pool
from torch_geometric.transforms import Constant

from srcgcnn.data.build import build_store
from srcgcnn.data.demo import TARGET
from srcgcnn.data.pyg import CrystalDataset
from srcgcnn.data.source import Source, SourceRow


@pytest.fixture(scope="module")
def dataset(demo_store):
    return CrystalDataset(demo_store.folder)


class StockNetwork(nn.Module):
    """What a user of PyTorch Geometric writes."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Linear(92, 32)
        self.convolutions = nn.ModuleList(CGConv(32, dim=41, batch_norm=True) for _ in range(2))
        self.output = nn.Linear(32, 1)

    def forward(self, data):
        states = self.embedding(data.x)
        for convolution in self.convolutions:
            states = convolution(states, data.edge_index, data.edge_attr)
        return self.output(global_mean_pool(states, data.batch))


def train(network, loader, epochs, scale):
    """Return the mean squared training error of the last epoch, in units of the target's variance."""
    mean, std = scale
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(epochs):
        errors = []
        for batch in loader:
            loss = F.mse_loss(network(batch), (batch.y - mean) / std)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            errors += [loss.item()] * batch.num_graphs
    return float(np.mean(errors))


@pytest.fixture
def one_thread():
    """On busy cores the threads of such small products wait for each other: 26 s instead of 1 s."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.full
def test_a_stock_network_learns_the_target(dataset, demo_store, one_thread):
    torch.manual_seed(0)
    column = demo_store.manifest.targets[0]
    loader = DataLoader(dataset, batch_size=16, shuffle=True)
    assert train(StockNetwork(), loader, epochs=12, scale=(column.mean, column.std)) < 0.25


def test_items_are_the_graphs_of_the_store(dataset, demo_store):
    assert len(dataset) == len(demo_store) == 80
    for row, item in enumerate(dataset):
        graph = demo_store.graph(row)
        atoms, neighbours = graph.neighbours.shape
        assert item.z.tolist() == graph.atomic_numbers.tolist()
        np.testing.assert_array_equal(item.x, demo_store.element_features[graph.atomic_numbers])
        assert item.edge_index.shape == (2, atoms * neighbours)
        np.testing.assert_array_equal(item.edge_index[0].view(atoms, neighbours), graph.neighbours)
        np.testing.assert_array_equal(item.edge_index[1].view(atoms, neighbours).T, [range(atoms)] * neighbours)
        np.testing.assert_array_equal(item.distances.view(atoms, neighbours), graph.distances)
        assert item.y.item() == pytest.approx(demo_store.target(TARGET)[row], rel=1e-6)
        assert item.crystal_id == demo_store.ids[row]
    assert (item.x.dtype, item.y.dtype, item.distances.dtype) == (torch.float32,) * 3
    assert (item.z.dtype, item.edge_index.dtype) == (torch.int64,) * 2
    item.validate()


def test_messages_flow_from_the_neighbours_to_the_centre(dataset, demo_store):
    # every message is the neighbour's atomic number: a stock layer must sum them where the graph has its rows
    asymmetric = 0
    for row, item in enumerate(dataset):
        graph = demo_store.graph(row)
        received = SimpleConv(aggr="sum")(item.z[:, None].double(), item.edge_index)[:, 0]
        backwards = SimpleConv(aggr="sum", flow="target_to_source")(item.z[:, None].double(), item.edge_index)[:, 0]
        expected = torch.from_numpy(graph.atomic_numbers[graph.neighbours].sum(axis=1, dtype=float))
        assert torch.equal(received, expected)
        asymmetric += not torch.equal(backwards, expected)
    assert asymmetric > 10  # a wrong direction would be seen


def test_gaussians_are_those_of_cgcnn(dataset, demo_store):
    item = dataset[3]
    centres = np.arange(0, 8.01, 0.2)  # as in the original code
    expected = np.exp(-((item.distances.double().numpy()[:, None] - centres) ** 2) / 0.2**2)
    np.testing.assert_allclose(item.edge_attr, expected, atol=1e-5)
    assert item.edge_attr.shape == (item.num_edges, 41)
    without = CrystalDataset(demo_store.folder, gaussians=False)
    assert without[3].edge_attr is None
    assert torch.equal(next(iter(DataLoader(without, batch_size=4))).distances[-item.num_edges :], item.distances)


def test_a_batch_is_its_items_side_by_side(dataset):
    batch = next(iter(DataLoader(dataset, batch_size=3)))
    items = [dataset[k] for k in range(3)]
    starts = np.cumsum([0, *(item.num_nodes for item in items)])
    expected = torch.cat([item.edge_index + start for item, start in zip(items, starts[:3].tolist(), strict=True)], 1)
    assert torch.equal(batch.edge_index, expected)
    assert torch.equal(batch.y, torch.cat([item.y for item in items]))
    assert torch.equal(batch.ptr, torch.from_numpy(starts))
    assert batch.crystal_id == [item.crystal_id for item in items]


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (torch.tensor([5, 2, 2]), [5, 2, 2]),
        (slice(3, 9, 2), [3, 5, 7]),
        (np.array([True] * 2 + [False] * 78), [0, 1]),
        ([-1], [79]),
    ],
    ids=["tensor", "slice", "mask", "list"],
)
def test_it_is_sliced_as_every_dataset_of_the_library(dataset, index, rows):
    part = dataset[index]
    assert [item.crystal_id for item in part] == [dataset.store.ids[row] for row in rows]
    assert len(dataset) == 80
    assert part.store is dataset.store  # one map, however many slices
    assert [item.crystal_id for item in part[-1:]] == [dataset.store.ids[rows[-1]]]


def test_a_transform_is_applied_to_every_item_taken(demo_store):
    changed = CrystalDataset(demo_store.folder, transform=Constant())
    assert changed[0].x.shape[1] == changed[4:6][1].x.shape[1] == 93
    assert changed.num_node_features == 93


def test_workers_get_the_folder_and_not_the_arrays(dataset):
    part = dataset[torch.tensor([7, 1])]
    text = pickle.dumps(part)
    again = pickle.loads(text)
    assert len(text) < 2000
    assert [item.crystal_id for item in again] == [item.crystal_id for item in part]
    assert torch.equal(again[0].edge_attr, part[0].edge_attr)


def test_a_loader_with_workers_gives_the_same_batches(dataset):
    ids = [batch.crystal_id for batch in DataLoader(dataset, batch_size=30)]
    assert [batch.crystal_id for batch in DataLoader(dataset, batch_size=30, num_workers=2)] == ids
    assert list(chain.from_iterable(ids)) == dataset.store.ids


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    """Crystals in which some or all neighbours are missing, with two targets."""
    crystals = [
        Structure(Lattice.cubic(9), ["Xe"], [[0, 0, 0]]),
        Structure(Lattice.cubic(12), ["Na", "Cl", "Cl"], [[0, 0, 0.1], [0, 0, 0.3], [0.3, 0, 0.1]]),
        Structure(Lattice.cubic(7), ["Ar"], [[0, 0, 0]]),
    ]
    rows = [SourceRow(f"c{k}", "structure", crystal, {"y": k, "z": -k}) for k, crystal in enumerate(crystals)]
    identity = hashlib.sha256(b"sparse").hexdigest()
    source = Source("sparse", identity, ("y", "z"), ("", ""), "made for a test", len(rows), lambda: iter(rows))
    out = tmp_path_factory.mktemp("sparse") / "store"
    return CrystalDataset(build_store(source, out, processes=1, shard_bytes=1).store.folder)


def test_missing_neighbours_are_no_edges(sparse):
    assert [item.num_edges for item in sparse] == [0, 6, 6]
    assert sparse[0].edge_index.shape == (2, 0)
    assert sparse[0].edge_attr.shape == (0, 41)
    assert sparse[1].edge_index[1].tolist() == [0, 0, 1, 1, 2, 2]
    assert all(torch.isfinite(item.distances).all() for item in sparse)


def test_isolated_atoms_and_several_targets_pass_through_a_loader(sparse):
    (batch,) = DataLoader(sparse, batch_size=3)
    assert batch.y.tolist() == [[0, 0], [1, -1], [2, -2]]
    states = CGConv(92, dim=41)(batch.x, batch.edge_index, batch.edge_attr)
    assert torch.equal(states[0], batch.x[0])  # nothing arrives at the lonely atom
    assert not torch.equal(states[1], batch.x[1])


def test_nothing_is_written(demo_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in demo_store.folder.iterdir())
    list(DataLoader(CrystalDataset(demo_store.folder).shuffle(), batch_size=40))
    assert sorted((path.name, path.stat().st_mtime_ns) for path in demo_store.folder.iterdir()) == before
    assert list(tmp_path.iterdir()) == []
