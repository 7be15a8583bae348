"""A batch of crystals as tensors, with the model axis in front: M models, N atoms, K neighbours, B crystals."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@dataclass(frozen=True)
class GraphBatch:
    """One batch for each of M models (each model may see its own crystals).

    Attributes:
        atomic_numbers: int64 [M, N].
        neighbours: int64 [M, N, K], atom index within the model's own N atoms.
        distances: float32 [M, N, K] in angstrom; infinite where the edge is masked.
        edge_mask: bool [M, N, K], True for real edges; None when all are real.
        crystal: int64 [M, N], crystal of each atom in 0..B-1, or B for padding atoms.
        atom_mask: bool [M, N], True for real atoms; None when all are real.
        atom_counts: float32 [M, B], atoms of each crystal.
    """

    atomic_numbers: Tensor
    neighbours: Tensor
    distances: Tensor
    edge_mask: Tensor | None
    crystal: Tensor
    atom_mask: Tensor | None
    atom_counts: Tensor

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """All attributes, in order."""
        return tuple(getattr(self, field.name) for field in fields(self))

    @classmethod
    def of(cls, tensors: Sequence[Tensor | None]) -> GraphBatch:
        """Build from `tensors`."""
        return cls(*tensors)  # type: ignore[arg-type]
