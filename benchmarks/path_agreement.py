"""Train the same trials along several paths (plain operators, machine code) and compare their test errors over seeds.

The paths compute the same sums in another order, so trials drift apart by rounding. What must hold is that no path is
better or worse: the mean of the paired differences lies within the scatter of the seeds.

    python benchmarks/path_agreement.py STORE --target formation_energy_per_atom --epochs 30 --out agreement.csv
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from scipy import stats

from srcgcnn.data.store import GraphStore
from srcgcnn.models.config import ModelConfig
from srcgcnn.run.trial import DataRef, Seeds, TrainingConfig, TrialConfig
from srcgcnn.training.outcome import conclude
from srcgcnn.training.trainer import GroupTrainer

if TYPE_CHECKING:
    import numpy as np


def train(store: GraphStore, config: TrialConfig, path: str) -> dict[str, float]:
    trainer = GroupTrainer([config], store)
    trainer.network.path = path
    start = time.process_time()
    trainer.train()
    seconds = time.process_time() - start
    (outcome,) = conclude(trainer)
    if outcome.result is None:
        raise RuntimeError(f"{config.label} by {path}: {outcome.fault}")
    metrics = outcome.result.metrics
    return {"val_mae": metrics.val_mae, "test_mae": metrics.test_mae, "cpu_s": seconds}


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean and half width of its 95 % t interval."""
    return float(values.mean()), float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--target", required=True)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3, help="at least 2")
    parser.add_argument("--paths", nargs="+", default=["plain", "compiled"])
    parser.add_argument("--out", type=Path, help="CSV of all trials")
    arguments = parser.parse_args()
    store = GraphStore(arguments.store)
    target = store.manifest.target(arguments.target)
    data = DataRef(store.manifest.data_hash, store.manifest.source, target.name, target.unit)
    recipe = TrainingConfig(epochs=arguments.epochs, milestones=(2 * arguments.epochs // 3,))
    rows = []
    for seed, path in itertools.product(range(arguments.seeds), arguments.paths):
        config = TrialConfig(ModelConfig("srcgcnn", arguments.depth), recipe, Seeds(seed, seed, 0), data)
        rows.append({"seed": seed, "path": path, **train(store, config, path)})
        print(f"seed {seed} {path:<9} test MAE {rows[-1]['test_mae']:.5f}  {rows[-1]['cpu_s']:.0f} s", flush=True)
    table = pd.DataFrame(rows)
    if arguments.out:
        table.to_csv(arguments.out, index=False)
    by_path = table.pivot_table(index="seed", columns="path", values="test_mae")[arguments.paths]
    print(f"\nT={arguments.depth}, {arguments.epochs} epochs, {arguments.seeds} seeds: test MAE in {target.unit}, 95 %")
    for path in arguments.paths:
        print(f"{path:<28}{{:.5f}} +- {{:.5f}}".format(*interval(by_path[path].to_numpy())))
    for path in arguments.paths[1:]:
        name = f"{path} - {arguments.paths[0]}, paired"
        print(
            f"{name:<28}{{:+.5f}} +- {{:.5f}}".format(
                *interval((by_path[path] - by_path[arguments.paths[0]]).to_numpy())
            )
        )


if __name__ == "__main__":
    main()
