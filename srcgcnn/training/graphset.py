"""All crystals of a store on one device; a batch is index arithmetic, there is no DataLoader.

On the CPU the arrays stay memory-mapped, so that the processes of a node share their pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from srcgcnn.data.images import components, packed, unpacked
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

    def __len__(self) -> int:
        return int(self._starts[-1])

    def zeros(self, shape: Sequence[int]) -> Tensor:
        """Return zeros of the rows' type."""
        return self._parts[0].new_zeros(*shape)

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
        device: where they are.
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
        geometry: Sequence[Mapping[str, np.ndarray]] | None = None,
    ) -> None:
        """Map arrays (CPU) or copy them to the device.

        Args:
            shards: `atomic_numbers`, `neighbours`, `distances`, `offsets` and, if degrees differ, `degrees` of each
                shard, as a store has them.
            element_features: [101, 92].
            device: where batches are made.
            padding_distance: None masks missing neighbours; a distance in angstrom makes them unmasked edges to
                atom 0 of the crystal, as the original code does with 9 angstrom.
            geometry: `images`, `places` and `lattices` of each shard; batches then have vectors.

        Raises:
            ValueError: missing neighbours should become edges, but degrees differ.
        """
        self.device, self.static_shapes = device, False
        self._degrees = _Degrees(shards, device) if "degrees" in shards[0] else None
        if self._degrees and padding_distance is not None:
            raise ValueError("exact_padding fills missing neighbours of a fixed number; these graphs have none")
        incomplete = self._degrees is not None or any(np.isinf(shard["distances"][:, -1]).any() for shard in shards)
        self._masked = incomplete and padding_distance is None
        self._padding_distance = padding_distance if incomplete else None
        self._numbers = self._rows(shards, "atomic_numbers")
        self._neighbours = self._rows(shards, "neighbours")
        self._distances = self._rows(shards, "distances")
        self._host_offsets = torch.from_numpy(_joined_offsets(shards))
        self._offsets = self._host_offsets.to(device)
        self.element_features = torch.from_numpy(np.array(element_features)).float().to(device)
        self._geometry = None
        if geometry is not None:
            geometry = _alike(geometry)
            self._geometry = {name: self._rows(geometry, name) for name in ("images", "places", "lattices")}

    @classmethod
    def of_store(
        cls, store: GraphStore, device: torch.device, *, exact_padding: bool = False, vectors: bool = False
    ) -> GraphSet:
        """Take all crystals of a store.

        Args:
            store: where they are stored.
            device: where batches are made.
            exact_padding: as in `TrainingConfig`.
            vectors: batches have the vectors to neighbours; the arrays for them are read only then.

        Raises:
            StoreError: vectors of a store that has distances only.
        """
        padding = store.manifest.graph.cutoff_angstrom + 1.0 if exact_padding else None
        geometry = store.geometry if vectors else None
        return cls(store.shards, store.element_features, device, padding_distance=padding, geometry=geometry)

    def _rows(self, shards: Sequence[Mapping[str, np.ndarray]], name: str) -> ShardedRows:
        parts = [torch.from_numpy(shard[name]).to(self.device) for shard in shards]
        return ShardedRows(parts if self.device.type == "cpu" else [torch.cat(parts)])

    def batch(self, rows: Tensor) -> GraphBatch:
        """Gather crystals, int64 [M, B] row numbers (best on the host), into one batch for M models.

        Sizes are computed on the host, to avoid waiting for a GPU.
        """
        host_rows = rows.cpu()
        host_counts = self._host_offsets[host_rows + 1] - self._host_offsets[host_rows]
        atoms, largest = int(host_counts.sum()), int(host_counts.sum(dim=1).max())
        models, crystals = rows.shape
        rows = host_rows.to(self.device, non_blocking=True)
        counts = (self._offsets[rows + 1] - self._offsets[rows]).flatten()  # atoms of each crystal [M*B]
        owner = torch.arange(models * crystals, device=self.device).repeat_interleave(counts, output_size=atoms)
        starts = torch.cumsum(counts, 0) - counts
        within = torch.arange(atoms, device=self.device) - starts[owner]  # number of the atom in its crystal
        source = self._offsets[rows.flatten()][owner] + within
        slots = source if self._degrees is None else self._degrees.slots(host_rows, source, pad=self.static_shapes)
        distances = self._distances_of(slots)
        if self._padding_distance is not None:
            distances = torch.where(torch.isinf(distances), self._padding_distance, distances)
        member = owner // crystals
        first_of_member = starts.view(models, crystals)[:, 0]
        local_start = starts[owner] - first_of_member[member]  # first atom of the crystal, counted in its member
        own = _taken(self._neighbours, slots).long()  # number of the neighbour in its crystal
        own = own if self._degrees is None else own.masked_fill(slots < 0, 0)
        neighbours = own + local_start[:, None]
        numbers = self._numbers.take(source).long()
        atom_counts = counts.view(models, crystals).float()
        crystal = owner - member * crystals
        vectors = None
        if self._geometry is not None:
            vectors = self._vectors(rows.flatten()[owner], source, slots, own + starts[owner][:, None], distances)
        if models == 1 and not self.static_shapes:
            return self._unpadded(numbers, neighbours, distances, crystal, atom_counts, vectors)
        width = size_class(largest) if self.static_shapes else largest
        place = member * width + local_start + within
        return _padded(numbers, neighbours, distances, crystal, atom_counts, vectors, place, width)

    def _distances_of(self, slots: Tensor) -> Tensor:
        found = _taken(self._distances, slots)
        return found if slots.dim() == 1 else torch.where(slots < 0, float("inf"), found)

    def _vectors(self, rows: Tensor, source: Tensor, slots: Tensor, neighbours: Tensor, distances: Tensor) -> Tensor:
        """Return the vectors of atoms to their neighbours [n, K, 3]; 0 where there is no neighbour.

        Args:
            rows: crystal of each atom in the store [n].
            source: the atom in the store [n].
            slots: rows of slots [n], or numbers of edges [n, K] with -1 for none.
            neighbours: their number among these n atoms [n, K].
            distances: to the neighbours [n, K].
        """
        assert self._geometry is not None  # noqa: S101 - batches without vectors do not come here
        images = _taken(self._geometry["images"], slots)
        steps = torch.stack(components(images.int(), images.element_size()), dim=-1).float()
        places = self._geometry["places"].take(source)
        fractional = places[neighbours] + steps - places[:, None]
        vectors = torch.einsum("nki,nij->nkj", fractional, self._geometry["lattices"].take(rows))
        # a shell has no neighbour if it is padded, also if the padding has a distance
        missing = torch.isinf(distances) | (distances == (self._padding_distance or -1.0))
        return vectors.masked_fill(missing[..., None], 0.0)

    def _unpadded(
        self,
        numbers: Tensor,
        neighbours: Tensor,
        distances: Tensor,
        crystal: Tensor,
        atom_counts: Tensor,
        vectors: Tensor | None,
    ) -> GraphBatch:
        edge_mask = torch.isfinite(distances)[None] if self._masked else None
        vectors = None if vectors is None else vectors[None]
        alone = numbers[None], neighbours[None], distances[None], edge_mask, crystal[None], None, atom_counts, vectors
        return GraphBatch(*alone)


def _alike(geometry: Sequence[Mapping[str, np.ndarray]]) -> Sequence[Mapping[str, np.ndarray]]:
    """Pack the images of all shards in one way."""
    if len({shard["images"].dtype for shard in geometry}) == 1:
        return geometry
    return [{**shard, "images": packed(unpacked(shard["images"]), wide=True)} for shard in geometry]


class _Degrees:
    """Where the edges of atoms lie in graphs of different degrees."""

    def __init__(self, shards: Sequence[Mapping[str, np.ndarray]], device: torch.device) -> None:
        degrees = np.concatenate([shard["degrees"] for shard in shards]).astype(np.int64)
        offsets = _joined_offsets(shards)
        # the widest atom of every crystal, on the host, to avoid waiting for a GPU
        self._widest = torch.from_numpy(np.maximum.reduceat(degrees, offsets[:-1]))
        self._first = torch.from_numpy(np.concatenate([[0], np.cumsum(degrees)])).to(device)

    def slots(self, rows: Tensor, source: Tensor, *, pad: bool) -> Tensor:
        """Return numbers of edges [n, K], -1 for none; K is the largest degree of these crystals, or its size class."""
        widest = max(1, int(self._widest[rows.flatten()].max()))
        width = size_class(widest) if pad else widest
        first, last = self._first[source], self._first[source + 1]
        slots = first[:, None] + torch.arange(width, device=source.device)
        return torch.where(slots < last[:, None], slots, -1)


def _taken(values: ShardedRows, slots: Tensor) -> Tensor:
    """Return values of edges at rows of slots [n], or numbers of edges [n, K]: [n, K]; of a missing edge that of 0."""
    if slots.dim() == 1:
        return values.take(slots)
    if not len(values):
        return values.zeros(slots.shape)
    return values.take(slots.clamp(min=0).flatten()).view(slots.shape)


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
    vectors: Tensor | None,
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
        vectors=None if vectors is None else spread(vectors, 0.0),
    )
