"""The line graph of a crystal graph: its nodes are edges, and two that follow each other are joined by their angle.

An edge goes from a centre to a neighbour, `vectors` likewise. Edge (i, j) is joined to every edge (j, k); the angle is
the one at j between i and k: pi for the way straight on, 0 for the way back (k the same image of i), as in ALIGNN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


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
