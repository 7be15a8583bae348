"""What the arrays of a store may hold: a store may come from a stranger, and the compiled convolution trusts indices.

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
CUTOFF_SLACK = 1e-5  # relative: distances are rounded to float32


def shard_layout(manifest: Manifest, shard: Shard) -> dict[str, Layout]:
    """Return the arrays of a shard with their types and shapes."""
    edges = (shard.atoms, manifest.graph.neighbours)
    return {
        "atomic_numbers": Layout("U8", (shard.atoms,)),
        "neighbours": Layout("I16", edges),
        "distances": Layout("F32", edges),
        "offsets": Layout("I64", (shard.crystals + 1,)),
        "targets": Layout("F64", (shard.crystals, len(manifest.targets))),
        "ids": Layout("U8", (None,)),
        "formulas": Layout("U8", (None,)),
    }


def check_shard(path: Path, arrays: Mapping[str, np.ndarray], cutoff_angstrom: float) -> None:
    """Check the values of a shard whose arrays have the right types and shapes.

    Raises:
        StoreError: naming file, array and value.
    """
    atoms = _check_offsets(path, arrays["offsets"], len(arrays["atomic_numbers"]))
    _check_numbers(path, arrays["atomic_numbers"])
    _check_neighbours(path, arrays["neighbours"], arrays["offsets"], atoms)
    _check_distances(path, arrays["distances"], cutoff_angstrom)
    _check_targets(path, arrays["targets"])
    for name in ("ids", "formulas"):
        _check_lines(path, name, arrays[name], len(atoms))


def _check_offsets(path: Path, offsets: np.ndarray, atoms: int) -> np.ndarray:
    """Return the atoms of each crystal [G]."""
    if offsets[0] != 0 or offsets[-1] != atoms:
        raise StoreError(
            f"{path}: array 'offsets' runs from {offsets[0]} to {offsets[-1]}, must from 0 to {atoms} (atoms)"
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


def _check_neighbours(path: Path, neighbours: np.ndarray, offsets: np.ndarray, atoms: np.ndarray) -> None:
    # as unsigned numbers the negative ones are the largest: one look finds both
    flat = neighbours.reshape(-1).view(np.uint16)
    largest = np.maximum.reduceat(flat, offsets[:-1] * neighbours.shape[1])
    outside = np.flatnonzero(largest >= atoms)
    if len(outside):
        row = int(outside[0])
        found = largest[row : row + 1].view(np.int16)[0]
        raise StoreError(f"{path}: array 'neighbours' has {found} in crystal {row}, must lie in 0..{atoms[row] - 1}")


def _check_distances(path: Path, distances: np.ndarray, cutoff_angstrom: float) -> None:
    lowest, highest = distances.min(), distances.max()  # NaN, where there is one
    if not lowest >= 0:
        raise StoreError(f"{path}: array 'distances' has {lowest}, must be 0 or more")
    if highest == np.inf:
        highest = _longest_of_padded(path, distances)
    if highest > cutoff_angstrom * (1 + CUTOFF_SLACK):
        raise StoreError(
            f"{path}: array 'distances' has {highest}, must be at most the cutoff {cutoff_angstrom} or inf"
        )


def _longest_of_padded(path: Path, distances: np.ndarray) -> float:
    """Return the longest finite distance; the infinite ones, of missing neighbours, must come last."""
    missing = np.isinf(distances)
    first = np.flatnonzero((missing[:, :-1] & ~missing[:, 1:]).any(axis=1))
    if len(first):
        raise StoreError(f"{path}: array 'distances' has a neighbour after a missing one (inf) at atom {first[0]}")
    return float(np.max(distances, where=~missing, initial=0.0))


def _check_targets(path: Path, targets: np.ndarray) -> None:
    wrong = targets[~np.isfinite(targets)]
    if len(wrong):
        raise StoreError(f"{path}: array 'targets' has {wrong[0]}, must be finite")


def _check_lines(path: Path, name: str, lines: np.ndarray, crystals: int) -> None:
    try:
        found = bytes(lines).decode().count("\n") + 1
    except UnicodeDecodeError as error:
        raise StoreError(f"{path}: array {name!r} is not UTF-8 ({error.reason} at byte {error.start})") from None
    if found != crystals:
        raise StoreError(f"{path}: array {name!r} has {found} lines, must have {crystals} (crystals)")
