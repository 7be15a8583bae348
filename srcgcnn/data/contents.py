"""What the arrays of a store may hold: stores may come from strangers, and the compiled convolution checks no index.

Minima and maxima are enough; a million atoms take some 50 ms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from srcgcnn.data.elements import ELEMENT_FEATURES, LARGEST_ATOMIC_NUMBER
from srcgcnn.data.manifest import StoreError
from srcgcnn.data.tensor_file import Layout

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from srcgcnn.data.manifest import Manifest, Shard

ELEMENT_LAYOUT = {"element_features": Layout("U8", (LARGEST_ATOMIC_NUMBER + 1, ELEMENT_FEATURES))}
MOST_CELL_ANGSTROM = 1e6
CUTOFF_SLACK = 1e-5  # relative: distances are rounded to float32


def shard_layout(manifest: Manifest, shard: Shard) -> dict[str, Layout]:
    """Return the arrays of a shard with their types and shapes."""
    edges = _edges(manifest, shard)
    degrees = {} if manifest.graph.fixed_degree else {"degrees": Layout("I16", (shard.atoms,))}
    return {
        **degrees,
        "atomic_numbers": Layout("U8", (shard.atoms,)),
        "neighbours": Layout("I16", edges),
        "distances": Layout("F32", edges),
        "offsets": Layout("I64", (shard.crystals + 1,)),
        "targets": Layout("F64", (shard.crystals, len(manifest.targets))),
        "ids": Layout("U8", (None,)),
        "formulas": Layout("U8", (None,)),
    }


def geometry_layout(manifest: Manifest, shard: Shard) -> dict[str, Layout]:
    """Return the arrays of a shard's geometry with their types and shapes."""
    return {
        "images": Layout("I16", _edges(manifest, shard), "I32"),
        "places": Layout("F32", (shard.atoms, 3)),
        "lattices": Layout("F32", (shard.crystals, 3, 3)),
    }


def _edges(manifest: Manifest, shard: Shard) -> tuple[int | None, ...]:
    """Return the shape of what is stored of every edge: slots of every atom, or one list if degrees differ."""
    return (None,) if manifest.graph.degree is None else (shard.atoms, manifest.graph.degree)


def check_shard(path: Path, arrays: Mapping[str, np.ndarray], farthest_angstrom: float) -> None:
    """Check the values of a shard whose arrays have the right types and shapes.

    Raises:
        StoreError: naming file, array and value.
    """
    atoms = _check_offsets(path, arrays["offsets"], len(arrays["atomic_numbers"]))
    _check_numbers(path, arrays["atomic_numbers"])
    _check_degrees(path, arrays)
    _check_neighbours(path, arrays["neighbours"], edges_before(arrays)[arrays["offsets"]], atoms)
    _check_distances(path, arrays["distances"], farthest_angstrom)
    _check_targets(path, arrays["targets"])
    for name in ("ids", "formulas"):
        _check_lines(path, name, arrays[name], len(atoms))


def check_geometry(path: Path, geometry: Mapping[str, np.ndarray], edges: tuple[int, ...]) -> None:
    """Check the values of a shard's geometry.

    Args:
        path: of the file.
        geometry: its arrays.
        edges: shape of the shard's distances.

    Raises:
        StoreError: naming file, array and value.
    """
    if geometry["images"].shape != edges:
        raise StoreError(f"{path}: array 'images' has shape {geometry['images'].shape}, the distances have {edges}")
    for name, lowest, highest in (("places", 0.0, 1.0), ("lattices", -MOST_CELL_ANGSTROM, MOST_CELL_ANGSTROM)):
        values = geometry[name]
        for found in (values.min(), values.max()):
            if not lowest <= found <= highest:
                raise StoreError(f"{path}: array {name!r} has {found}, must lie in {lowest:g}..{highest:g}")


def edges_before(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return how many slots of edges come before each atom of a shard, and their sum: int64 [N+1]."""
    atoms = len(arrays["atomic_numbers"])
    if "degrees" not in arrays:
        return np.arange(atoms + 1, dtype=np.int64) * arrays["neighbours"].shape[1]
    return np.concatenate([[0], np.cumsum(arrays["degrees"], dtype=np.int64)])


def _check_degrees(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    if "degrees" not in arrays:
        return
    degrees, edges = arrays["degrees"], len(arrays["neighbours"])
    if degrees.min() < 0:
        raise StoreError(f"{path}: array 'degrees' has {degrees.min()}, must be 0 or more")
    if edges != len(arrays["distances"]) or edges != int(degrees.sum(dtype=np.int64)):
        raise StoreError(
            f"{path}: array 'degrees' adds up to {int(degrees.sum(dtype=np.int64))}, there are {edges} neighbours and "
            f"{len(arrays['distances'])} distances"
        )


def _check_offsets(path: Path, offsets: np.ndarray, atoms: int) -> np.ndarray:
    """Return the atoms of each crystal [G]."""
    if offsets[0] != 0 or offsets[-1] != atoms:
        raise StoreError(
            f"{path}: array 'offsets' runs from {offsets[0]} to {offsets[-1]}, must run from 0 to {atoms} (atoms)"
        )
    if ((offsets < 0) | (offsets > atoms)).any():  # before differences, which could overflow
        worst = offsets[(offsets < 0) | (offsets > atoms)][0]
        raise StoreError(f"{path}: array 'offsets' has {worst}, must lie in 0..{atoms}")
    counts = np.diff(offsets)
    if counts.min() < 1:
        row = int(counts.argmin())
        raise StoreError(f"{path}: array 'offsets' goes from {offsets[row]} to {offsets[row + 1]}, must increase")
    return counts


def _check_numbers(path: Path, numbers: np.ndarray) -> None:
    lowest, highest = numbers.min(), numbers.max()
    if lowest < 1 or highest > LARGEST_ATOMIC_NUMBER:
        wrong = lowest if lowest < 1 else highest
        raise StoreError(f"{path}: array 'atomic_numbers' has {wrong}, must lie in 1..{LARGEST_ATOMIC_NUMBER}")


def _check_neighbours(path: Path, neighbours: np.ndarray, edges: np.ndarray, atoms: np.ndarray) -> None:
    """Check indices; `edges` are the first edges of the crystals and the number of all, [G+1]."""
    filled = np.flatnonzero(edges[1:] > edges[:-1])  # an isolated atom has no edge if degrees differ
    if not len(filled):
        return
    # as unsigned numbers the negative ones are the largest: one check finds both
    largest = np.maximum.reduceat(neighbours.reshape(-1).view(np.uint16), edges[filled])
    outside = np.flatnonzero(largest >= atoms[filled])
    if len(outside):
        first = int(outside[0])
        row, found = filled[first], largest[first : first + 1].view(np.int16)[0]
        raise StoreError(f"{path}: array 'neighbours' has {found} in crystal {row}, must lie in 0..{atoms[row] - 1}")


def _check_distances(path: Path, distances: np.ndarray, farthest_angstrom: float) -> None:
    if not distances.size:
        return
    lowest, highest = distances.min(), distances.max()  # NaN, if there is one
    if not lowest >= 0:
        raise StoreError(f"{path}: array 'distances' has {lowest}, must be 0 or more")
    if highest == np.inf:
        highest = _longest_of_padded(path, distances)
    if highest > farthest_angstrom * (1 + CUTOFF_SLACK):
        raise StoreError(
            f"{path}: array 'distances' has {highest}, must be at most the cutoff {farthest_angstrom:g} or inf"
        )


def _longest_of_padded(path: Path, distances: np.ndarray) -> float:
    """Return the longest finite distance; the infinite ones, of missing neighbours, must come last."""
    missing = np.isinf(distances)
    if distances.ndim == 1:
        raise StoreError(f"{path}: array 'distances' has inf, but no neighbour can be missing if degrees differ")
    first = np.flatnonzero((missing[:, :-1] & ~missing[:, 1:]).any(axis=1))
    if len(first):
        raise StoreError(f"{path}: array 'distances' has a neighbour after a missing one (inf) at atom {first[0]}")
    return float(np.max(distances, where=~missing, initial=0.0))


def _check_targets(path: Path, targets: np.ndarray) -> None:
    """Check values: finite, but for the gaps (NaN) of several targets, of which every crystal has one at least."""
    gaps = np.isnan(targets) if targets.shape[1] > 1 else np.zeros(targets.shape, dtype=bool)
    wrong = targets[~np.isfinite(targets) & ~gaps]
    if len(wrong):
        raise StoreError(f"{path}: array 'targets' has {wrong[0]}, must be finite")
    empty = np.flatnonzero(gaps.all(axis=1))
    if len(empty):
        raise StoreError(f"{path}: array 'targets' has no value at all for crystal {empty[0]}")


def _check_lines(path: Path, name: str, lines: np.ndarray, crystals: int) -> None:
    try:
        found = bytes(lines).decode().count("\n") + 1
    except UnicodeDecodeError as error:
        raise StoreError(f"{path}: array {name!r} is not UTF-8 ({error.reason} at byte {error.start})") from None
    if found != crystals:
        raise StoreError(f"{path}: array {name!r} has {found} lines, must have {crystals} (crystals)")
