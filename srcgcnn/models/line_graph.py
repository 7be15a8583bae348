"""The line graph of a crystal graph: its nodes are edges, and two that follow each other are joined by their angle.

An edge goes from a centre to a neighbour, `vectors` likewise. Edge (i, j) is joined to every edge (j, k); the angle is
the one at j between i and k: pi for the way straight on, 0 for the way back (k the same image of i), as in ALIGNN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LineGraph:
    """The line graph of one model's crystals: its nodes are their E edges, its edges P pairs of edges.

    Messages flow from edge (j, k) to edge (i, j), as on the crystal graph from atom j to atom i that lists it.

    Attributes:
        nodes: E.
        centres: int64 [P], the edge (i, j) that a pair's message is for; ascending.
        sources: int64 [P], the edge (j, k) that it comes from.
        degree: pairs of every edge; None if that differs.
    """

    nodes: int
    centres: Tensor
    sources: Tensor
    degree: int | None

    @classmethod
    def of(cls, ends: Tensor, atoms: int, *, full: bool) -> LineGraph:
        """Join the edges of a crystal graph.

        Args:
            ends: int64 [2, E]: row 0 the neighbours, row 1 the centres, ascending (`FlatGraph.edge_index`).
            atoms: N.
            full: whether all atoms have the same number of edges.
        """
        neighbours, edges = ends[0], ends.shape[1]
        if not full or not atoms:
            centres, sources = line_graph(ends[1], neighbours, atoms)
            return cls(edges, centres, sources, None)
        degree = edges // atoms  # the edges of an atom stand side by side
        slots = torch.arange(degree, device=ends.device)
        centres = torch.arange(edges, device=ends.device).repeat_interleave(degree)
        return cls(edges, centres, (neighbours[:, None] * degree + slots).flatten(), degree)

    @property
    def pairs(self) -> Tensor:
        """Both ends, int64 [2, P]: row 0 the edge (i, j), row 1 the edge (j, k)."""
        return torch.stack([self.centres, self.sources])

    def plus_centres(self, pairs: Tensor, nodes: Tensor) -> Tensor:
        """Add to every pair [P, C] what its first edge has in [E, C]."""
        if self.degree is None:
            return pairs + nodes.index_select(0, self.centres)
        return (pairs.unflatten(0, (-1, self.degree)) + nodes[:, None]).flatten(0, 1)

    def of_sources(self, nodes: Tensor) -> Tensor:
        """Give every pair what its second edge has: [E, C] to [P, C]."""
        return nodes.index_select(0, self.sources)

    def sum_over_edges(self, messages: Tensor) -> Tensor:
        """Sum the messages [P, C] for every edge: [E, C]."""
        if self.degree is not None:
            return messages.view(self.nodes, self.degree, *messages.shape[1:]).sum(dim=1)
        return messages.new_zeros(self.nodes, *messages.shape[1:]).index_add(0, self.centres, messages)


def line_graph(centre: Tensor, neighbour: Tensor, atoms: int) -> Tensor:
    """Return the pairs of edges that follow each other: int64 [2, P], first (i, j), second (j, k), sorted by the first.

    Args:
        centre: int64 [E], atom where an edge starts.
        neighbour: int64 [E], atom where it ends.
        atoms: how many there are.
    """
    order = torch.argsort(centre, stable=True)
    degrees = torch.bincount(centre, minlength=atoms)
    starts = torch.cumsum(degrees, 0) - degrees
    followers = degrees[neighbour]
    first = torch.arange(len(centre), device=centre.device).repeat_interleave(followers)
    before = torch.cumsum(followers, 0) - followers
    which = torch.arange(len(first), device=centre.device) - before[first]
    return torch.stack([first, order[starts[neighbour[first]] + which]])


def bond_cosines(vectors: Tensor, pairs: Tensor) -> Tensor:
    """Return the cosine of the angle of every pair of edges [P], in -1..1, from vectors [E, 3] of real edges."""
    directions = torch.nn.functional.normalize(vectors, dim=-1)
    return -(directions[pairs[0]] * directions[pairs[1]]).sum(dim=-1).clamp(-1.0, 1.0)
