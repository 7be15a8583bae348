"""The 92 element features of CGCNN (`atom_init.json`), from a library that ships them.

jarvis-tools carries the file unchanged for Z = 1..100 (the tests check a hash of all values). A store keeps its own
copy of the table, so that training needs no jarvis-tools.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

import numpy as np

ELEMENT_FEATURES = 92
LARGEST_ATOMIC_NUMBER = 100


@cache
def element_table() -> np.ndarray:
    """Return the features, uint8 [101, 92]: row Z holds element Z, row 0 is all zero."""
    text = (files("jarvis") / "core" / "atom_init.json").read_text(encoding="utf-8")
    table = np.zeros((LARGEST_ATOMIC_NUMBER + 1, ELEMENT_FEATURES), dtype=np.uint8)
    for atomic_number, features in json.loads(text).items():
        table[int(atomic_number)] = features
    table.setflags(write=False)
    return table
