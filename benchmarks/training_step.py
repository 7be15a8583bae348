"""Time one training step of SR-CGCNN on the CPU: ours, the authors' code, and PyG's CGConv with a DataLoader.

All sides train on the same crystals of a store, batch by batch in turn, in one process; medians and ratios are printed
as a Markdown table. The authors' code is read from a folder of its own checkout (github sata-deep/SR-CGCNN).

    python benchmarks/training_step.py STORE --target formation_energy_per_atom --authors SR-CGCNN
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from srcgcnn.data.store import GraphStore
from srcgcnn.models import network as network_module
from srcgcnn.models.config import ModelConfig
from srcgcnn.models.network import DEEPEST_PLAIN, CrystalGraphNetwork
from srcgcnn.training.allocator import keep_freed_memory
from srcgcnn.training.graphset import GraphSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from srcgcnn.models.backend import Backend


OURS = ("native", "recomputed", "kept")


class Crystals:
    """The store, and the batches that all sides see."""

    def __init__(self, folder: Path, target: str, batch_size: int, limit: int) -> None:
        self.batch_size = batch_size
        self.store = GraphStore(folder)
        self.graphs = GraphSet.of_store(self.store, torch.device("cpu"))
        values = torch.from_numpy(self.store.target(target))
        self.targets = ((values - values.mean()) / values.std()).float()
        order = torch.randperm(len(self.targets), generator=torch.Generator().manual_seed(0))[:limit]
        self.batches = [rows for rows in order.split(batch_size) if len(rows) == batch_size]
        if not self.batches:
            raise ValueError(f"{folder} holds {len(self.targets)} crystals: fewer than a batch of {batch_size}")
        self.rows = torch.cat(self.batches).tolist()

    def graph_tensors(self, row: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        graph = self.store.graph(row)
        distances = torch.from_numpy(graph.distances.copy())[..., None]
        gaussians = torch.exp(-(((distances - torch.arange(41) * 0.2) / 0.2) ** 2))
        features = self.graphs.element_features[torch.from_numpy(graph.atomic_numbers.astype("int64"))]
        return features, gaussians, torch.from_numpy(graph.neighbours.astype("int64"))


def ours(crystals: Crystals, depth: int, side: str) -> Iterator[float]:
    """Our step as the trainer takes it: batch by index arithmetic, forward, backward, Adam.

    `recomputed` and `kept` are the plain operators: with every step computed again for the backward, and with none.
    """
    backend: Backend = "native" if side == "native" else "plain"
    network = CrystalGraphNetwork(ModelConfig("srcgcnn", depth), crystals.graphs.element_features, backend=backend)
    network.reset_parameters([0])
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for rows in itertools.cycle(crystals.batches):
        optimizer.zero_grad(set_to_none=True)
        network_module.DEEPEST_PLAIN = {"recomputed": 0, "kept": depth}.get(side, DEEPEST_PLAIN)
        loss = F.mse_loss(network(crystals.graphs.batch(rows[None]))[0], crystals.targets[rows])
        loss.backward()
        optimizer.step()
        yield loss.item()


def authors(crystals: Crystals, depth: int, folder: Path) -> Iterator[float]:
    """The authors' network under their own loader and collate function, graphs already in memory as they cache them."""
    sys.path.insert(0, str(folder))
    data, model = importlib.import_module("cgcnn.data"), importlib.import_module("cgcnn.model")
    network = model.CrystalGraphConvNet(
        92, 41, n_conv=depth, h_fea_len=128, conv_mode="shared_recurrent", n_recurrent_steps=depth
    )
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    items = {row: (crystals.graph_tensors(row), crystals.targets[row : row + 1], str(row)) for row in crystals.rows}
    while True:
        loader = torch.utils.data.DataLoader(
            items, batch_sampler=[rows.tolist() for rows in crystals.batches], collate_fn=data.collate_pool
        )
        for inputs, targets, _ in loader:
            loss = F.mse_loss(network(*inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield loss.item()


class PygNetwork(torch.nn.Module):
    """One CGConv applied T times, with mean pooling and the same readout."""

    def __init__(self, depth: int) -> None:
        from torch_geometric.nn import CGConv

        super().__init__()
        self.depth = depth
        self.embedding = torch.nn.Linear(92, 64)
        self.convolution = CGConv(64, 41, batch_norm=True)
        self.head = torch.nn.Sequential(
            torch.nn.Softplus(), torch.nn.Linear(64, 128), torch.nn.Softplus(), torch.nn.Linear(128, 1)
        )

    def forward(self, data):
        from torch_geometric.nn import global_mean_pool

        states = self.embedding(data.x)
        for _ in range(self.depth):
            states = F.softplus(self.convolution(states, data.edge_index, data.edge_attr))
        return self.head(global_mean_pool(states, data.batch))[:, 0]


def pyg(crystals: Crystals, depth: int) -> Iterator[float]:
    """PyG's CGConv with its DataLoader, graphs in memory with their Gaussians."""
    from torch_geometric.data import Data
    from torch_geometric.loader import DataLoader

    network = PygNetwork(depth)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    items = {}
    for row in crystals.rows:
        features, gaussians, neighbours = crystals.graph_tensors(row)
        centre = torch.arange(len(features)).repeat_interleave(neighbours.shape[1])
        edge_index = torch.stack([neighbours.flatten(), centre])
        items[row] = Data(x=features, edge_index=edge_index, edge_attr=gaussians.flatten(0, 1), y=crystals.targets[row])
    while True:
        for data in DataLoader(items, batch_sampler=[rows.tolist() for rows in crystals.batches]):
            optimizer.zero_grad()
            loss = F.mse_loss(network(data), data.y)
            loss.backward()
            optimizer.step()
            yield loss.item()


def limit_ms(crystals: Crystals, depth: int, clock: Callable[[], float]) -> float:
    """Return the time in which this processor could do the arithmetic of the compiled step, were nothing else to do.

    Per step of the recurrence and atom: products with 6 matrices of 64 x 128 (two forward, four backward) and 2 of
    41 x 64. Per edge and pair of channels: 158 instructions of the loops in convolution.cpp (forward 66, of which 45
    are sigmoid and softplus; backward 92), at the rate of multiply-adds that a large product reaches here. Traffic is
    small: 44 bytes per edge, the rest stays in the cache.
    """
    square, seconds = torch.randn(1024, 1024), []
    for _ in range(30):
        start = clock()
        square @ square
        seconds.append(clock() - start)
    multiply_adds = 1024**3 / min(seconds)  # per second
    batches = [crystals.graphs.batch(rows[None]).neighbours.shape for rows in crystals.batches[:4]]
    atoms, degree = sum(shape[1] for shape in batches) / len(batches), batches[0][2]
    per_step = atoms * (6 * 64 * 128 + 2 * 41 * 64) + atoms * degree * 64 * 158
    return 1000 * depth * per_step / multiply_adds


def compare(sides: dict[str, Iterator[float]], steps: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Take `steps` steps of every side in turn; two more come first and are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(steps + 2):
        for name, side in sides.items():
            start = clock()
            next(side)
            if number >= 2:
                seconds[name].append(clock() - start)
    return seconds


def sides_of(crystals: Crystals, depth: int, folder: Path | None) -> dict[str, Iterator[float]]:
    sides = {side: ours(crystals, depth, side) for side in OURS}
    if folder is not None:
        sides["authors"] = authors(crystals, depth, folder)
    sides["PyG"] = pyg(crystals, depth)
    return sides


def print_times(crystals: Crystals, arguments: argparse.Namespace) -> None:
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    print(
        f"{crystals.batch_size} crystals per batch, {torch.get_num_threads()} threads, {arguments.clock} time, "
        f"medians of {arguments.steps} steps, ms\n"
    )
    others = [*(["authors"] if arguments.authors else []), "PyG"]
    columns = [*OURS, *others]
    ratios = "".join(f" | {other} / native" for other in others)
    print("| T | limit | " + " | ".join(columns) + ratios + " |")
    print("|" + "---|" * (2 + len(columns) + len(others)))
    for depth in arguments.depths:
        seconds = compare(sides_of(crystals, depth, arguments.authors), arguments.steps, clock)
        middle = {name: 1000 * median(values) for name, values in seconds.items()}
        cells = [f"{limit_ms(crystals, depth, clock):.0f}", *(f"{middle[name]:.0f}" for name in columns)]
        cells += [f"{middle[name] / middle['native']:.1f}" for name in others]
        print(f"| {depth} | " + " | ".join(cells) + " |", flush=True)


def print_memory(arguments: argparse.Namespace, depths: list[int]) -> None:
    """Peak resident memory of a training step less that before it, each in a process of its own."""
    print("\n| T | " + " | ".join(f"{side}, MB" for side in OURS) + " |\n|" + "---|" * (1 + len(OURS)))
    for depth in depths:
        cells = []
        for side in OURS:
            command = [sys.executable, __file__, str(arguments.store), "--target", arguments.target]
            command += [
                "--batch-size",
                str(arguments.batch_size),
                "--crystals",
                str(arguments.crystals),
                "--memory-of",
                str(depth),
                side,
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            cells.append(f"{json.loads(done.stdout):.0f}" if done.returncode == 0 else "out of memory")
        print(f"| {depth} | " + " | ".join(cells) + " |", flush=True)


def resident_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def print_peak(crystals: Crystals, depth: int, side: str) -> None:
    for _ in itertools.islice(ours(crystals, 1, side), 1):  # compile, and load libraries
        pass
    before = resident_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    for _ in itertools.islice(ours(crystals, depth, side), 2):
        pass
    print(resident_mb("VmHWM") - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--target", required=True)
    parser.add_argument("--depths", type=int, nargs="+", default=[3, 8])
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--crystals", type=int, default=2000, help="drawn from the store (2000)")
    parser.add_argument("--threads", type=int, help="of PyTorch (default: its own choice)")
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu: on a busy machine, with 1 thread"
    )
    parser.add_argument("--authors", type=Path, help="folder of a checkout of the authors' code")
    parser.add_argument("--memory-depths", type=int, nargs="*", default=[1, 3, 10, 64])
    parser.add_argument("--memory-of", nargs=2, metavar=("T", "PATH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    crystals = Crystals(arguments.store, arguments.target, arguments.batch_size, arguments.crystals)
    if arguments.memory_of:
        print_peak(crystals, int(arguments.memory_of[0]), arguments.memory_of[1])
        return
    keep_freed_memory()
    print_times(crystals, arguments)
    print_memory(arguments, arguments.memory_depths)


if __name__ == "__main__":
    main()
