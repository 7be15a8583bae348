"""Periodic images of neighbours in one number each: three small integers in 15 or 30 bits.

Cells of crystals are wider than half an angstrom, so within 8 angstrom five bits per component (-16..15) are enough;
ten bits (-512..511) hold the rest. Two bytes per edge instead of three save an eighth of a store.
"""

from __future__ import annotations

from typing import Any

import numpy as np

BITS = {2: 5, 4: 10}  # of a component, by the bytes of the packed number
TYPES = {5: np.int16, 10: np.int32}
MOST_CELLS_AWAY = 2**9 - 1


def packed(images: np.ndarray, *, wide: bool = False) -> np.ndarray:
    """Pack images [..., 3] into int16 [...], or int32 if one is far, or all shall be wide.

    Raises:
        ValueError: an image is more than 511 cells away.
    """
    reach = int(np.abs(images.astype(np.int64)).max(initial=0))
    bits = next((bits for bits in TYPES if reach < 2 ** (bits - 1) and not (wide and bits == min(TYPES))), None)
    if bits is None:
        raise ValueError(f"a neighbour is {reach} cells away; {MOST_CELLS_AWAY} are possible")
    shifted = images.astype(np.int64) + 2 ** (bits - 1)
    whole = shifted[..., 0] | shifted[..., 1] << bits | shifted[..., 2] << 2 * bits
    return whole.astype(TYPES[bits])


def components(whole: Any, itemsize: int) -> tuple[Any, Any, Any]:
    """Return x, y and z of packed images; of numpy arrays or torch tensors of integers, which have `itemsize` bytes."""
    bits = BITS[itemsize]
    mask, middle = 2**bits - 1, 2 ** (bits - 1)
    return (whole & mask) - middle, (whole >> bits & mask) - middle, (whole >> 2 * bits & mask) - middle


def unpacked(whole: np.ndarray) -> np.ndarray:
    """Return packed images [...] as int16 [..., 3]."""
    return np.stack(components(whole.astype(np.int32), whole.dtype.itemsize), axis=-1).astype(np.int16)
