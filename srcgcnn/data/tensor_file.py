"""A safetensors file from anybody: nothing is mapped before its header, types and shapes are known to fit.

The header is read here because the library's Python reader copies numpy arrays instead of mapping them.
"""

from __future__ import annotations

import json
import math
import stat
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import numpy as np

from srcgcnn.data.manifest import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DTYPES = {
    "U8": np.uint8,
    "I8": np.int8,
    "I16": np.int16,
    "I32": np.int32,
    "I64": np.int64,
    "F32": np.float32,
    "F64": np.float64,
}
LENGTH_BYTES = 8  # of the number in front of the header
MOST_HEADER_BYTES = 1 << 20  # ours have under 1 kB
METADATA = "__metadata__"


class Layout(NamedTuple):
    """What an array must look like: safetensors' names of the types it may have, and the shape, None for any length."""

    dtype: str
    shape: tuple[int | None, ...]
    or_dtype: str = ""

    def __str__(self) -> str:
        """Return it in readable form."""
        kinds = f"{self.dtype} or {self.or_dtype}" if self.or_dtype else self.dtype
        return f"{kinds} [{', '.join('any' if length is None else str(length) for length in self.shape)}]"


def is_regular(path: Path) -> bool:
    """Whether this is a regular file, not a pipe or a device, which could block a reader for ever."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def map_tensors(path: Path, layouts: Mapping[str, Layout]) -> dict[str, np.ndarray]:
    """Memory-map the arrays of a safetensors file copy-on-write; arrays without a layout are left out.

    Raises:
        StoreError: the header is not valid, or an array is missing, of another type or shape, or not where it says.
    """
    size = path.stat().st_size if is_regular(path) else 0
    header, start = _header(path, size)
    spans = {name: _span(path, name, header.get(name), layout, size - start) for name, layout in layouts.items()}
    raw = np.memmap(path, mode="c", offset=start) if size > start else np.empty(0, np.uint8)
    found = {}
    for name, (first, last, shape, dtype) in spans.items():
        if (start + first) % dtype.itemsize:
            raise StoreError(
                f"{path}: array {name!r} starts at byte {start + first}, not at a multiple of its type's size"
            )
        found[name] = np.asarray(raw[first:last]).view(dtype).reshape(shape)
    return found


def _header(path: Path, size: int) -> tuple[dict[str, Any], int]:
    """Return the header and the first byte after it."""
    none = StoreError(f"{path} is not a safetensors file; run: srcgcnn data verify {path.parent}")
    if size < LENGTH_BYTES:
        raise none
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
        if length > min(size - LENGTH_BYTES, MOST_HEADER_BYTES):
            raise none
        try:
            header = json.loads(stream.read(length))
        except (ValueError, RecursionError):
            raise none from None
    if not isinstance(header, dict):
        raise none
    header.pop(METADATA, None)
    return header, LENGTH_BYTES + length


def _span(
    path: Path, name: str, entry: Any, layout: Layout, data_bytes: int
) -> tuple[int, int, tuple[int, ...], np.dtype]:
    """Return first byte, end, shape and type of an array that is what its layout says."""
    if entry is None:
        raise StoreError(f"{path}: array {name!r} is missing")
    if not isinstance(entry, dict):
        raise StoreError(f"{path}: array {name!r} is described by {entry!r:.60}, not by type, shape and place")
    dtype, shape, place = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if (
        not dtype
        or dtype not in (layout.dtype, layout.or_dtype)
        or not _lengths(shape)
        or not _fits(shape, layout.shape)
    ):
        raise StoreError(f"{path}: array {name!r} is {dtype!r:.20} {shape!r:.60}, must be {layout}")
    if not _lengths(place) or len(place) != 2 or not place[0] <= place[1] <= data_bytes:
        raise StoreError(
            f"{path}: array {name!r} lies at {place!r:.60}, outside of the file's {data_bytes} bytes of data"
        )
    kind = np.dtype(DTYPES[dtype])
    expected = math.prod(shape) * kind.itemsize
    if place[1] - place[0] != expected:
        raise StoreError(f"{path}: array {name!r} has {place[1] - place[0]} bytes, its shape {shape} needs {expected}")
    return place[0], place[1], tuple(shape), kind


def _lengths(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _fits(shape: list[int], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(
        size is None or length == size for length, size in zip(shape, expected, strict=True)
    )
