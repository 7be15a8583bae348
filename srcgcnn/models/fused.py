"""The convolution as one operator with its own backward: exact, fast on the CPU, and sparing with memory.

Three ideas; `docs/performance.md` has what each gives.

1. BatchNorm on the edges needs mean and variance of z_ij = c_i + n_j + u_ij, a sum of three parts. Both follow from
   sums per atom (who sees whom, Gaussians per atom, the Gaussians' Gram matrix): no pass over the edges.
2. The same algebra gives BatchNorm's part of the backward, so one pass over the edges computes all gradients.
3. That pass recomputes the gate. Nothing of size [edges, 2F] is kept per step: only u, once per forward.

With z centred (mean zero over the edges), s = gamma / sqrt(var + eps), y = s z + beta, g the gradient of z at fixed s:

    Q_i = sum_j z_ij        R_j = sum_i z_ij        (over real edges)
    E var = sum_i c_i Q_i + sum_j n_j R_j + sum_ij u_ij z_ij
    dL/dz = g - mean(g) - z / (var + eps) * mean(g z)

The plain equations stay in `cgcnn.py` and `reference.py`; tests/test_fused.py compares all three.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import Function

from srcgcnn.models.edges import EdgeIndex, GaussianSums
from srcgcnn.models.gates import gate_gradient, gate_sum
from srcgcnn.models.stacked import EPSILON

if TYPE_CHECKING:
    from torch import Tensor

    from srcgcnn.models.batch import GraphBatch
    from srcgcnn.models.cgcnn import EdgeLinear
    from srcgcnn.models.stacked import StackedBatchNorm

SMALLEST_SCALE = 1e-20  # stands for a gamma of exactly zero, by which its own gradient is divided


@dataclass(frozen=True)
class MemberEdges:
    """The edges of one member."""

    index: EdgeIndex
    gaussians: Tensor  # [N*K, G], zero for masked edges
    sums: GaussianSums

    @classmethod
    def of_batch(cls, batch: GraphBatch, gaussians: Tensor) -> list[MemberEdges]:
        """Take a batch apart into its members; `gaussians` is [M, N*K, G]."""
        indices = [EdgeIndex.of_member(batch, member, gaussians.dtype) for member in range(len(gaussians))]
        pairs = zip(indices, gaussians, strict=True)
        return [cls(index, values, GaussianSums.of_edges(values, index)) for index, values in pairs]


@dataclass(frozen=True)
class EdgeProjection:
    """The edge part of one Linear for one member.

    Attributes:
        edge: u [N*K, 2F], with its gradient.
        centre: sum over the edges of an atom of u less its mean, [N, 2F].
        neighbour: the same over the edges that look at it.
        mean: [2F].
        square: sum over edges of (u - mean)^2, [2F].
    """

    edge: Tensor
    centre: Tensor
    neighbour: Tensor
    mean: Tensor
    square: Tensor


class _ProjectEdges(Function):
    """u = G W_edge. As a function of its own because autograd would also compute the gradient of G, in vain."""

    @staticmethod
    def forward(ctx: Any, gaussians: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(gaussians)
        return gaussians @ weight

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        (gaussians,) = ctx.saved_tensors
        return None, gaussians.T @ gradients[0]


def project_edges(edges: MemberEdges, weight: Tensor) -> EdgeProjection:
    """Project the Gaussians of one member with a Linear's weight [2F+G, 2F]."""
    edge_weight = weight[-edges.gaussians.shape[1] :]
    edge = _ProjectEdges.apply(edges.gaussians, edge_weight)
    with torch.no_grad():
        sums = edges.sums
        square = (edge_weight * (sums.gram @ edge_weight)).sum(dim=0)
        return EdgeProjection(
            edge, sums.centre @ edge_weight, sums.neighbour @ edge_weight, sums.mean @ edge_weight, square
        )


@dataclass(frozen=True)
class _Statistics:
    """z of all edges, in its parts and sums, all centred."""

    centre: Tensor  # c [N, 2F]
    neighbour: Tensor  # n [N, 2F]
    over_centre: Tensor  # Q [N, 2F]
    over_neighbour: Tensor  # R [N, 2F]
    mean: Tensor  # of z before it was centred, without the bias [2F]
    variance: Tensor  # [2F]


def _statistics(states: Tensor, weight: Tensor, edges: MemberEdges, projection: EdgeProjection) -> _Statistics:
    index, width = edges.index, states.shape[1]
    centre, neighbour = states @ weight[:width], states @ weight[width : 2 * width]
    count = float(index.edges)
    centre_mean = (index.out_degree.T @ centre)[0] / count
    neighbour_mean = (index.in_degree.T @ neighbour)[0] / count
    centre -= centre_mean
    neighbour -= neighbour_mean
    over_centre = index.over_neighbours(neighbour).addcmul_(index.out_degree, centre).add_(projection.centre)
    over_neighbour = index.over_seen_by(centre).addcmul_(index.in_degree, neighbour).add_(projection.neighbour)
    square = (centre * (over_centre + projection.centre)).sum(dim=0)
    square += (neighbour * (over_neighbour + projection.neighbour)).sum(dim=0)
    variance = ((square + projection.square) / count).clamp_(min=0)
    return _Statistics(
        centre, neighbour, over_centre, over_neighbour, centre_mean + neighbour_mean + projection.mean, variance
    )


def _folded(statistics: _Statistics, gamma: Tensor, projection: EdgeProjection) -> tuple[Tensor, Tensor]:
    """Return the centre part that centres u too, and the scale of BatchNorm."""
    scale = gamma * torch.rsqrt(statistics.variance + EPSILON)
    scale = torch.where(scale == 0, SMALLEST_SCALE, scale)
    return statistics.centre - projection.mean, scale


class _Convolve(Function):
    """Sum of gated messages in training mode: (states, weight, bias, gamma, beta, u) to (m, mean, variance)."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor,
        gamma: Tensor,
        beta: Tensor,
        edge: Tensor,
        edges: MemberEdges,
        projection: EdgeProjection,
        compiled: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        statistics = _statistics(states, weight, edges, projection)
        centre, scale = _folded(statistics, gamma, projection)
        index = edges.index
        per_edge = edge.view(*index.neighbours.shape, -1)
        inputs = (centre, statistics.neighbour, per_edge, index.neighbours, index.mask, scale, beta.detach())
        summed = gate_sum(*inputs, compiled=compiled)
        ctx.save_for_backward(states, weight, gamma, beta, edge)
        ctx.edges, ctx.projection, ctx.compiled = edges, projection, compiled
        mean = statistics.mean + bias
        ctx.mark_non_differentiable(mean, statistics.variance)
        return summed, mean, statistics.variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        states, weight, gamma, beta, edge = ctx.saved_tensors
        edges, projection = ctx.edges, ctx.projection
        index, count = edges.index, float(edges.index.edges)
        statistics = _statistics(states, weight, edges, projection)
        centre, scale = _folded(statistics, gamma, projection)
        per_edge = edge.view(*index.neighbours.shape, -1)
        inputs = (centre, statistics.neighbour, per_edge, index.neighbours, index.mask, scale, beta)
        of_edges, of_centre, products = gate_gradient(*inputs, gradients[0].contiguous(), compiled=ctx.compiled)
        of_edges = of_edges.view_as(edge)
        of_neighbour = index.edges_seen_by(of_edges)
        total, product = of_centre.sum(dim=0), products.sum(dim=0)
        inverse = torch.rsqrt(statistics.variance + EPSILON)
        shift, slope = total / count, product / count * inverse.square()
        of_centre -= index.out_degree * shift + statistics.over_centre * slope
        of_neighbour -= index.in_degree * shift + statistics.over_neighbour * slope
        of_states, of_weight = _linear_gradients(states, weight, of_centre, of_neighbour)
        of_weight[2 * states.shape[1] :] = _edge_weight_gradient(weight, edges, statistics, shift, slope)
        of_gamma, of_beta = product * inverse / scale, total / scale
        return of_states, of_weight, torch.zeros_like(gamma), of_gamma, of_beta, of_edges, None, None, None


def _linear_gradients(states: Tensor, weight: Tensor, of_centre: Tensor, of_neighbour: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the states and of the weight, of which the rows for the Gaussians are left unset."""
    width = states.shape[1]
    of_states = torch.addmm(of_neighbour @ weight[width : 2 * width].T, of_centre, weight[:width].T)
    of_weight = torch.empty_like(weight)
    of_weight[:width] = states.T @ of_centre
    of_weight[width : 2 * width] = states.T @ of_neighbour
    return of_states, of_weight


def _edge_weight_gradient(
    weight: Tensor, edges: MemberEdges, statistics: _Statistics, shift: Tensor, slope: Tensor
) -> Tensor:
    """BatchNorm's part, -G^T (shift + slope z), of the gradient of the Gaussians' rows; the rest comes through u."""
    sums = edges.sums
    edge_weight = weight[-len(sums.mean) :]
    products = sums.centre.T @ statistics.centre + sums.neighbour.T @ statistics.neighbour + sums.gram @ edge_weight
    return -(float(edges.index.edges) * torch.outer(sums.mean, shift) + products * slope)


def _convolve_in_evaluation(
    states: Tensor,
    linear: tuple[Tensor, Tensor],
    norm: StackedBatchNorm,
    member: int,
    edges: MemberEdges,
    projection: EdgeProjection,
    *,
    compiled: bool,
) -> Tensor:
    """Sum of gated messages with the running statistics; without gradient."""
    weight, bias = linear
    width = states.shape[1]
    scale = norm.weight[member] * torch.rsqrt(norm.running_var[member] + EPSILON)
    shift = norm.bias[member] + scale * (bias - norm.running_mean[member])
    index = edges.index
    per_edge = projection.edge.view(*index.neighbours.shape, -1)
    centre, neighbour = states @ weight[:width], states @ weight[width : 2 * width]
    return gate_sum(centre, neighbour, per_edge, index.neighbours, index.mask, scale, shift, compiled=compiled)


class FusedConvolution:
    """The convolutions of one forward: edges once per batch, projections once per Linear."""

    def __init__(self, batch: GraphBatch, gaussians: Tensor, *, training: bool, compiled: bool) -> None:
        with torch.no_grad():
            self._edges = MemberEdges.of_batch(batch, gaussians)
        self._training, self._compiled = training, compiled
        self._projections: list[EdgeProjection] = []

    def project(self, linear: EdgeLinear) -> None:
        """Use this Linear from now on."""
        pairs = zip(self._edges, linear.weight, strict=True)
        self._projections = [project_edges(edges, weight) for edges, weight in pairs]

    def summed_messages(self, states: Tensor, linear: EdgeLinear, norm: StackedBatchNorm) -> Tensor:
        """Return the sum of gated messages of every atom, [M, N, F]; in training updates running averages."""
        if not self._training:
            return self._evaluate(states, linear, norm)
        parts = [
            _Convolve.apply(*inputs, projection.edge, edges, projection, self._compiled)
            for *inputs, edges, projection in zip(
                states, linear.weight, linear.bias, norm.weight, norm.bias, self._edges, self._projections, strict=True
            )
        ]
        summed, means, variances = (torch.stack(values) for values in zip(*parts, strict=True))
        norm.update_running(means, variances, means.new_tensor([[edges.index.edges] for edges in self._edges]))
        return summed

    def _evaluate(self, states: Tensor, linear: EdgeLinear, norm: StackedBatchNorm) -> Tensor:
        members = enumerate(zip(states, linear.weight, linear.bias, self._edges, self._projections, strict=True))
        return torch.stack(
            [
                _convolve_in_evaluation(rows, (weight, bias), norm, member, edges, projection, compiled=self._compiled)
                for member, (rows, weight, bias, edges, projection) in members
            ]
        )
