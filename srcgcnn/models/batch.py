"""A batch of crystals as tensors, with the model axis in front: M models, N atoms, K neighbours, B crystals.

`FlatGraph` is what one of the models sees, as the field writes graphs: real edges only, in one list.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from srcgcnn.models.line_graph import LineGraph

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
        vectors: float32 [M, N, K, 3] in angstrom, from the atom to its neighbour; None unless a network needs them.
    """

    atomic_numbers: Tensor
    neighbours: Tensor
    distances: Tensor
    edge_mask: Tensor | None
    crystal: Tensor
    atom_mask: Tensor | None
    atom_counts: Tensor
    vectors: Tensor | None = None

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """All attributes, in order."""
        return tuple(getattr(self, field.name) for field in fields(self))

    @classmethod
    def of(cls, tensors: Sequence[Tensor | None]) -> GraphBatch:
        """Build from `tensors`."""
        return cls(*tensors)  # type: ignore[arg-type]

    def real_atoms(self, member: int) -> int:
        """Return how many atoms of a model are not padding, which comes last."""
        return self.atomic_numbers.shape[1] if self.atom_mask is None else int(self.atom_mask[member].sum())

    def flat(self, member: int) -> FlatGraph:
        """Return what one model sees, without padding."""
        numbers, neighbours = self.atomic_numbers[member], self.neighbours[member]
        atoms = self.real_atoms(member)
        neighbours = neighbours[:atoms]
        places = None if self.edge_mask is None else self.edge_mask[member, :atoms].flatten().nonzero()[:, 0]
        centre = torch.arange(atoms, device=neighbours.device).repeat_interleave(neighbours.shape[1])
        vectors = None if self.vectors is None else self.vectors[member, :atoms].flatten(0, 1)
        edges = [neighbours.flatten(), centre, self.distances[member, :atoms].flatten()]
        if places is not None:
            edges = [values[places] for values in edges]
            vectors = None if vectors is None else vectors[places]
        return FlatGraph(
            numbers[:atoms],
            torch.stack(edges[:2]),
            edges[2],
            vectors,
            self.crystal[member, :atoms],
            self.atom_counts[member],
            places,
            neighbours.shape[1],
        )


@dataclass(frozen=True)
class FlatGraph:
    """The crystals of one model: N atoms and E real edges.

    Attributes:
        atomic_numbers: int64 [N].
        edge_index: int64 [2, E], as PyTorch Geometric has it: messages flow from row 0, the neighbour, to row 1, the
            atom that lists it. Sorted by row 1.
        distances: float32 [E] in angstrom.
        vectors: float32 [E, 3] in angstrom, from the atom to its neighbour, or None.
        crystal: int64 [N], crystal of each atom in 0..B-1.
        atom_counts: float32 [B], atoms of each crystal.
        places: int64 [E], the slot of an edge among [N * K]; None if every slot is a real edge.
        degree: K.
    """

    atomic_numbers: Tensor
    edge_index: Tensor
    distances: Tensor
    vectors: Tensor | None
    crystal: Tensor
    atom_counts: Tensor
    places: Tensor | None
    degree: int

    @cached_property
    def line(self) -> LineGraph:
        """The line graph, which joins edges that follow each other."""
        return LineGraph.of(self.edge_index, len(self.atomic_numbers), full=self.places is None)

    @cached_property
    def distinct(self) -> tuple[Tensor, Tensor | None]:
        """The distances that differ [U], and which of them each edge has [E]; on a GPU, which would wait, all and None.

        In crystals they are few: of the Materials Project's a sixth of the edges.
        """
        if self.distances.is_cuda or self.distances.requires_grad:
            return self.distances, None
        return torch.unique(self.distances, return_inverse=True)

    @property
    def sources(self) -> Tensor:
        """The neighbour at the far end of each edge, [E]."""
        return self.edge_index[0]

    @property
    def centres(self) -> Tensor:
        """The atom that an edge's message is for, [E]."""
        return self.edge_index[1]

    def plus_centres(self, edges: Tensor, atoms: Tensor) -> Tensor:
        """Add to every edge [E, C] what its centre has in [N, C]: in full slots without an index, also backwards."""
        if self.places is not None:
            return edges + atoms.index_select(0, self.centres)
        return (edges.unflatten(0, (-1, self.degree)) + atoms[:, None]).flatten(0, 1)

    def of_sources(self, atoms: Tensor) -> Tensor:
        """Give every edge what its neighbour has: [N, C] to [E, C]."""
        return atoms.index_select(0, self.sources)

    def sum_over_edges(self, messages: Tensor) -> Tensor:
        """Sum the messages [E, C] for every atom: [N, C]."""
        atoms, edges = len(self.atomic_numbers), len(messages)
        if self.places is None and atoms:
            return messages.view(atoms, edges // atoms, *messages.shape[1:]).sum(dim=1)
        return messages.new_zeros(atoms, *messages.shape[1:]).index_add(0, self.centres, messages)

    def mean_over_edges(self, messages: Tensor) -> Tensor:
        """Average the messages [E, C] for every atom, 0 where there is none: [N, C]."""
        ones = messages.new_ones(len(messages), 1)
        return self.sum_over_edges(messages) / self.sum_over_edges(ones).clamp(min=1)

    def mean_over_atoms(self, atoms: Tensor) -> Tensor:
        """Average the atoms [N, C] of every crystal: [B, C]."""
        sums = atoms.new_zeros(len(self.atom_counts), *atoms.shape[1:]).index_add(0, self.crystal, atoms)
        return sums / self.atom_counts[:, None]

    def softmax_over_edges(self, scores: Tensor) -> Tensor:
        """Turn scores [E, H] into weights that add up to 1 over the edges of every atom: [E, H]."""
        slots = self._in_slots(scores, -torch.inf)
        return self._of_slots(torch.softmax(slots, dim=1))

    def mean_of_products(self, left: Tensor, right: Tensor) -> Tensor:
        """Average the products of [E, C] and [E, F] over the edges of every atom: [N, C, F].

        No tensor [E, C, F] is made.
        """
        sums = self._in_slots(left, 0.0).transpose(1, 2) @ self._in_slots(right, 0.0)
        ones = left.new_ones(len(left), 1)
        return sums / self.sum_over_edges(ones).clamp(min=1)[..., None]

    def _in_slots(self, rows: Tensor, empty: float) -> Tensor:
        """Lay rows [E, C] into the K slots of every atom: [N, K, C]."""
        atoms = len(self.atomic_numbers)
        if self.places is not None:
            slots = rows.new_full((atoms * self.degree, rows.shape[1]), empty)
            rows = slots.index_copy(0, self.places, rows)
        return rows.view(atoms, self.degree, rows.shape[1])

    def _of_slots(self, slots: Tensor) -> Tensor:
        rows = slots.flatten(0, 1)
        return rows if self.places is None else rows.index_select(0, self.places)
