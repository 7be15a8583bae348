"""A store with fewer neighbours than it holds: one store serves a sweep over graphs.

Neighbours are stored from near to far, with ties in an order of their own (`graph`), so the first 8 of 12 are the graph
of 8 neighbours, and those within 5 angstrom that of a cutoff of 5.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from srcgcnn.data.contents import edges_before
from srcgcnn.data.store import GraphStore
from srcgcnn.records import record

if TYPE_CHECKING:
    from srcgcnn.data.graph import GraphSettings


@record
class GraphLimits:
    """Which of a store's neighbours are used. The defaults use all.

    A limit that leaves everything is still a setting of its own: its trials are not those without it.

    Attributes:
        neighbours: the nearest that are used.
        cutoff_angstrom: farthest neighbour that is used.
    """

    neighbours: int | None = None
    cutoff_angstrom: float | None = None

    def __post_init__(self) -> None:
        """Refuse limits that leave no graph."""
        if self.neighbours is not None and self.neighbours < 1:
            raise ValueError(f"graph.neighbours={self.neighbours} must be at least 1, or left out")
        if self.cutoff_angstrom is not None:
            object.__setattr__(self, "cutoff_angstrom", float(self.cutoff_angstrom))
            if not self.cutoff_angstrom > 0:
                raise ValueError(f"graph.cutoff_angstrom={self.cutoff_angstrom} must be positive, or left out")

    def of(self, stored: GraphSettings) -> GraphSettings:
        """Return the settings of the graphs that remain.

        Raises:
            ValueError: more is asked for than is stored.
        """
        limited = stored
        if self.neighbours is not None:
            if stored.neighbours != "all" and self.neighbours > stored.neighbours:
                raise ValueError(_too_few("neighbours", self.neighbours, stored.neighbours))
            limited = replace(limited, neighbours=self.neighbours, whole_shells=False)
        if self.cutoff_angstrom is not None:
            if self.cutoff_angstrom > stored.cutoff_angstrom:
                raise ValueError(_too_few("cutoff_angstrom", self.cutoff_angstrom, stored.cutoff_angstrom))
            limited = replace(limited, cutoff_angstrom=self.cutoff_angstrom)
        return limited


def _too_few(name: str, requested: float, stored: float) -> str:
    return (
        f"training.graph.{name}={requested:g}: the graphs of the store have {name}={stored:g} and can only be "
        f"reduced: build them with [data.graph] {name}={requested:g} or more"
    )


def limited_store(store: GraphStore, limits: GraphLimits) -> GraphStore:
    """Return a store with these neighbours only; the store itself if all are used.

    Raises:
        ValueError: more is asked for than is stored.
    """
    return store if limits == GraphLimits() else _LimitedStore(store, limits)


class _LimitedStore(GraphStore):
    """The same crystals, targets and hash. Its edges are copies in memory, not mapped from the files."""

    def __init__(self, whole: GraphStore, limits: GraphLimits) -> None:
        self._whole, self.folder = whole, whole.folder
        self.manifest = replace(whole.manifest, graph=limits.of(whole.manifest.graph))

    @cached_property
    def shards(self) -> list[dict[str, np.ndarray]]:
        """As in a store.

        Raises:
            ValueError: no crystal has a neighbour left.
        """
        limited = [self._limited(shard) for shard in self._whole.shards]
        if not any(np.isfinite(shard["distances"]).any() for shard in limited):
            cutoff = self.manifest.graph.cutoff_angstrom
            raise ValueError(f"training.graph.cutoff_angstrom={cutoff:g} leaves no neighbour in any crystal: raise it")
        return limited

    @cached_property
    def geometry(self) -> list[dict[str, np.ndarray]]:
        """As in a store."""
        pairs = zip(self._whole.shards, self._whole.geometry, strict=True)
        return [{**geometry, "images": self._kept(geometry["images"], shard, 0)} for shard, geometry in pairs]

    def _limited(self, shard: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        limited = {**shard} | {
            name: self._kept(shard[name], shard, fill) for name, fill in (("neighbours", 0), ("distances", np.inf))
        }
        if "degrees" in shard:
            near = self._near(shard)
            del limited["degrees"]
            if self.manifest.graph.degree is None:
                owner = np.repeat(np.arange(len(shard["degrees"])), shard["degrees"])
                limited["degrees"] = np.bincount(owner[near], minlength=len(shard["degrees"])).astype(np.int16)
        return limited

    def _near(self, shard: dict[str, np.ndarray]) -> np.ndarray:
        """Which edges are within the cutoff, as they lie in the shard."""
        near: np.ndarray = shard["distances"] <= self.manifest.graph.cutoff_angstrom
        return near

    def _kept(self, values: np.ndarray, shard: dict[str, np.ndarray], fill: float) -> np.ndarray:
        """Return the values of the edges that remain: [N, K], or [E] if degrees differ."""
        degree, near = self.manifest.graph.degree, self._near(shard)
        if "degrees" not in shard:
            return np.where(near[:, :degree], values[:, :degree], values.dtype.type(fill))
        if degree is None:
            return values[near]
        if not len(values):
            return np.full((len(shard["degrees"]), degree), fill, values.dtype)
        first = edges_before(shard)
        slots = first[:-1, None] + np.arange(degree)
        there = slots < first[1:, None]
        slots = np.where(there, slots, 0)
        return np.where(there & near[slots], values[slots], values.dtype.type(fill))
