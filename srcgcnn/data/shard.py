"""Graphs joined as a shard has them: slots [N, K] where every atom has K, or one list of edges if degrees differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from srcgcnn.data.images import packed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from srcgcnn.data.graph import CrystalGraph


def edge_arrays(graphs: Sequence[CrystalGraph], *, fixed_degree: bool) -> dict[str, np.ndarray]:
    """Return neighbours and distances of some graphs as a shard has them: [N, K], or [E] with `degrees` [N]."""
    if fixed_degree:
        return {
            "neighbours": np.concatenate([graph.neighbours for graph in graphs]),
            "distances": np.concatenate([graph.distances for graph in graphs]),
        }
    real = [np.isfinite(graph.distances) for graph in graphs]
    return {
        "degrees": np.concatenate([mask.sum(axis=1) for mask in real]).astype(np.int16),
        "neighbours": np.concatenate([graph.neighbours[mask] for graph, mask in zip(graphs, real, strict=True)]),
        "distances": np.concatenate([graph.distances[mask] for graph, mask in zip(graphs, real, strict=True)]),
    }


def geometry_arrays(graphs: Sequence[CrystalGraph], *, fixed_degree: bool) -> dict[str, np.ndarray]:
    """Return what vectors follow from: packed images of the edges, places of the atoms, lattices of the crystals.

    Raises:
        ValueError: a graph has no images.
    """
    images, places, lattices = [], [], []
    for graph in graphs:
        if graph.images is None or graph.places is None or graph.lattice is None:
            raise ValueError("this graph has no images of its neighbours, so no vectors")
        images.append(graph.images if fixed_degree else graph.images[np.isfinite(graph.distances)])
        places.append(graph.places)
        lattices.append(graph.lattice)
    return {
        "images": packed(np.concatenate(images)),
        "places": np.concatenate(places),
        "lattices": np.stack(lattices),
    }
