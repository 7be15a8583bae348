"""Time one training step of every network against the same layers in stock PyTorch Geometric with its DataLoader.

Both sides train on the same crystals of a store, batch by batch in turn, in one process: the same layers, sizes,
pooling and readout, stacked, on the CPU; ours also tied. Printed are minima over the steps of each, in CPU time, and
the memory of a step, each in a process of its own. Graphs of the stock side are in memory with all features; line
graphs, too.

    python benchmarks/networks.py STORE --target formation_energy_per_atom
"""

from __future__ import annotations

import argparse
import itertools
import math
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import CGConv, MetaLayer, NNConv, global_mean_pool
from torch_geometric.nn.models.schnet import InteractionBlock
from torch_geometric.utils import scatter, softmax

from srcgcnn.data.store import GraphStore
from srcgcnn.models.config import ModelConfig
from srcgcnn.models.line_graph import bond_cosines, line_graph
from srcgcnn.models.network import CrystalGraphNetwork
from srcgcnn.models.registry import ALIGNN_ANGLES, ALIGNN_DISTANCES, GATGNN_HEADS
from srcgcnn.training.allocator import keep_freed_memory
from srcgcnn.training.backend import cpu_backend
from srcgcnn.training.graphset import GraphSet

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH, CUTOFF_ANGSTROM, GAUSSIANS = 64, 8.0, 41
NAMES = ("cgcnn", "cgconv", "schnet", "mpnn", "megnet", "gatgnn", "eggc", "alignn")


class Crystals:
    """The store, and the batches that both sides see."""

    def __init__(self, folder: Path, target: str, batch_size: int, count: int) -> None:
        self.store = GraphStore(folder)
        self.graphs = GraphSet.of_store(self.store, torch.device("cpu"), vectors=True)
        values = torch.from_numpy(self.store.target(target))
        self.targets = ((values - values.mean()) / values.std()).float()
        order = torch.randperm(len(values), generator=torch.Generator().manual_seed(0))[:count]
        self.batches = [rows for rows in order.split(batch_size) if len(rows) == batch_size]
        if not self.batches:
            raise ValueError(f"{folder} holds {len(values)} crystals: fewer than a batch of {batch_size}")


def ours(crystals: Crystals, name: str, depth: int, blocks: int | None = None) -> Iterator[None]:
    """Our step as the trainer takes it: batch by index arithmetic, forward, backward, Adam."""
    config = ModelConfig(name, depth, blocks=blocks).canonical()
    with_vectors = "vectors" in config.block.needs
    graphs = crystals.graphs if with_vectors else GraphSet.of_store(crystals.store, torch.device("cpu"))
    network = CrystalGraphNetwork(config, graphs.element_features, backend=cpu_backend(config))
    network.reset_parameters([0])
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for rows in itertools.cycle(crystals.batches):
        optimizer.zero_grad(set_to_none=True)
        F.mse_loss(network(graphs.batch(rows[None]))[0], crystals.targets[rows]).backward()
        optimizer.step()
        yield


class Bonds(Data):
    """A crystal with its line graph, whose nodes are edges."""

    def __inc__(self, key, value, *arguments, **named):
        return self.num_edges if key == "line" else super().__inc__(key, value, *arguments, **named)

    def __cat_dim__(self, key, value, *arguments, **named):
        return 1 if key == "line" else super().__cat_dim__(key, value, *arguments, **named)


def items_of(crystals: Crystals, *, angles: bool) -> dict[int, Data]:
    """Return graphs of PyTorch Geometric with features of atoms and edges, and cosines of angles if requested."""
    items = {}
    for row in torch.cat(crystals.batches).tolist():
        flat = crystals.graphs.batch(torch.tensor([[row]])).flat(0)
        item = Bonds(
            x=crystals.graphs.element_features[flat.atomic_numbers].float(),
            edge_index=flat.edge_index,
            edge_attr=torch.exp(-(((flat.distances[:, None] - torch.arange(GAUSSIANS) * 0.2) / 0.2) ** 2)),
            distances=flat.distances,
            y=crystals.targets[row : row + 1],
        )
        if angles:
            pairs = line_graph(flat.edge_index[1], flat.edge_index[0], len(flat.atomic_numbers))
            item.line, item.cosines = pairs.flip(0), bond_cosines(flat.vectors, pairs)
        items[row] = item
    return items


def mlp(inputs: int, *, norm: bool = False) -> nn.Sequential:
    first, second = [nn.Linear(inputs, WIDTH), nn.ReLU()], [nn.Linear(WIDTH, WIDTH), nn.ReLU()]
    return nn.Sequential(*first, *[nn.BatchNorm1d(WIDTH)] * norm, *second, *[nn.BatchNorm1d(WIDTH)] * norm)


class Cgcnn(nn.Module):
    """PyTorch Geometric has no layer with the norm on edges: its own operators, as one would write them."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * WIDTH + GAUSSIANS, 2 * WIDTH)
        self.of_edges, self.of_atoms = nn.BatchNorm1d(2 * WIDTH), nn.BatchNorm1d(WIDTH)

    def forward(self, state, data):
        x, (source, centre) = state["x"], data.edge_index
        gate, core = self.of_edges(self.linear(torch.cat([x[centre], x[source], data.edge_attr], dim=1))).chunk(
            2, dim=1
        )
        found = scatter(torch.sigmoid(gate) * F.softplus(core), centre, dim_size=len(x))
        return {**state, "x": F.softplus(x + self.of_atoms(found))}


class CgConv(nn.Module):
    """PyG's CGConv, then the norm."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = CGConv(WIDTH, GAUSSIANS, aggr="mean"), nn.BatchNorm1d(WIDTH)

    def forward(self, state, data):
        return {**state, "x": self.norm(self.convolution(state["x"], data.edge_index, data.edge_attr))}


class SchNet(nn.Module):
    """PyG's interaction block, its residual and the norm."""

    def __init__(self) -> None:
        super().__init__()
        self.interaction = InteractionBlock(WIDTH, GAUSSIANS, WIDTH, CUTOFF_ANGSTROM)
        self.norm = nn.BatchNorm1d(WIDTH)

    def forward(self, state, data):
        x = state["x"]
        return {**state, "x": self.norm(x + self.interaction(x, data.edge_index, data.distances, data.edge_attr))}


class Mpnn(nn.Module):
    """PyG's NNConv, the norm and a GRU."""

    def __init__(self) -> None:
        super().__init__()
        edges = nn.Sequential(nn.Linear(GAUSSIANS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH**2))
        self.convolution, self.norm = NNConv(WIDTH, WIDTH, edges, aggr="mean"), nn.BatchNorm1d(WIDTH)
        self.update = nn.GRU(WIDTH, WIDTH)

    def forward(self, state, data):
        x = state["x"]
        message = F.relu(self.norm(self.convolution(x, data.edge_index, data.edge_attr)))
        out, memory = self.update(message[None], state.get("memory", x[None]))
        return {**state, "x": out[0], "memory": memory}


class MegnetEdges(nn.Module):
    """Update of edges."""

    def __init__(self) -> None:
        super().__init__()
        self.update = mlp(4 * WIDTH, norm=True)

    def forward(self, source, centre, edges, crystals, crystal):
        return self.update(torch.cat([source, centre, edges, crystals[crystal]], dim=1))


class MegnetAtoms(nn.Module):
    """Update of atoms."""

    def __init__(self) -> None:
        super().__init__()
        self.update = mlp(3 * WIDTH, norm=True)

    def forward(self, atoms, edge_index, edges, crystals, crystal):
        mean = scatter(edges, edge_index[1], dim_size=len(atoms), reduce="mean")
        return self.update(torch.cat([atoms, mean, crystals[crystal]], dim=1))


class MegnetCrystals(nn.Module):
    """Update of crystals."""

    def __init__(self) -> None:
        super().__init__()
        self.update = mlp(3 * WIDTH, norm=True)

    def forward(self, atoms, edge_index, edges, crystals, crystal):
        of_edges = scatter(edges, crystal[edge_index[1]], dim_size=len(crystals), reduce="mean")
        of_atoms = scatter(atoms, crystal, dim_size=len(crystals), reduce="mean")
        return self.update(torch.cat([of_edges, of_atoms, crystals], dim=1))


class Megnet(nn.Module):
    """PyG's MetaLayer."""

    def __init__(self) -> None:
        super().__init__()
        self.edges, self.atoms, self.crystals = (mlp(WIDTH) for _ in range(3))
        self.layer = MetaLayer(MegnetEdges(), MegnetAtoms(), MegnetCrystals())

    def forward(self, state, data):
        x, edges, crystals = (state[name] for name in ("x", "edges", "crystals"))
        found = self.layer(self.atoms(x), data.edge_index, self.edges(edges), self.crystals(crystals), data.batch)
        return {"x": found[0] + x, "edges": found[1] + edges, "crystals": found[2] + crystals}


class Gatgnn(nn.Module):
    """Augmented attention, with PyG's softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2 * WIDTH, GATGNN_HEADS * WIDTH) * 0.05)
        self.attention = nn.Parameter(torch.randn(1, GATGNN_HEADS, 2 * WIDTH) * 0.05)
        self.bias = nn.Parameter(torch.zeros(WIDTH))
        self.of_scores, self.norm = nn.BatchNorm1d(GATGNN_HEADS), nn.BatchNorm1d(WIDTH)

    def forward(self, state, data):
        x, edges, (source, centre) = state["x"], state["edges"], data.edge_index
        own, other = (
            F.softplus(torch.cat([x[end], edges], dim=1) @ self.weight).view(-1, GATGNN_HEADS, WIDTH)
            for end in (centre, source)
        )
        scores = F.softplus((torch.cat([own, other], dim=2) * self.attention).sum(dim=2))
        shares = softmax(F.softplus(self.of_scores(scores)), centre, num_nodes=len(x))
        found = scatter((other * shares[..., None]).transpose(0, 1), centre, dim=1, dim_size=len(x)).mean(dim=0)
        return {**state, "x": self.norm(found + self.bias)}


class Gated(nn.Module):
    """One edge-gated convolution, in PyTorch Geometric's scatter."""

    def __init__(self) -> None:
        super().__init__()
        self.centre, self.source, self.edge, self.own, self.message = (nn.Linear(WIDTH, WIDTH) for _ in range(5))
        self.of_nodes, self.of_edges = nn.BatchNorm1d(WIDTH), nn.BatchNorm1d(WIDTH)

    def forward(self, nodes, edges, index):
        source, centre = index
        gates = self.centre(nodes)[centre] + self.source(nodes)[source] + self.edge(edges)
        shares = torch.sigmoid(gates)
        total = scatter(shares * self.message(nodes)[source], centre, dim_size=len(nodes))
        found = total / (scatter(shares, centre, dim_size=len(nodes)) + 1e-6)
        nodes = nodes + F.silu(self.of_nodes(self.own(nodes) + found))
        return nodes, edges + F.silu(self.of_edges(gates))


class Eggc(nn.Module):
    """ALIGNN's convolution on the crystal graph."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = Gated()

    def forward(self, state, data):
        x, edges = self.convolution(state["x"], state["edges"], data.edge_index)
        return {**state, "x": x, "edges": edges}


class Alignn(nn.Module):
    """One on the crystal graph, one on the line graph."""

    def __init__(self) -> None:
        super().__init__()
        self.crystal, self.line = Gated(), Gated()

    def forward(self, state, data):
        x, edges = self.crystal(state["x"], state["edges"], data.edge_index)
        edges, angles = self.line(edges, state["angles"], data.line)
        return {"x": x, "edges": edges, "angles": angles}


def twice(inputs: int) -> nn.Sequential:
    parts = [nn.Linear(inputs, WIDTH), nn.BatchNorm1d(WIDTH), nn.SiLU()]
    return nn.Sequential(*parts, nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.SiLU())


class Entry(nn.Module):
    """What stands before the first layer."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.atoms = name, nn.Linear(92, WIDTH)
        if name == "megnet":
            self.edges, self.crystals = nn.Linear(GAUSSIANS, WIDTH), nn.Linear(3, WIDTH)
        elif name == "gatgnn":
            self.edges = nn.Linear(GAUSSIANS, WIDTH)
        elif name in ("eggc", "alignn"):
            self.norm, self.edges = nn.BatchNorm1d(WIDTH), twice(ALIGNN_DISTANCES)
            self.angles = twice(ALIGNN_ANGLES) if name == "alignn" else None

    def forward(self, data):
        x = self.atoms(data.x)
        if self.name == "megnet":
            crystals = torch.relu(self.crystals(x.new_zeros(data.num_graphs, 3)))
            return {"x": x, "edges": torch.relu(self.edges(data.edge_attr)), "crystals": crystals}
        if self.name == "gatgnn":
            return {"x": F.leaky_relu(x, 0.2), "edges": F.leaky_relu(self.edges(data.edge_attr), 0.2)}
        if self.name in ("eggc", "alignn"):
            state = {"x": F.silu(self.norm(x)), "edges": self.edges(radial(data.distances, 0.0, 8.0, ALIGNN_DISTANCES))}
            if self.angles is not None:
                state["angles"] = self.angles(radial(data.cosines, -1.0, 1.0, ALIGNN_ANGLES))
            return state
        return {"x": x}


def radial(values, first: float, last: float, count: int):
    centres = torch.linspace(first, last, count)
    return torch.exp(-((count - 1) / (last - first)) * (values[:, None] - centres) ** 2)


LAYERS = dict(zip(NAMES, (Cgcnn, CgConv, SchNet, Mpnn, Megnet, Gatgnn, Eggc, Alignn), strict=True))


class Stock(nn.Module):
    """Layers of one kind, mean pooling and the same readout."""

    def __init__(self, name: str, depth: int) -> None:
        super().__init__()
        self.entry, self.layers = Entry(name), nn.ModuleList(LAYERS[name]() for _ in range(depth))
        pooled = WIDTH * (3 if name == "megnet" else 1)
        self.head = nn.Sequential(nn.Softplus(), nn.Linear(pooled, 128), nn.Softplus(), nn.Linear(128, 1))

    def forward(self, data):
        state = self.entry(data)
        for layer in self.layers:
            state = layer(state, data)
        pooled = [global_mean_pool(state["x"], data.batch)]
        if "crystals" in state:
            pooled += [global_mean_pool(state["edges"], data.batch[data.edge_index[1]]), state["crystals"]]
        return self.head(torch.cat(pooled, dim=1))[:, 0]


def stock(crystals: Crystals, name: str, depth: int) -> Iterator[None]:
    network = Stock(name, depth)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    items = items_of(crystals, angles=name == "alignn")
    while True:
        for data in DataLoader(items, batch_sampler=[rows.tolist() for rows in crystals.batches]):
            optimizer.zero_grad()
            F.mse_loss(network(data), data.y).backward()
            optimizer.step()
            yield


SIDES = {"ours": ours, "stock": stock}
TIED = {"tied": partial(ours, blocks=1)}


def seconds_of(crystals: Crystals, name: str, depth: int, steps: int) -> dict[str, float]:
    """Return the least CPU time of a step of each side, in turn; the first step of each is not counted."""
    sides = {side: make(crystals, name, depth) for side, make in (SIDES | TIED).items()}
    least = dict.fromkeys(sides, math.inf)
    for number in range(steps + 1):
        for side, steps_of in sides.items():
            start = time.process_time()
            next(steps_of)
            if number:
                least[side] = min(least[side], time.process_time() - start)
    return least


def resident_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def print_peak(crystals: Crystals, name: str, depth: int, side: str) -> None:
    """Print the peak resident memory of the second step less that before the first."""
    steps = SIDES[side](crystals, name, depth)
    before = resident_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    next(steps), next(steps)
    print(resident_mb("VmHWM") - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--target", required=True)
    parser.add_argument("--models", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--crystals", type=int, default=256, help="drawn from the store (256)")
    parser.add_argument("--without-memory", action="store_true", help="time only")
    parser.add_argument("--peak-of", nargs=2, metavar=("MODEL", "SIDE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    crystals = Crystals(arguments.store, arguments.target, arguments.batch_size, arguments.crystals)
    if arguments.peak_of:
        name, side = arguments.peak_of
        print_peak(crystals, name, arguments.depth, side)
        return
    keep_freed_memory()
    print(f"{arguments.batch_size} crystals a batch, depth {arguments.depth}, width {WIDTH}, one thread\n")
    print("| network | ours, ms | stock, ms | stock / ours | tied, ms | s per 1,000 crystals | ours, MB | stock, MB |")
    print("|---|---|---|---|---|---|---|---|")
    for name in arguments.models:
        least = seconds_of(crystals, name, arguments.depth, arguments.steps)
        peaks = []
        for side in () if arguments.without_memory else SIDES:
            command = [sys.executable, __file__, *sys.argv[1:], "--peak-of", name, side]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            peaks.append(f"{float(done.stdout):,.0f}" if done.returncode == 0 else "-")
        per_thousand = 1000 * least["ours"] / arguments.batch_size
        cells = [f"{1000 * least[side]:.0f}" for side in SIDES]
        ratio = f"{least['stock'] / least['ours']:.2f}"
        cells += [ratio, f"{1000 * least['tied']:.0f}", f"{per_thousand:.2f}", *peaks]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
