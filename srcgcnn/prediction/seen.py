"""Crystals that a model has seen: its output for them is not a prediction.

A crystal was seen if one of the training or validation set has the same elements at the same distances: all pairs of
an atom and one of its 12 neighbours, sorted by the two elements and the length, agree. The order of atoms, the origin
and the digits of a CIF do not matter; another choice of the cell (primitive, conventional, a supercell) is not found.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from srcgcnn.data.limited_store import limited_store
from srcgcnn.data.manifest import StoreError
from srcgcnn.data.store import GraphStore
from srcgcnn.records import RecordError
from srcgcnn.sweep.record import read_record
from srcgcnn.training.split import Crystals, Split, split_rows

if TYPE_CHECKING:
    from srcgcnn.data.graph import CrystalGraph
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.run.trial import TrialConfig

SAME_LENGTH_ANGSTROM = 1e-3  # the rounding of a CIF with 5 digits; two relaxations of one crystal differ by more


class SeenCrystals:
    """The training and validation crystals of a trial, to be looked up."""

    def __init__(self, store: GraphStore, split: Split) -> None:
        self._store = store
        self._rows: defaultdict[bytes, list[tuple[int, str]]] = defaultdict(list)
        for name, rows in (("training", split.train), ("validation", split.val)):
            for row in rows.tolist():
                self._rows[_composition(store.graph(row))].append((row, name))

    def find(self, graph: CrystalGraph) -> str:
        """Return in which set a crystal was seen, and its id there: `training set: mp-149`; "" if in none."""
        lengths = _sorted_lengths(graph)
        for row, name in self._rows.get(_composition(graph), ()):
            found = _sorted_lengths(self._store.graph(row))
            if found.shape == lengths.shape and np.allclose(found, lengths, rtol=0, atol=SAME_LENGTH_ANGSTROM):
                return f"{name} set: {self._store.ids[row]}"
        return ""


def open_training_store(paths: RunPaths, config: TrialConfig) -> GraphStore | None:
    """Return the graphs that a trial was trained on; None if it is not available, or holds other data now."""
    try:
        record = read_record(paths)
        if record.archived:
            return None
        store = GraphStore(Path(record.store))
    except (RecordError, StoreError):
        return None
    return limited_store(store, config.training.graph) if store.manifest.data_hash == config.data.data_hash else None


def split_of(store: GraphStore, config: TrialConfig) -> Split:
    """Return the rows of a trial's three sets."""
    return split_rows(config.training.split, config.seeds.split, Crystals.of(store))


def _composition(graph: CrystalGraph) -> bytes:
    return np.sort(graph.atomic_numbers).tobytes()


def _sorted_lengths(graph: CrystalGraph) -> np.ndarray:
    """Return the lengths of all pairs [N * K] in angstrom, sorted by first element, second element, and length."""
    first = np.repeat(graph.atomic_numbers, graph.distances.shape[1])
    lengths = graph.distances.ravel()
    second = np.where(np.isinf(lengths), 0, graph.atomic_numbers[graph.neighbours.ravel()])
    return lengths[np.lexsort((lengths, second, first))]
