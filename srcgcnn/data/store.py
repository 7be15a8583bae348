"""Reading a shard store: memory-mapped, in well under a second, pages shared by all processes of a node.

Needs numpy only. Nothing here is executable on load (no pickle), and types, shapes and ranges are checked before they
are used (`contents`), so a store from a stranger is safe to open: it is refused or works.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from srcgcnn.data.contents import (
    ELEMENT_LAYOUT,
    check_geometry,
    check_shard,
    edges_before,
    geometry_layout,
    shard_layout,
)
from srcgcnn.data.graph import CrystalGraph
from srcgcnn.data.images import unpacked
from srcgcnn.data.manifest import (
    MANIFEST_FILE,
    Manifest,
    Shard,
    StoredFile,
    StoreError,
    content_hash_of,
    read_manifest,
)
from srcgcnn.data.tensor_file import is_regular, map_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence


class GraphStore:
    """An opened store.

    Attributes:
        folder: where it is.
        manifest: what is in it.
    """

    def __init__(self, folder: Path | str, *, check_hashes: bool = False) -> None:
        """Open a store; manifest and sizes are always checked, hashes and contents on request.

        Contents are checked in any case when the arrays are first used.

        Raises:
            StoreError: not a store, or a file of it is missing, truncated or (with `check_hashes`) changed or wrong.
        """
        self.folder = Path(folder)
        self.manifest: Manifest = read_manifest(self.folder)
        faults = self.faults(check_hashes=check_hashes)
        if faults:
            raise StoreError("; ".join(faults) + f"; delete {self.folder} and build it again")
        if check_hashes:
            _ = self.shards, self.element_features, self.manifest.geometry and self.geometry

    def faults(self, *, check_hashes: bool) -> list[str]:
        """List what is wrong with the files, one line each; empty when all is well."""
        files: list[Shard | StoredFile] = [*self.manifest.shards, *self.manifest.geometry, self.manifest.elements]
        found = []
        for stored in files:
            path = self.folder / stored.file
            if not is_regular(path):
                found.append(f"{path} is not a regular file" if path.exists() else f"{path} is missing")
            elif path.stat().st_size != stored.bytes:
                found.append(f"{path} has {path.stat().st_size} bytes, the manifest says {stored.bytes}")
            elif check_hashes and sha256_of(path) != stored.sha256:
                found.append(f"{path} differs from the manifest's sha256: its contents were changed")
        if self.manifest.data_hash != content_hash_of(self.manifest):
            found.append(f"{self.folder / MANIFEST_FILE} was changed: its data hash does not belong to its files")
        return found

    def __len__(self) -> int:
        """Return the number of crystals."""
        return self.manifest.crystals

    @cached_property
    def shards(self) -> list[dict[str, np.ndarray]]:
        """Arrays of every shard, memory-mapped copy-on-write.

        `atomic_numbers` [N], `neighbours` [N, K], `distances` [N, K], `offsets` [G+1], `targets` [G, P], and the
        bytes of `ids` and `formulas`, one line each. Where degrees differ, neighbours and distances are [E] and
        `degrees` [N] has the number for each atom.

        Raises:
            StoreError: naming file, array and value if a type, a shape or a value cannot be.
        """
        return [self._shard(shard) for shard in self.manifest.shards]

    def _shard(self, shard: Shard) -> dict[str, np.ndarray]:
        path = self.folder / shard.file
        arrays = map_tensors(path, shard_layout(self.manifest, shard))
        check_shard(path, arrays, self.manifest.graph.farthest_angstrom)
        return arrays

    def require_vectors(self) -> None:
        """Check that vectors to neighbours follow from the store.

        Raises:
            StoreError: a store of format 1, which has distances only.
        """
        if not self.manifest.geometry:
            raise StoreError(
                f"{self.folder} has no vectors to neighbours, only distances (format {self.manifest.schema_version}): "
                "delete it and build it again from its source; its data hash, and so all results, stay what they are"
            )

    @cached_property
    def geometry(self) -> list[dict[str, np.ndarray]]:
        """What vectors follow from, by shard: packed `images` of the edges, `places` [N, 3], `lattices` [G, 3, 3].

        Raises:
            StoreError: a store of format 1, which has distances only, or a file that cannot be.
        """
        self.require_vectors()
        found = []
        for shard, stored, arrays in zip(self.manifest.shards, self.manifest.geometry, self.shards, strict=True):
            path = self.folder / stored.file
            found.append(map_tensors(path, geometry_layout(self.manifest, shard)))
            check_geometry(path, found[-1], arrays["distances"].shape)
        return found

    @cached_property
    def element_features(self) -> np.ndarray:
        """Element table, uint8 [101, 92]."""
        return map_tensors(self.folder / self.manifest.elements.file, ELEMENT_LAYOUT)["element_features"]

    @cached_property
    def ids(self) -> list[str]:
        """Row ids in order."""
        return self._lines("ids")

    @cached_property
    def formulas(self) -> list[str]:
        """Reduced formulas in order."""
        return self._lines("formulas")

    def _lines(self, name: str) -> list[str]:
        return [line for shard in self.shards for line in shard[name].tobytes().decode().split("\n")]

    def target(self, name: str) -> np.ndarray:
        """Return one target of all rows, float64 [G], in the unit that the manifest gives; NaN where it is missing."""
        self.manifest.target(name)
        column = [target.name for target in self.manifest.targets].index(name)
        return np.concatenate([shard["targets"][:, column] for shard in self.shards])

    def targets(self, names: Sequence[str]) -> np.ndarray:
        """Return some of the targets of all rows, float64 [G, P].

        Raises:
            StoreError: a crystal has none of them.
        """
        values = np.stack([self.target(name) for name in names], axis=1)
        empty = np.flatnonzero(np.isnan(values).all(axis=1))
        if len(empty):
            raise StoreError(
                f"{self.folder}: {len(empty):,} of {len(self):,} crystals, such as {self.ids[empty[0]]}, have no value "
                f"of {', '.join(names)}: name the source instead of the store, which leaves them out, or ask for all "
                "targets of the store"
            )
        return values

    def graph(self, row: int, *, vectors: bool = False) -> CrystalGraph:
        """Return the graph of one crystal, with images, places and lattice if vectors are requested.

        Raises:
            StoreError: vectors of a store that has distances only.
        """
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} is outside 0..{len(self) - 1}")
        number, row = self._place_of(row)
        shard = self.shards[number]
        atoms = slice(int(shard["offsets"][row]), int(shard["offsets"][row + 1]))
        edges = self._edges_of(number, atoms)
        graph = CrystalGraph(
            shard["atomic_numbers"][atoms],
            _in_slots(shard["neighbours"], edges, 0),
            _in_slots(shard["distances"], edges, np.inf),
        )
        if not vectors:
            return graph
        geometry = self.geometry[number]
        images = np.where(
            np.isfinite(graph.distances)[..., None], unpacked(_in_slots(geometry["images"], edges, 0)), np.int16(0)
        )
        return replace(graph, images=images, places=geometry["places"][atoms], lattice=geometry["lattices"][row])

    def _place_of(self, row: int) -> tuple[int, int]:
        """Return the shard of a row, and its row there."""
        for number, shard in enumerate(self.manifest.shards):
            if row < shard.crystals:
                return number, row
            row -= shard.crystals
        raise AssertionError("the shards hold fewer crystals than the manifest says")

    @cached_property
    def _first_edges(self) -> list[np.ndarray]:
        return [edges_before(shard) for shard in self.shards]

    def _edges_of(self, number: int, atoms: slice) -> slice | np.ndarray:
        """Return where the edges of atoms of a shard lie: rows of slots, or numbers of edges [N, K], -1 for none."""
        if self.manifest.graph.fixed_degree:
            return atoms
        starts, ends = self._first_edges[number][atoms], self._first_edges[number][atoms.start + 1 : atoms.stop + 1]
        slots = starts[:, None] + np.arange(max(1, int((ends - starts).max())))
        return np.where(slots < ends[:, None], slots, -1)


def _in_slots(values: np.ndarray, edges: slice | np.ndarray, fill: float) -> np.ndarray:
    """Return values of edges in slots [N, K]."""
    if isinstance(edges, slice):
        return values[edges]
    found = values[np.maximum(edges, 0)] if len(values) else np.zeros(edges.shape, values.dtype)
    return np.where(edges >= 0, found, values.dtype.type(fill))


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
