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
from stock_networks import GAUSSIANS, LAYERS, WIDTH, Stock
from torch.nn import functional as F
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from srcgcnn.data.store import GraphStore
from srcgcnn.models.config import ModelConfig
from srcgcnn.models.line_graph import bond_cosines, line_graph
from srcgcnn.models.network import CrystalGraphNetwork
from srcgcnn.training.allocator import keep_freed_memory
from srcgcnn.training.backend import cpu_backend
from srcgcnn.training.graphset import GraphSet

if TYPE_CHECKING:
    from collections.abc import Iterator


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
    parser.add_argument("--models", nargs="+", choices=LAYERS, default=list(LAYERS))
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
