"""Sums over edges that the algebra of `fused.py` works with, for one member.

Those of the Gaussians depend on the batch only: they are made once per forward and serve every step and layer. No
gradient flows through them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


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
    def centred(
        cls, centre: Tensor, neighbour: Tensor, gram: Tensor, out_degree: Tensor, in_degree: Tensor, count: float
    ) -> GaussianSums:
        """Subtract the mean from plain sums."""
        mean = centre.sum(dim=0) / count
        gram = gram - count * torch.outer(mean, mean)
        return cls(centre - out_degree * mean, neighbour - in_degree * mean, gram, mean)


@dataclass(frozen=True)
class EdgeProjection:
    """Sums over edges of u, the edge part of one Linear, for one member.

    Attributes:
        centre: sum over the edges of an atom of u less its mean, [N, 2F].
        neighbour: the same over the edges that look at it.
        mean: [2F].
        square: sum over edges of (u - mean)^2, [2F].
    """

    centre: Tensor
    neighbour: Tensor
    mean: Tensor
    square: Tensor

    @classmethod
    def of_weight(cls, sums: GaussianSums, weight: Tensor) -> EdgeProjection:
        """Project the Gaussians' sums with a Linear's weight [2F+G, 2F]."""
        weight = edge_rows(weight, sums)
        square = (weight * (sums.gram @ weight)).sum(dim=0)
        return cls(sums.centre @ weight, sums.neighbour @ weight, sums.mean @ weight, square)


def edge_rows(weight: Tensor, sums: GaussianSums) -> Tensor:
    """Take the rows for the Gaussians out of a Linear's weight [2F+G, 2F]."""
    return weight[-len(sums.mean) :]


@dataclass(frozen=True)
class GateGradient:
    """The derivative of the sum of gated messages m at fixed scale and shift; g is the gradient of z.

    Attributes:
        centre: of c, [N, 2F].
        neighbour: of n, [N, 2F].
        weight: of the Gaussians' rows, [G, 2F].
        total: sum of g over all edges, [2F].
        product: sum of g (c + n) over all edges, [2F].
    """

    centre: Tensor
    neighbour: Tensor
    weight: Tensor
    total: Tensor
    product: Tensor
