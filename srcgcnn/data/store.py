"""Reading a shard store: memory-mapped, in well under a second, pages shared by all processes of a node.

Needs numpy only; the safetensors header is read directly because its Python reader copies numpy arrays. Nothing here is
executable on load (no pickle), so a store from a colleague is safe to open.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path

import numpy as np

from srcgcnn.data.graph import CrystalGraph
from srcgcnn.data.manifest import (
    MANIFEST_FILE,
    Manifest,
    Shard,
    StoredFile,
    StoreError,
    content_hash_of,
    read_manifest,
)

_DTYPES = {"U8": np.uint8, "I16": np.int16, "I64": np.int64, "F32": np.float32, "F64": np.float64}


class GraphStore:
    """An opened store.

    Attributes:
        folder: where it lies.
        manifest: what is in it.
    """

    def __init__(self, folder: Path | str, *, check_hashes: bool = False) -> None:
        """Open a store; sizes are always checked, hashes on request.

        Raises:
            StoreError: not a store, or a file of it is missing, truncated or (with `check_hashes`) changed.
        """
        self.folder = Path(folder)
        self.manifest: Manifest = read_manifest(self.folder)
        faults = self.faults(check_hashes=check_hashes)
        if faults:
            raise StoreError("; ".join(faults) + f"; delete {self.folder} and build it again")

    def faults(self, *, check_hashes: bool) -> list[str]:
        """List what is wrong with the files, one line each; empty when all is well."""
        files: list[Shard | StoredFile] = [*self.manifest.shards, self.manifest.elements]
        found = []
        for stored in files:
            path = self.folder / stored.file
            if not path.exists():
                found.append(f"{path} is missing")
            elif path.stat().st_size != stored.bytes:
                found.append(f"{path} has {path.stat().st_size} bytes, the manifest says {stored.bytes}")
            elif check_hashes and sha256_of(path) != stored.sha256:
                found.append(f"{path} differs from the manifest's sha256: its contents were changed")
        if check_hashes and self.manifest.data_hash != content_hash_of(self.manifest):
            found.append(f"{self.folder / MANIFEST_FILE} was changed: its data hash does not belong to its files")
        return found

    def __len__(self) -> int:
        """Return the number of crystals."""
        return self.manifest.crystals

    @cached_property
    def shards(self) -> list[dict[str, np.ndarray]]:
        """Arrays of every shard, memory-mapped copy-on-write.

        `atomic_numbers` [N], `neighbours` [N, K], `distances` [N, K], `offsets` [G+1], `targets` [G, P], and the
        bytes of `ids` and `formulas`, one line each.
        """
        return [map_safetensors(self.folder / shard.file) for shard in self.manifest.shards]

    @cached_property
    def element_features(self) -> np.ndarray:
        """Element table, uint8 [101, 92]."""
        return map_safetensors(self.folder / self.manifest.elements.file)["element_features"]

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
        """Return one target of all rows, float64 [G], in the unit that the manifest gives."""
        self.manifest.target(name)
        column = [target.name for target in self.manifest.targets].index(name)
        return np.concatenate([shard["targets"][:, column] for shard in self.shards])

    def graph(self, row: int) -> CrystalGraph:
        """Return the graph of one crystal."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} is outside 0..{len(self) - 1}")
        for shard in self.shards:
            crystals = len(shard["offsets"]) - 1
            if row < crystals:
                atoms = slice(int(shard["offsets"][row]), int(shard["offsets"][row + 1]))
                return CrystalGraph(
                    shard["atomic_numbers"][atoms], shard["neighbours"][atoms], shard["distances"][atoms]
                )
            row -= crystals
        raise AssertionError("the shards hold fewer crystals than the manifest says")


def map_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Memory-map all arrays of a safetensors file (8-byte header length, JSON header, data).

    Raises:
        StoreError: the header is not one.
    """
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        try:
            header = json.loads(stream.read(length))
        except (ValueError, OverflowError, MemoryError):
            raise StoreError(f"{path} is not a safetensors file; run: srcgcnn data verify {path.parent}") from None
    header.pop("__metadata__", None)
    raw = np.memmap(path, mode="c", offset=8 + length) if path.stat().st_size > 8 + length else np.empty(0, np.uint8)
    return {
        name: np.asarray(raw[slice(*entry["data_offsets"])]).view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in header.items()
    }


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
