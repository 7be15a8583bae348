"""What a convolution needs to know of the edges of one member: who sees whom, and sums of Gaussians per atom.

Everything here depends on the batch only, so it is made once per forward and serves every step and layer. No gradient
flows through it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

    from srcgcnn.models.batch import GraphBatch


@dataclass(frozen=True)
class EdgeIndex:
    """The directed edges of one member, in both directions.

    Attributes:
        neighbours: int64 [N, K].
        mask: [N, K], 1 for real edges and 0 for others; None when all are real.
        out_degree: [N, 1], real edges that an atom looks along (K, unless masked).
        in_degree: [N, 1], real edges that look at an atom.
        order: int64 [real edges], edge numbers sorted by the atom they look at.
        offsets: int64 [N], where each atom's run starts in `order`.
    """

    neighbours: Tensor
    mask: Tensor | None
    out_degree: Tensor
    in_degree: Tensor
    order: Tensor
    offsets: Tensor

    @classmethod
    def of_member(cls, batch: GraphBatch, member: int, dtype: torch.dtype) -> EdgeIndex:
        """Sort the edges of one member by their neighbour."""
        neighbours = batch.neighbours[member]
        atoms, degree = neighbours.shape
        mask = None if batch.edge_mask is None else batch.edge_mask[member]
        target = neighbours.flatten()
        if mask is None:
            out_degree = torch.full((atoms, 1), float(degree), dtype=dtype, device=target.device)
        else:
            target = torch.where(mask.flatten(), target, atoms)  # masked edges sort to the end, and are cut off there
            out_degree = mask.sum(dim=1, keepdim=True).to(dtype)
        order = target.argsort(stable=True)
        counts = torch.bincount(target, minlength=atoms)[:atoms]
        ends = counts.cumsum(0)
        if mask is not None:
            order = order[: int(ends[-1])]
        return cls(
            neighbours,
            None if mask is None else mask.to(dtype),
            out_degree,
            counts.to(dtype)[:, None],
            order,
            ends - counts,
        )

    @property
    def edges(self) -> int:
        """Number of real edges."""
        return len(self.order)

    def over_neighbours(self, atoms: Tensor) -> Tensor:
        """Sum over the neighbours that an atom sees: [N, C] to [N, C]. One fused gather and sum."""
        return F.embedding_bag(self.neighbours, atoms, mode="sum", per_sample_weights=self.mask)

    def over_seen_by(self, atoms: Tensor) -> Tensor:
        """Sum over the atoms that see an atom, the transpose of `over_neighbours`: [N, C] to [N, C]."""
        centres = self.order.div(self.neighbours.shape[1], rounding_mode="floor")
        return F.embedding_bag(centres, atoms, self.offsets, mode="sum")

    def edges_seen_by(self, edges: Tensor) -> Tensor:
        """Sum the edges that look at an atom: [N*K, C] to [N, C].

        A segment sum over the sorted list takes 2.4 ms for 80,000 edges of 128 channels; `index_add` takes 25.
        """
        return F.embedding_bag(self.order, edges, self.offsets, mode="sum")


@dataclass(frozen=True)
class GaussianSums:
    """First and second moments of the Gaussians over the real edges, as BatchNorm on the edges needs them.

    Attributes:
        centre: [N, G], sum over the edges of an atom, less the mean of all edges times their number.
        neighbour: [N, G], the same over the edges that look at it.
        gram: [G, G], sum over edges of the outer product, less that of the mean.
        mean: [G].
    """

    centre: Tensor
    neighbour: Tensor
    gram: Tensor
    mean: Tensor

    @classmethod
    def of_edges(cls, gaussians: Tensor, index: EdgeIndex) -> GaussianSums:
        """Sum Gaussians [N*K, G], which are zero for masked edges."""
        centre = gaussians.view(*index.neighbours.shape, -1).sum(dim=1)
        neighbour = index.edges_seen_by(gaussians)
        mean = centre.sum(dim=0) / index.edges
        gram = gaussians.T @ gaussians - index.edges * torch.outer(mean, mean)
        return cls(centre - index.out_degree * mean, neighbour - index.in_degree * mean, gram, mean)
