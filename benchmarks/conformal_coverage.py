"""How often the 90 % interval holds the target of a sweep's test crystals, with a parity plot.

python benchmarks/conformal_coverage.py runs/ensemble --plot parity.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from srcgcnn.prediction.calibration import calibrate, spread_of
from srcgcnn.prediction.ensemble import Ensemble
from srcgcnn.run.paths import RunPaths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--variant")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    ensemble = Ensemble.load(options.run, options.variant)
    keys = [member.card.key for member in ensemble.members]
    tables = [pd.read_parquet(RunPaths(options.run).predictions(key)).set_index("id") for key in keys]
    targets, predictions = arrays(tables, "test")
    mean, spread = predictions.mean(axis=0), spread_of(predictions)
    error, half_width = np.abs(targets - mean), ensemble.calibration.half_width(spread)
    print(f"{ensemble.description}; {len(targets)} test crystals")
    print("| interval | coverage | mean half width |\n|---|---|---|")
    report("split conformal, scaled by spread", error, half_width)
    val_targets, val_predictions = arrays(tables, "validation")
    plain = calibrate(val_targets, val_predictions.mean(axis=0, keepdims=True))  # one model, the mean: no spread
    report("split conformal, one width for all", error, plain.half_width(np.zeros(len(error))))
    report("spread as if Gaussian, 1.645 s", error, 1.645 * spread)
    if options.plot:
        plot(options.plot, targets, mean, half_width, f"{ensemble.card.target}, {len(keys)} seeds", ensemble.card.unit)


def arrays(tables: list[pd.DataFrame], part: str) -> tuple[np.ndarray, np.ndarray]:
    parts = [table[table["set"] == part] for table in tables]
    return parts[0]["target"].to_numpy(), np.stack([one.loc[parts[0].index, "prediction"] for one in parts])


def report(name: str, error: np.ndarray, half_width: np.ndarray) -> None:
    print(f"| {name} | {np.mean(error <= half_width):.1%} | {half_width.mean():.3f} |")


def plot(path: Path, targets: np.ndarray, mean: np.ndarray, half_width: np.ndarray, title: str, unit: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 4.4), dpi=110)
    axes = figure.add_subplot()
    inside = np.abs(targets - mean) <= half_width
    for rows, colour, label in (
        (inside, "#2c6fbb", f"interval holds the target ({inside.mean():.1%})"),
        (~inside, "#c8442b", "it does not"),
    ):
        bars = {"yerr": half_width[rows], "fmt": "o", "ms": 2.4, "lw": 0.5, "alpha": 0.75}
        axes.errorbar(targets[rows], mean[rows], color=colour, label=label, **bars)
    ends = [min(targets.min(), mean.min()), max(targets.max(), mean.max())]
    axes.plot(ends, ends, color="black", lw=0.8)
    error = np.abs(targets - mean).mean()
    axes.set_title(f"{title}\n{len(targets)} held-out crystals, MAE {error:.3f} {unit}", fontsize=9)
    axes.set_xlabel(f"target ({unit})")
    axes.set_ylabel(f"predicted, with 90 % interval ({unit})")
    axes.set_aspect("equal")
    axes.legend(fontsize=7.5, loc="upper left")
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    main()
