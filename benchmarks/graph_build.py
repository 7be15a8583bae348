"""How fast graphs are built on one core, against the way of the original code on the same structures.

    python benchmarks/graph_build.py mp.csv.gz --target formation_energy_per_atom --rows 300

The original way (txie-93/cgcnn, data.py) asks pymatgen for all neighbours within 8 angstrom as objects, sorts them and
keeps 12; it also expands the distances into Gaussians, which is stated separately. Parsing is left out on both sides.
The three ways take turns on the same block of structures, in changing order, and are timed in CPU seconds of this
process, so that other work on the machine matters little.
"""

from __future__ import annotations

import argparse
import random
import time
import warnings
from statistics import median

import numpy as np

from srcgcnn.data.graph import GAUSSIAN_COUNT, GAUSSIAN_STEP_ANGSTROM, build_graph
from srcgcnn.data.parsing import parse_structure
from srcgcnn.data.source import RowError
from srcgcnn.data.sources.registry import open_source

CUTOFF_ANGSTROM, NEIGHBOURS = 8.0, 12
BLOCK = 20  # structures: some tenths of a second a block
ROUNDS = 3


def main() -> None:
    options = arguments()
    warnings.simplefilter("ignore")  # pymatgen on rounding in CIFs
    structures = draw(options)
    deviation = max(largest_deviation(structure) for structure in structures)
    if deviation > 1e-5:
        raise SystemExit(f"the distances differ by up to {deviation} angstrom: these are not the same graphs")
    rates = measure(structures)
    report(structures, deviation, rates)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="SOURCE", help="any source that `srcgcnn data build` takes")
    parser.add_argument("--target", action="append", default=[], help="target column, where the source has several")
    parser.add_argument("--rows", type=int, default=300, help="structures, drawn with a fixed seed")
    return parser.parse_args()


def draw(options: argparse.Namespace) -> list:
    """Parse a random sample of the source's rows; rows that have no graph are left out."""
    rows = list(open_source(options.source, options.target).rows())
    structures = []
    for row in random.Random(0).sample(rows, min(options.rows, len(rows))):
        try:
            structure = parse_structure(row)
            build_graph(structure)
        except RowError:
            continue
        structures.append(structure)
    return structures


def original_graph(structure) -> tuple[np.ndarray, np.ndarray]:
    """Return indices [N, 12] and distances [N, 12]; atom 0 at 9 angstrom where there are fewer neighbours."""
    found = structure.get_all_neighbors(CUTOFF_ANGSTROM, include_index=True)
    indices = np.zeros((len(found), NEIGHBOURS), dtype=np.int64)
    distances = np.full((len(found), NEIGHBOURS), CUTOFF_ANGSTROM + 1)
    for atom, neighbours in enumerate(found):
        nearest = sorted(neighbours, key=lambda neighbour: neighbour[1])[:NEIGHBOURS]
        indices[atom, : len(nearest)] = [neighbour[2] for neighbour in nearest]
        distances[atom, : len(nearest)] = [neighbour[1] for neighbour in nearest]
    return indices, distances


def original_features(structure) -> np.ndarray:
    """Return the original's edge features [N, 12, 41]."""
    _, distances = original_graph(structure)
    centres = np.arange(GAUSSIAN_COUNT) * GAUSSIAN_STEP_ANGSTROM
    return np.exp(-((distances[..., None] - centres) ** 2) / GAUSSIAN_STEP_ANGSTROM**2).astype(np.float32)


def largest_deviation(structure) -> float:
    """Compare the distances of both ways, in angstrom."""
    ours = build_graph(structure).distances
    padded = np.where(np.isinf(ours), CUTOFF_ANGSTROM + 1, ours)
    return float(np.abs(padded - original_graph(structure)[1]).max())


WAYS = {
    "this project (graph)": build_graph,
    "original way (graph)": original_graph,
    "original way (graph and Gaussians)": original_features,
}


def measure(structures: list) -> dict[str, list[float]]:
    """Return structures per CPU second of every way, one number per block and round."""
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    blocks = [structures[start : start + BLOCK] for start in range(0, len(structures), BLOCK)]
    for turn, block in enumerate(blocks * ROUNDS):
        for name in list(WAYS)[:: 1 if turn % 2 else -1]:
            start = time.process_time()
            for structure in block:
                WAYS[name](structure)
            rates[name].append(len(block) / (time.process_time() - start))
    return rates


def report(structures: list, deviation: float, rates: dict[str, list[float]]) -> None:
    ours, *_ = rates.values()
    atoms = sum(len(structure) for structure in structures)
    print(
        f"{len(structures)} structures, {atoms / len(structures):.1f} atoms on average, {len(ours)} blocks of {BLOCK}."
    )
    print(f"Distances agree within {deviation:.1e} angstrom.\n")
    print("| way | structures/s per core, median of blocks | slowest and fastest block | ours is faster by |")
    print("|---|---|---|---|")
    for name, values in rates.items():
        ratio = median(mine / other for mine, other in zip(ours, values, strict=True))
        print(f"| {name} | {median(values):,.0f} | {min(values):,.0f} .. {max(values):,.0f} | {ratio:.1f} x |")


if __name__ == "__main__":
    main()
