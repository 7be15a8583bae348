"""A graph store as a PyTorch Geometric dataset, to train other networks of that library on the same graphs.

Our own training does not use it: a batch there is index arithmetic on the mapped store (training/graphset.py). Nothing
is written to disk, and several processes share the pages of one store here too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch_geometric.data import Batch, Data, Dataset

from srcgcnn.data.graph import GAUSSIAN_COUNT, GAUSSIAN_STEP_ANGSTROM, CrystalGraph
from srcgcnn.data.store import GraphStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor


class CrystalDataset(Dataset):
    """The crystals of a store, in its order.

    Each item has `x` [N, 92] element features, `z` [N] atomic numbers, `edge_index` [2, E], `distances` [E] in
    angstrom, `y` [1, P] targets in the units of the manifest, `crystal_id`, and on request `edge_attr` [E, 41]. Of
    several targets those that a crystal lacks are NaN.
    """

    def __init__(
        self, folder: Path | str, *, gaussians: bool = True, transform: Callable[[Data], Any] | None = None
    ) -> None:
        """Open a store.

        Args:
            folder: the store.
            gaussians: add the distances in 41 Gaussians as `edge_attr`, as CGCNN takes them.
            transform: applied to every item when it is taken.

        Raises:
            StoreError: as `GraphStore`.
        """
        self._gaussians = gaussians
        self._open(GraphStore(folder))
        super().__init__(root=None, transform=transform)

    def _open(self, store: GraphStore) -> None:
        self.store = store
        self._features = torch.from_numpy(np.array(store.element_features)).float()
        self._targets = np.stack([store.target(column.name) for column in store.manifest.targets], axis=1)

    def __getstate__(self) -> dict[str, Any]:
        # a loader that spawns its workers pickles the dataset: the folder goes across, not gigabytes of mapped arrays
        left_out = ("store", "_features", "_targets")
        return {**{k: v for k, v in self.__dict__.items() if k not in left_out}, "folder": self.store.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        folder = state.pop("folder")
        self.__dict__.update(state)
        self._open(GraphStore(folder))

    def __copy__(self) -> CrystalDataset:
        # PyG slices by copying the dataset; the slices share one opened store
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def len(self) -> int:
        """Return the number of crystals in the store."""
        return len(self.store)

    def get(self, idx: int) -> Data:
        """Return one crystal of the store."""
        graph = self.store.graph(idx)
        edge_index, distances = edges(graph)
        numbers = torch.from_numpy(graph.atomic_numbers.astype(np.int64))
        return Data(
            x=self._features[numbers],
            z=numbers,
            edge_index=edge_index,
            edge_attr=gaussians(distances) if self._gaussians else None,
            distances=distances,
            y=torch.from_numpy(self._targets[idx : idx + 1]).float(),
            crystal_id=self.store.ids[idx],
        )


def edges(graph: CrystalGraph) -> tuple[Tensor, Tensor]:
    """Return `edge_index` [2, E] from neighbour (row 0) to centre (row 1), where messages add up, and distances [E]."""
    real = np.isfinite(graph.distances)
    centres = np.nonzero(real)[0]
    index = np.stack([graph.neighbours[real].astype(np.int64), centres])
    return torch.from_numpy(index), torch.from_numpy(graph.distances[real])


def as_batch(graph: Any, element_features: Tensor) -> Batch:
    """Return the crystals of a `srcgcnn.models.batch.FlatGraph` as PyTorch Geometric's own batch.

    It has what the items of `CrystalDataset` have but for targets and ids, and `vectors` [E, 3] in angstrom, from an
    atom to its neighbour; with `batch` [N] and `ptr` [B + 1], as every `Batch`. There is no `pos`: an edge leads to one
    of many periodic images of its neighbour.
    """
    starts = torch.nn.functional.pad(graph.atom_counts.long().cumsum(0), (1, 0))
    return Batch(
        x=element_features[graph.atomic_numbers],
        z=graph.atomic_numbers,
        edge_index=graph.edge_index,
        edge_attr=gaussians(graph.distances),
        distances=graph.distances,
        vectors=graph.vectors,
        batch=graph.crystal,
        ptr=starts,
    )


def gaussians(distances: Tensor) -> Tensor:
    """Expand distances [E] into exp(-(d - mu)^2 / 0.2^2) at 0, 0.2 .. 8 angstrom: [E, 41]."""
    centres = torch.arange(GAUSSIAN_COUNT, device=distances.device) * GAUSSIAN_STEP_ANGSTROM
    return torch.exp(-((distances[:, None] - centres) / GAUSSIAN_STEP_ANGSTROM).square())
