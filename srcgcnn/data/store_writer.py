"""Writing a shard store: graphs in, safetensors shards and a manifest out."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import blake2b
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save_file

from srcgcnn.data.elements import element_table
from srcgcnn.data.manifest import (
    ELEMENTS_FILE,
    SCHEMA_VERSION,
    Manifest,
    Shard,
    StoredFile,
    TargetColumn,
    content_hash,
)
from srcgcnn.data.shard import edge_arrays, geometry_arrays
from srcgcnn.data.store import sha256_of
from srcgcnn.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from srcgcnn.data.graph import CrystalGraph, GraphSettings
    from srcgcnn.data.source import Source

# 74 bytes an atom at 12 neighbours: the whole Materials Project (about 4 M atoms) is one shard, read without joining
DEFAULT_SHARD_BYTES = 512 * 2**20


class StoreWriter:
    """Collects graphs and writes them shard by shard.

    Attributes:
        crystals: how many were added.
    """

    def __init__(
        self, folder: Path, source: Source, settings: GraphSettings, build_key: str, shard_bytes: int | None
    ) -> None:
        self._folder = folder
        self._source = source
        self._settings = settings
        self._build_key = build_key
        self._shard_bytes = shard_bytes or DEFAULT_SHARD_BYTES
        self._graphs: list[CrystalGraph] = []
        self._names: list[tuple[str, str]] = []
        self._targets: list[tuple[float, ...]] = []
        self._all_targets: list[tuple[float, ...]] = []
        self._pending_bytes = 0
        self._shards: list[Shard] = []
        self._geometry: list[StoredFile] = []
        self._padded_atoms = 0
        self._seen: set[bytes] = set()
        self.crystals = 0

    def add(self, row_id: str, formula: str, graph: CrystalGraph, targets: tuple[float, ...]) -> None:
        """Add one crystal."""
        self._graphs.append(graph)
        self._names.append((row_id.replace("\n", " "), formula))
        self._targets.append(targets)
        self._all_targets.append(targets)
        missing = np.isinf(graph.distances)
        self._padded_atoms += int((missing.any(axis=1) if self._settings.fixed_degree else missing.all(axis=1)).sum())
        self._seen.add(_fingerprint(graph))
        self._pending_bytes += graph.atomic_numbers.nbytes + graph.neighbours.nbytes + graph.distances.nbytes
        self.crystals += 1
        if self._pending_bytes >= self._shard_bytes:
            self._write_shard()

    @property
    def empty_targets(self) -> list[str]:
        """Targets that no crystal has."""
        columns = np.array(self._all_targets, dtype=np.float64).T
        return [name for name, values in zip(self._source.targets, columns, strict=True) if np.isnan(values).all()]

    def finish(self, *, rejected: int) -> Manifest:
        """Write the last shard, the element table and the manifest."""
        if self._graphs:
            self._write_shard()
        shards, elements = tuple(self._shards), self._write_elements()
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            build_key=self._build_key,
            data_hash=content_hash(self._settings, self._source.targets, shards, elements),
            graph=self._settings,
            source=self._source.name,
            source_hash=self._source.content_hash,
            provenance=self._source.provenance,
            targets=self._target_columns(),
            shards=shards,
            elements=elements,
            crystals=self.crystals,
            atoms=sum(shard.atoms for shard in shards),
            padded_atoms=self._padded_atoms,
            rejected=rejected,
            built_at=datetime.now(UTC).isoformat(timespec="seconds"),
            repeated=self.crystals - len(self._seen),
            geometry=tuple(self._geometry),
            versions={"srcgcnn": __version__, "pymatgen": version("pymatgen"), "numpy": np.__version__},
        )
        manifest.write(self._folder)
        return manifest

    def _write_shard(self) -> None:
        name = f"shard-{len(self._shards):05d}.safetensors"
        lengths = [len(graph.atomic_numbers) for graph in self._graphs]
        arrays = {
            **edge_arrays(self._graphs, fixed_degree=self._settings.fixed_degree),
            "atomic_numbers": np.concatenate([graph.atomic_numbers for graph in self._graphs]),
            "offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            "targets": np.array(self._targets, dtype=np.float64),
            "ids": _as_bytes(row_id for row_id, _ in self._names),
            "formulas": _as_bytes(formula for _, formula in self._names),
        }
        save_file(arrays, self._folder / name)
        stored = self._stored(name)
        self._shards.append(Shard(name, stored.bytes, stored.sha256, len(lengths), sum(lengths)))
        geometry = name.replace("shard", "geometry")
        save_file(geometry_arrays(self._graphs, fixed_degree=self._settings.fixed_degree), self._folder / geometry)
        self._geometry.append(self._stored(geometry))
        self._graphs, self._names, self._targets, self._pending_bytes = [], [], [], 0

    def _write_elements(self) -> StoredFile:
        save_file({"element_features": np.array(element_table())}, self._folder / ELEMENTS_FILE)
        return self._stored(ELEMENTS_FILE)

    def _stored(self, name: str) -> StoredFile:
        path = self._folder / name
        return StoredFile(name, path.stat().st_size, sha256_of(path))

    def _target_columns(self) -> tuple[TargetColumn, ...]:
        columns = zip(self._source.targets, self._source.units, np.array(self._all_targets).T, strict=True)
        return tuple(_target_column(*column) for column in columns)


def _target_column(name: str, unit: str, values: np.ndarray) -> TargetColumn:
    there = np.ascontiguousarray(values[~np.isnan(values)])
    return TargetColumn(
        name,
        unit,
        mean=float(there.mean()),
        std=float(there.std(ddof=1)) if len(there) > 1 else 0.0,
        minimum=float(there.min()),
        maximum=float(there.max()),
        missing=len(values) - len(there),
    )


def _fingerprint(graph: CrystalGraph) -> bytes:
    digest = blake2b(digest_size=16)
    for array in (graph.atomic_numbers, graph.neighbours, graph.distances):
        digest.update(array.tobytes())
    return digest.digest()


def _as_bytes(lines: Iterable[str]) -> np.ndarray:
    return np.frombuffer("\n".join(lines).encode(), dtype=np.uint8)
