"""The manifest of a shard store: what is in it, where it came from, and how to check that it is complete."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from srcgcnn.data.graph import GraphSettings, Neighbours
from srcgcnn.records import as_dict, digest

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA_VERSION = 2  # 2 has the geometry in addition to the graphs
READABLE_VERSIONS = (1, 2)
CONTENT_VERSION = 1  # of the graphs themselves, which are those of format 1: data hashes and build keys stay
MANIFEST_FILE = "manifest.json"
REJECTED_FILE = "rejected.csv"
ELEMENTS_FILE = "elements.safetensors"
MOST_MANIFEST_BYTES = 64 * 2**20
MOST_COUNT = 2**53  # what JSON's readers keep exactly
FIELD_TYPES: dict[Any, tuple[type, ...]] = {
    int: (int,),
    bool: (bool,),
    Neighbours: (int, str),
    float: (int, float),
    str: (str,),
    dict[str, str]: (dict,),
}
PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")

Record = TypeVar("Record")


class StoreError(ValueError):
    """A store is missing, incomplete or damaged; the message names the file and says what to do."""


@dataclass(frozen=True)
class StoredFile:
    """One file of the store."""

    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Shard:
    """One shard: crystals in source order."""

    file: str
    bytes: int
    sha256: str
    crystals: int
    atoms: int


@dataclass(frozen=True)
class TargetColumn:
    """One target with its unit and statistics over all rows of the store that have it; `missing` others do not."""

    name: str
    unit: str
    mean: float
    std: float
    minimum: float
    maximum: float
    missing: int = 0


@dataclass(frozen=True)
class Manifest:
    """Contents of `manifest.json`.

    Attributes:
        build_key: hash of source and settings, known before building: two builds with one key are the same build.
        data_hash: hash of the contents (shards, element table, graph settings, targets): part of every trial's key.
        padded_atoms: atoms with fewer than K neighbours inside the cutoff.
        rejected: rows of the source that `rejected.csv` lists.
        geometry: images, places and lattices of each shard, from which vectors follow; none in stores of format 1. Not
            part of the data hash: what networks of distances see is the same without it.
        repeated: crystals whose graph is, bit for bit, that of an earlier row; not counted by older versions.
    """

    schema_version: int
    build_key: str
    data_hash: str
    graph: GraphSettings
    source: str
    source_hash: str
    provenance: str
    targets: tuple[TargetColumn, ...]
    shards: tuple[Shard, ...]
    elements: StoredFile
    crystals: int
    atoms: int
    padded_atoms: int
    rejected: int
    built_at: str
    versions: dict[str, str]
    repeated: int = 0
    geometry: tuple[StoredFile, ...] = ()

    def target(self, name: str) -> TargetColumn:
        """Return a target by name.

        Raises:
            StoreError: there is none of that name; the message lists the known ones.
        """
        for column in self.targets:
            if column.name == name:
                return column
        known = ", ".join(column.name for column in self.targets)
        raise StoreError(f"target {name!r} is not in this store; it has: {known}")

    def write(self, folder: Path) -> None:
        """Write the manifest into a folder that is not published yet."""
        (folder / MANIFEST_FILE).write_text(json.dumps(as_dict(self), indent=1) + "\n", encoding="utf-8")


def content_hash(
    graph: GraphSettings, targets: tuple[str, ...], shards: tuple[Shard, ...], elements: StoredFile
) -> str:
    """Return the data hash of a store."""
    contents = [shard.sha256 for shard in shards]
    return digest([CONTENT_VERSION, graph.identity, list(targets), contents, elements.sha256])


def content_hash_of(manifest: Manifest) -> str:
    """Return the data hash that belongs to the files a manifest lists."""
    names = tuple(column.name for column in manifest.targets)
    return content_hash(manifest.graph, names, manifest.shards, manifest.elements)


def read_manifest(folder: Path) -> Manifest:
    """Read a manifest.

    Raises:
        StoreError: no manifest, or one of another schema version.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():  # a pipe would keep the reader waiting
        if not folder.is_dir():
            what = "a file" if folder.exists() else "no such folder"
            raise StoreError(
                f"{folder} is not a graph store ({what}); make one with: srcgcnn data build SOURCE --out STORE"
            )
        hint = f"srcgcnn data build SOURCE --out {folder}"
        raise StoreError(f"{folder} is not a graph store (no {MANIFEST_FILE}); make one with: {hint}")
    if path.stat().st_size > MOST_MANIFEST_BYTES:
        raise _damaged(path, f"{path.stat().st_size} bytes, a manifest has at most {MOST_MANIFEST_BYTES}")
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not JSON, or not UTF-8
        raise _damaged(path, error) from None
    found = data.get("schema_version") if isinstance(data, dict) else None
    if found not in READABLE_VERSIONS or isinstance(found, bool):
        known = " and ".join(map(str, READABLE_VERSIONS))
        raise StoreError(f"{path}: schema_version={found}, this version reads {known}; build it again")
    try:
        manifest = _from_dict(data)
        _check_counts(manifest)
    except (KeyError, TypeError, ValueError) as error:  # a field is missing, unknown or cannot be
        raise _damaged(path, error) from None
    return manifest


def _damaged(path: Path, error: Exception | str) -> StoreError:
    return StoreError(f"{path} is damaged ({error}); delete {path.parent} and build it again")


def _from_dict(data: dict[str, Any]) -> Manifest:
    nested = {
        "graph": _plain_record(GraphSettings, data["graph"]),
        "targets": tuple(_plain_record(TargetColumn, column) for column in data["targets"]),
        "shards": tuple(_plain_record(Shard, shard) for shard in data["shards"]),
        "elements": _plain_record(StoredFile, data["elements"]),
        "geometry": tuple(_plain_record(StoredFile, stored) for stored in data.get("geometry", ())),
    }
    return _plain_record(Manifest, {**data, **nested})


def _plain_record(kind: type[Record], data: Any) -> Record:
    """Build a record of numbers and texts, each of the type that its field says; no pydantic where training runs."""
    if not isinstance(data, dict):
        raise TypeError(f"{kind.__name__} is {data!r:.60}")
    hints = get_type_hints(kind)
    for name, value in data.items():
        field_type = hints.get(name)
        if field_type in FIELD_TYPES and type(value) not in FIELD_TYPES[field_type]:
            raise TypeError(f"{name} is {value!r:.60}")
        if field_type is int and not 0 <= value <= MOST_COUNT:
            raise ValueError(f"{name} is {value!r:.60}")
        if field_type is float and not math.isfinite(value):
            raise ValueError(f"{name} is {value}")
    return kind(**data)


def _check_counts(manifest: Manifest) -> None:
    """Refuse inconsistent numbers, and names of files that are not in the folder itself."""
    files: list[Shard | StoredFile] = [*manifest.shards, *manifest.geometry, manifest.elements]
    for stored in files:
        if not PLAIN_NAME.fullmatch(stored.file):
            raise ValueError(f"{stored.file!r:.60} is not a plain file name")
    for name in ("crystals", "atoms"):
        whole, parts = getattr(manifest, name), [getattr(shard, name) for shard in manifest.shards]
        if whole != sum(parts) or not parts or min(parts) < 1:
            raise ValueError(f"{name} is {whole}, those of the shards are {parts!r:.60}")
    if not manifest.targets or len({column.name for column in manifest.targets}) < len(manifest.targets):
        raise ValueError(f"targets are {[column.name for column in manifest.targets]!r:.60}")
    if manifest.geometry and len(manifest.geometry) != len(manifest.shards):
        raise ValueError(f"geometry has {len(manifest.geometry)} files for {len(manifest.shards)} shards")
