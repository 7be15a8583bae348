"""What a source of crystals and its rows may cost: a hostile row is listed with its reason and costs no more."""

from __future__ import annotations

from dataclasses import fields

from srcgcnn.records import record

MOST_ATOMS = 2**15 - 1  # neighbour indices are int16


@record
class SourceLimits:
    """Limits of one row, and of all. The defaults are far above any published dataset.

    Attributes:
        atoms: in a cell.
        symmetry_operations: listed in a CIF; a space group has at most 192.
        cell_angstrom: longest cell vector.
        text_mib: size of a CIF or of a JSON object in 2^20 characters.
        seconds: processor time to read the crystal and to build its graph.
        memory_gib: address space that a worker process may take besides what it starts with, in 2^30 bytes.
        unpacked_gib: size of a compressed file when it is unpacked, in 2^30 bytes.
    """

    atoms: int = MOST_ATOMS
    symmetry_operations: int = 1000
    cell_angstrom: float = 1000.0
    text_mib: float = 16.0
    seconds: float = 60.0
    memory_gib: float = 4.0
    unpacked_gib: float = 32.0

    def __post_init__(self) -> None:
        """Refuse limits that no row can keep."""
        for limit in fields(self):
            if not getattr(self, limit.name) > 0:
                raise ValueError(f"limit {limit.name}={getattr(self, limit.name)} must be positive")
        if self.atoms > MOST_ATOMS:
            raise ValueError(f"limit atoms={self.atoms} is above the {MOST_ATOMS} that a store can hold")

    @property
    def text_characters(self) -> int:
        """`text_mib` as a number of characters."""
        return int(self.text_mib * 2**20)

    @property
    def unpacked_bytes(self) -> int:
        """`unpacked_gib` in bytes."""
        return int(self.unpacked_gib * 2**30)
