"""Train the same trials by several backends (plain operators, machine code) and compare their test errors over seeds.

They compute the same sums in another order, so trials drift apart by rounding. What must hold is that no backend is
better or worse: the mean of the paired differences lies within the scatter of the seeds.

    python benchmarks/backend_agreement.py STORE --target formation_energy_per_atom --epochs 30 --out agreement.csv
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
from srcgcnn.run.training_config import TrainingConfig
from srcgcnn.run.trial import DataRef, Seeds, TrialConfig
from srcgcnn.training.outcome import conclude
from srcgcnn.training.trainer import GroupTrainer

if TYPE_CHECKING:
    import numpy as np

    from srcgcnn.models.backend import Backend


def train(store: GraphStore, config: TrialConfig, backend: Backend) -> dict[str, float]:
    trainer = GroupTrainer([config], store, backend=backend)
    start = time.process_time()
    trainer.train()
    seconds = time.process_time() - start
    (outcome,) = conclude(trainer)
    if outcome.result is None:
        raise RuntimeError(f"{config.label} by {backend}: {outcome.fault}")
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
    parser.add_argument("--backends", nargs="+", default=["plain", "native"])
    parser.add_argument("--out", type=Path, help="CSV of all trials")
    arguments = parser.parse_args()
    store = GraphStore(arguments.store)
    target = store.manifest.target(arguments.target)
    data = DataRef(store.manifest.data_hash, store.manifest.source, target.name, target.unit)
    recipe = TrainingConfig(epochs=arguments.epochs, milestones=(2 * arguments.epochs // 3,))
    rows = []
    for seed, backend in itertools.product(range(arguments.seeds), arguments.backends):
        config = TrialConfig(ModelConfig("srcgcnn", arguments.depth), recipe, Seeds(seed, seed, 0), data)
        rows.append({"seed": seed, "backend": backend, **train(store, config, backend)})
        print(f"seed {seed} {backend:<9} test MAE {rows[-1]['test_mae']:.5f}  {rows[-1]['cpu_s']:.0f} s", flush=True)
    table = pd.DataFrame(rows)
    if arguments.out:
        table.to_csv(arguments.out, index=False)
    by_backend = table.pivot_table(index="seed", columns="backend", values="test_mae")[arguments.backends]
    print(f"\nT={arguments.depth}, {arguments.epochs} epochs, {arguments.seeds} seeds: test MAE in {target.unit}, 95 %")
    for backend in arguments.backends:
        print(f"{backend:<28}{{:.5f}} +- {{:.5f}}".format(*interval(by_backend[backend].to_numpy())))
    for backend in arguments.backends[1:]:
        name = f"{backend} - {arguments.backends[0]}, paired"
        print(
            f"{name:<28}{{:+.5f}} +- {{:.5f}}".format(
                *interval((by_backend[backend] - by_backend[arguments.backends[0]]).to_numpy())
            )
        )


if __name__ == "__main__":
    main()
