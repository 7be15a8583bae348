"""Training structures per second on the CPU against depth T, members M of a group, and batch size: a CSV and a figure.

    python benchmarks/throughput.py STORE --threads 1 --out docs/img/throughput

Whole training steps as the trainer takes them (batch, forward, backward, optimiser); the median of a few steps in CPU
time divided by the number of threads, which other work on the machine disturbs least. A group of M trains M structures
per row of its batch.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

import matplotlib as mpl

mpl.use("Agg")
import pandas as pd
import torch
from matplotlib import pyplot as plt

from srcgcnn.data.store import GraphStore
from srcgcnn.models.config import ModelConfig
from srcgcnn.models.network import CrystalGraphNetwork
from srcgcnn.training.allocator import keep_freed_memory
from srcgcnn.training.graphset import GraphSet

DEFAULTS = {"T": 3, "M": 1, "batch size": 256}
AXES = {"T": [1, 2, 3, 5, 8, 16, 32], "M": [1, 2, 4, 8], "batch size": [16, 32, 64, 128, 256, 512]}
BACKENDS = ("plain", "native")


def structures_per_second(graphs: GraphSet, crystals: int, backend: str, point: dict[str, int], steps: int) -> float:
    members, batch_size = point["M"], point["batch size"]
    model = ModelConfig("srcgcnn", point["T"])
    network = CrystalGraphNetwork(model, graphs.element_features, ["none"] * members, backend)
    network.reset_parameters(list(range(members)))
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    generator, seconds = torch.Generator().manual_seed(0), []
    for number in range(steps + 1):
        rows = torch.stack([torch.randperm(crystals, generator=generator)[:batch_size] for _ in range(members)])
        start = time.process_time()
        optimizer.zero_grad(set_to_none=True)
        network(graphs.batch(rows)).square().mean().backward()
        optimizer.step()
        if number:
            seconds.append(time.process_time() - start)
    return members * batch_size / median(seconds) * torch.get_num_threads()


def measure(graphs: GraphSet, crystals: int, steps: int) -> pd.DataFrame:
    rows = []
    for axis, values in AXES.items():
        for backend in BACKENDS:
            for value in values:
                if backend == "plain" and (axis, value) == ("T", 32):
                    continue  # 4 GB
                rate = structures_per_second(graphs, crystals, backend, {**DEFAULTS, axis: value}, steps)
                rows.append({"axis": axis, "value": value, "backend": backend, "structures_per_second": round(rate, 1)})
                print(f"{axis} = {value:<4} {backend:<9} {rate:8.0f} structures/s", flush=True)
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame, path: Path, threads: int) -> None:
    figure, panels = plt.subplots(1, len(AXES), figsize=(10, 3.2), sharey=True, layout="constrained")
    for panel, axis in zip(panels, AXES, strict=True):
        for name, color in zip(BACKENDS, ("tab:gray", "tab:blue"), strict=True):
            line = table[(table["axis"] == axis) & (table["backend"] == name)]
            panel.plot(line["value"], line["structures_per_second"], "o-", color=color, label=name)
        panel.set_xscale("log", base=2)
        panel.set_xticks(AXES[axis], [str(value) for value in AXES[axis]])
        fixed = ", ".join(f"{key} {value}" for key, value in DEFAULTS.items() if key != axis)
        panel.set_xlabel(f"{axis}   ({fixed})")
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(f"training structures/s, {threads} thread{'s' if threads > 1 else ''}")
    panels[0].legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("docs/img/throughput"), help="without ending; .csv and .png")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    store = GraphStore(arguments.store)
    table = measure(GraphSet.of_store(store, torch.device("cpu")), len(store.ids), arguments.steps)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(arguments.out.with_suffix(".csv"), index=False)
    draw(table, arguments.out.with_suffix(".png"), arguments.threads)


if __name__ == "__main__":
    main()
