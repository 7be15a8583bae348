"""All crystals of a store on one device; a batch is index arithmetic, there is no DataLoader.

On the CPU the arrays stay memory-mapped, so that the processes of a node share their pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from srcgcnn.models.batch import GraphBatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from srcgcnn.data.store import GraphStore


def _joined_offsets(shards: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
    """First atom of every crystal over all shards: int64 [G+1]."""
    lengths = [np.diff(shard["offsets"]) for shard in shards]
    return np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)


class ShardedRows:
    """Rows of one array that lies in several shards, gathered by global row number."""

    def __init__(self, parts: list[Tensor]) -> None:
        self._parts = parts
        self._starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).tolist()

    def take(self, rows: Tensor) -> Tensor:
        """Return the rows [R, ...] at the given global row numbers [R]."""
        if len(self._parts) == 1:
            return self._parts[0].index_select(0, rows)
        first = self._parts[0]
        found = torch.empty((len(rows), *first.shape[1:]), dtype=first.dtype, device=first.device)
        for part, start in zip(self._parts, self._starts, strict=False):
            here = (rows >= start) & (rows < start + len(part))
            found[here] = part.index_select(0, rows[here] - start)
        return found


class GraphSet:
    """The graphs of a store as tensors.

    Attributes:
        device: where they lie.
        static_shapes: pad batches to few sizes (`size_class`), so that compiled code meets few shapes.
        element_features: float32 [101, 92].
    """

    def __init__(
        self,
        shards: Sequence[Mapping[str, np.ndarray]],
        element_features: np.ndarray,
        device: torch.device,
        *,
        padding_distance: float | None = None,
    ) -> None:
        """Map arrays (CPU) or copy them to the device.

        Args:
            shards: `atomic_numbers`, `neighbours`, `distances` and `offsets` of each shard, as a store has them.
            element_features: [101, 92].
            device: where batches are made.
            padding_distance: None masks missing neighbours; a distance in angstrom makes them unmasked edges to
                atom 0 of the crystal, as the original code does with 9 angstrom.
        """
        self.device, self.static_shapes = device, False
        incomplete = any(np.isinf(shard["distances"][:, -1]).any() for shard in shards)
        self._masked = incomplete and padding_distance is None
        self._padding_distance = padding_distance if incomplete else None
        self._numbers = self._rows(shards, "atomic_numbers")
        self._neighbours = self._rows(shards, "neighbours")
        self._distances = self._rows(shards, "distances")
        self._host_offsets = torch.from_numpy(_joined_offsets(shards))
        self._offsets = self._host_offsets.to(device)
        self.element_features = torch.from_numpy(np.array(element_features)).float().to(device)

    @classmethod
    def of_store(cls, store: GraphStore, device: torch.device, *, exact_padding: bool = False) -> GraphSet:
        """Take all crystals of a store; `exact_padding` as in `TrainingConfig`."""
        padding = store.manifest.graph.cutoff_angstrom + 1.0 if exact_padding else None
        return cls(store.shards, store.element_features, device, padding_distance=padding)

    def _rows(self, shards: Sequence[Mapping[str, np.ndarray]], name: str) -> ShardedRows:
        parts = [torch.from_numpy(shard[name]).to(self.device) for shard in shards]
        return ShardedRows(parts if self.device.type == "cpu" else [torch.cat(parts)])

    def batch(self, rows: Tensor) -> GraphBatch:
        """Gather crystals, int64 [M, B] row numbers (best on the host), into one batch for M models.

        Sizes are worked out on the host, so that a GPU need not be waited for.
        """
        rows = rows.cpu()
        host_counts = self._host_offsets[rows + 1] - self._host_offsets[rows]
        atoms, largest = int(host_counts.sum()), int(host_counts.sum(dim=1).max())
        models, crystals = rows.shape
        rows = rows.to(self.device, non_blocking=True)
        counts = (self._offsets[rows + 1] - self._offsets[rows]).flatten()  # atoms of each crystal [M*B]
        owner = torch.arange(models * crystals, device=self.device).repeat_interleave(counts, output_size=atoms)
        starts = torch.cumsum(counts, 0) - counts
        within = torch.arange(atoms, device=self.device) - starts[owner]  # number of the atom in its crystal
        source = self._offsets[rows.flatten()][owner] + within
        distances = self._distances.take(source)
        if self._padding_distance is not None:
            distances = torch.where(torch.isinf(distances), self._padding_distance, distances)
        member = owner // crystals
        first_of_member = starts.view(models, crystals)[:, 0]
        local_start = starts[owner] - first_of_member[member]  # first atom of the crystal, counted in its member
        neighbours = self._neighbours.take(source).long() + local_start[:, None]
        numbers = self._numbers.take(source).long()
        atom_counts = counts.view(models, crystals).float()
        crystal = owner - member * crystals
        if models == 1 and not self.static_shapes:
            return self._unpadded(numbers, neighbours, distances, crystal, atom_counts)
        width = size_class(largest) if self.static_shapes else largest
        place = member * width + local_start + within
        return _padded(numbers, neighbours, distances, crystal, atom_counts, place, width)

    def _unpadded(
        self, numbers: Tensor, neighbours: Tensor, distances: Tensor, crystal: Tensor, atom_counts: Tensor
    ) -> GraphBatch:
        edge_mask = torch.isfinite(distances)[None] if self._masked else None
        return GraphBatch(numbers[None], neighbours[None], distances[None], edge_mask, crystal[None], None, atom_counts)


def size_class(atoms: int) -> int:
    """Return the smallest of 8, 9, ..., 15 times a power of two that holds `atoms`: at most an eighth larger."""
    step = 2 ** max(0, (atoms - 1).bit_length() - 4)
    return -(-atoms // step) * step


def _padded(
    numbers: Tensor,
    neighbours: Tensor,
    distances: Tensor,
    crystal: Tensor,
    atom_counts: Tensor,
    place: Tensor,
    width: int,
) -> GraphBatch:
    """Lay the atoms of M models side by side, [M, width], each at its place in 0..M*width; the others are masked."""
    models, crystals = atom_counts.shape

    def spread(values: Tensor, fill: float) -> Tensor:
        full = values.new_full((models * width, *values.shape[1:]), fill)
        return full.index_copy(0, place, values).view(models, width, *values.shape[1:])

    distances = spread(distances, float("inf"))
    return GraphBatch(
        atomic_numbers=spread(numbers, 0),
        neighbours=spread(neighbours, 0),
        distances=distances,
        edge_mask=torch.isfinite(distances),
        crystal=spread(crystal, crystals),
        atom_mask=spread(torch.ones_like(crystal, dtype=torch.bool), False),
        atom_counts=atom_counts,
    )
