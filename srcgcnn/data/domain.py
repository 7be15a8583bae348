"""What a model has seen in training, in the terms of its graphs, and in what a new crystal differs.

A network answers for any graph. Whether it has a reason to is another question: its training set covers some elements,
cell sizes and densities. The graphs hold no volume, so the mean distance to the last (12th) neighbour represents
density: it goes as the cube root of the volume per atom.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from srcgcnn.data.contents import edges_before

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from srcgcnn.data.graph import CrystalGraph


@dataclass(frozen=True)
class TrainingDomain:
    """Elements and ranges (lowest, highest) of the training crystals.

    Attributes:
        crystals: how many there were.
        atomic_numbers: elements that occur, ascending.
        atoms: atoms per cell.
        shortest_distance_angstrom: shortest interatomic distance of a crystal.
        last_distance_angstrom: distance to the 12th neighbour, mean over the atoms of a crystal.
    """

    crystals: int
    atomic_numbers: tuple[int, ...]
    atoms: tuple[int, int]
    shortest_distance_angstrom: tuple[float, float]
    last_distance_angstrom: tuple[float, float]

    def departures(self, graph: CrystalGraph, cutoff_angstrom: float, *, fixed_degree: bool = True) -> str:
        """Say in what a crystal differs from all training crystals; "" if in nothing."""
        distances = graph.distances if fixed_degree else _real_ends(graph.distances)
        found = []
        if unseen := sorted(set(graph.atomic_numbers.tolist()) - set(self.atomic_numbers)):
            found.append(f"not in the training set: {', '.join(_symbol(number) for number in unseen)}")
        atoms, shortest, last = measure([len(graph.atomic_numbers)], distances, cutoff_angstrom)[0].tolist()
        for name, value, (lowest, highest) in (
            ("atoms", atoms, self.atoms),
            ("angstrom shortest distance", shortest, self.shortest_distance_angstrom),
            ("angstrom to the 12th neighbour (density)", last, self.last_distance_angstrom),
        ):
            if not lowest <= value <= highest:
                found.append(f"{value:.4g} {name}, in training {lowest:.4g} to {highest:.4g}")
        return "; ".join(found)


def _symbol(atomic_number: int) -> str:
    from pymatgen.core import Element

    return Element.from_Z(atomic_number).symbol


def domain_of(shards: Sequence[Mapping[str, np.ndarray]], rows: np.ndarray, cutoff_angstrom: float) -> TrainingDomain:
    """Return the domain of some rows [R] of a store."""
    seen: set[int] = set()
    measures = []
    first = 0
    for shard in shards:
        atoms = np.diff(shard["offsets"])
        chosen = np.zeros(len(atoms), dtype=bool)
        chosen[rows[(rows >= first) & (rows < first + len(atoms))] - first] = True
        seen.update(np.unique(shard["atomic_numbers"][np.repeat(chosen, atoms)]).tolist())
        measures.append(measure(atoms, _first_and_last(shard), cutoff_angstrom)[chosen])
        first += len(atoms)
    table = np.concatenate(measures)
    (fewest, shortest, last), (most, longest, farthest) = table.min(axis=0).tolist(), table.max(axis=0).tolist()
    return TrainingDomain(
        len(table), tuple(sorted(seen)), (int(fewest), int(most)), (shortest, longest), (last, farthest)
    )


def _real_ends(distances: np.ndarray) -> np.ndarray:
    """Return the distances [N, K] to the first and the last neighbour that there is [N, 2]."""
    real = np.isfinite(distances)
    last = np.max(distances, axis=1, where=real, initial=0.0)
    return np.stack([distances[:, 0], np.where(real.any(axis=1), last, np.inf)], axis=1)


def _first_and_last(shard: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the distances to the first and the last neighbour of every atom [N, 2]; infinite where there is none."""
    distances = shard["distances"]
    if "degrees" not in shard:
        return distances[:, [0, -1]]
    edges = edges_before(shard)
    found = np.full((len(edges) - 1, 2), np.inf, dtype=np.float32)
    bonded = edges[1:] > edges[:-1]
    found[bonded] = np.stack([distances[edges[:-1][bonded]], distances[edges[1:][bonded] - 1]], axis=1)
    return found


def measure(atoms: Sequence[int] | np.ndarray, distances: np.ndarray, cutoff_angstrom: float) -> np.ndarray:
    """Return (atoms, shortest distance, mean last distance) of crystals, [G, 3]; a missing neighbour is at the cutoff.

    Args:
        atoms: atoms of each crystal [G].
        distances: ascending distances of all their atoms [N, K].
        cutoff_angstrom: stands for missing neighbours.
    """
    counts = np.asarray(atoms)
    starts = np.cumsum(counts) - counts
    known = np.minimum(distances[:, [0, -1]].astype(np.float64), cutoff_angstrom)
    shortest = np.minimum.reduceat(known[:, 0], starts)
    return np.column_stack([counts, shortest, np.add.reduceat(known[:, 1], starts) / counts])
