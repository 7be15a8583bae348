"""The convolution as one operator with its own backward: exact, fast on the CPU, and economical with memory.

Three ideas; `docs/performance.md` has what each gives.

1. BatchNorm on the edges needs mean and variance of z_ij = c_i + n_j + u_ij, a sum of three parts. Both follow from
   sums per atom (who sees whom, Gaussians per atom, the Gaussians' Gram matrix): no pass over the edges.
2. The same algebra gives BatchNorm's part of the backward, so one pass over the edges computes all gradients.
3. That pass recomputes the gate, and u: nothing of size [edges, 2F] is kept.

With z centred (mean zero over the edges), s = gamma / sqrt(var + eps), y = s z + beta, g the gradient of z at fixed s:

    Q_i = sum_j z_ij        R_j = sum_i z_ij        (over real edges)
    E var = sum_i c_i Q_i + sum_j n_j R_j + sum_ij u_ij z_ij
    dL/dz = g - mean(g) - z / (var + eps) * mean(g z)

The plain step stays in `block.py`, the equations in `equations.py`; tests/models/test_models.py compares all three.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import Function

from srcgcnn.models.blocks.cgcnn.kernels.sums import EdgeProjection, edge_rows
from srcgcnn.models.stacked import EPSILON

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from srcgcnn.models.blocks.cgcnn.kernels.native.library import NativeEdges
    from srcgcnn.models.stacked import StackedBatchNorm

SMALLEST_SCALE = 1e-20  # stands for a gamma of exactly zero, by which its own gradient is divided


@dataclass(frozen=True)
class _Statistics:
    """z of all edges, in its parts and sums, all centred."""

    centre: Tensor  # c [N, 2F]
    neighbour: Tensor  # n [N, 2F]
    over_centre: Tensor  # Q [N, 2F]
    over_neighbour: Tensor  # R [N, 2F]
    mean: Tensor  # of z before it was centred, without the bias [2F]
    variance: Tensor  # [2F]


def _statistics(states: Tensor, weight: Tensor, edges: NativeEdges, projection: EdgeProjection) -> _Statistics:
    width, count = states.shape[1], edges.count
    centre_mean = (edges.out_degree.T @ states / count) @ weight[:width]
    neighbour_mean = (edges.in_degree.T @ states / count) @ weight[width : 2 * width]
    centre = torch.addmm(-centre_mean, states, weight[:width])
    neighbour = torch.addmm(-neighbour_mean, states, weight[width : 2 * width])
    over_centre, over_neighbour, squares = edges.edge_sums(centre, neighbour, projection)
    variance = ((squares + projection.square) / count).clamp_(min=0)
    mean = (centre_mean + neighbour_mean)[0] + projection.mean
    return _Statistics(centre, neighbour, over_centre, over_neighbour, mean, variance)


def _folded(statistics: _Statistics, gamma: Tensor, beta: Tensor, projection: EdgeProjection) -> tuple[Tensor, Tensor]:
    """BatchNorm as scale and shift of c + n + u, of which u is not centred."""
    scale = gamma * torch.rsqrt(statistics.variance + EPSILON)
    scale = torch.where(scale == 0, SMALLEST_SCALE, scale)
    return scale, beta - scale * projection.mean


class _Convolve(Function):
    """Sum of gated messages in training mode: (states, weight, bias, gamma, beta) to (m, mean, variance)."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor,
        gamma: Tensor,
        beta: Tensor,
        edges: NativeEdges,
        projection: EdgeProjection,
        recompute: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        statistics = _statistics(states, weight, edges, projection)
        scale, shift = _folded(statistics, gamma, beta, projection)
        summed = edges.gate_sum(statistics.centre, statistics.neighbour, edge_rows(weight, edges.sums), scale, shift)
        ctx.save_for_backward(states, weight, gamma, beta)
        ctx.edges, ctx.projection, ctx.statistics = edges, projection, None if recompute else statistics
        mean = statistics.mean + bias
        ctx.mark_non_differentiable(mean, statistics.variance)
        return summed, mean, statistics.variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        states, weight, gamma, beta = ctx.saved_tensors
        edges, projection = ctx.edges, ctx.projection
        edge_weight = edge_rows(weight, edges.sums)
        statistics = ctx.statistics or _statistics(states, weight, edges, projection)
        scale, shift = _folded(statistics, gamma, beta, projection)
        inputs = (statistics.centre, statistics.neighbour, edge_weight, scale, shift, gradients[0].contiguous())
        of = edges.gate_gradient(*inputs)
        # the sum of g z, part by part
        product = of.product + (of.weight * edge_weight).sum(dim=0) - of.total * projection.mean
        inverse = torch.rsqrt(statistics.variance + EPSILON)
        offset, slope = of.total / edges.count, product / edges.count * inverse.square()
        of.centre.addcmul_(statistics.over_centre, -slope).addr_(edges.out_degree[:, 0], offset, alpha=-1)
        of.neighbour.addcmul_(statistics.over_neighbour, -slope).addr_(edges.in_degree[:, 0], offset, alpha=-1)
        of_states, of_weight = _linear_gradients(states, weight, of.centre, of.neighbour)
        centring = _centring_of_edge_weight(states, weight, edges, offset, slope)
        of_weight[-len(edge_weight) :] = of.weight - centring
        of_gamma, of_beta = product * inverse / scale, of.total / scale
        return of_states, of_weight, torch.zeros_like(gamma), of_gamma, of_beta, None, None, None


def _linear_gradients(states: Tensor, weight: Tensor, of_centre: Tensor, of_neighbour: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the states and of the weight, of which the rows for the Gaussians are left unset."""
    width = states.shape[1]
    of_states = torch.addmm(of_neighbour @ weight[width : 2 * width].T, of_centre, weight[:width].T)
    of_weight = torch.empty_like(weight)
    of_weight[:width] = states.T @ of_centre
    of_weight[width : 2 * width] = states.T @ of_neighbour
    return of_states, of_weight


def _centring_of_edge_weight(
    states: Tensor, weight: Tensor, edges: NativeEdges, offset: Tensor, slope: Tensor
) -> Tensor:
    """BatchNorm's part, G^T (offset + slope z), in the gradient of the Gaussians' rows.

    c and n are products of the states, less a mean that the centred sums do not see.
    """
    sums = edges.sums
    of_edges = torch.cat([sums.centre.T @ states, sums.neighbour.T @ states, sums.gram], dim=1)
    return edges.count * torch.outer(sums.mean, offset) + (of_edges @ weight) * slope


def _convolve_in_evaluation(
    states: Tensor, linear: tuple[Tensor, Tensor], norm: StackedBatchNorm, member: int, edges: NativeEdges
) -> Tensor:
    """Sum of gated messages with the running statistics; without gradient."""
    weight, bias = linear
    width = states.shape[1]
    scale = norm.weight[member] * torch.rsqrt(norm.running_var[member] + EPSILON)
    shift = norm.bias[member] + scale * (bias - norm.running_mean[member])
    centre, neighbour = states @ weight[:width], states @ weight[width : 2 * width]
    return edges.gate_sum(centre, neighbour, edge_rows(weight, edges.sums), scale, shift)


class FusedConvolution:
    """One Linear's convolutions of one forward."""

    def __init__(
        self, edges: Sequence[NativeEdges], weight: Tensor, bias: Tensor, *, training: bool, recompute: bool
    ) -> None:
        """Take the edges of every member; `recompute` the statistics in the backward instead of keeping them."""
        self._edges, self._weight, self._bias = edges, weight, bias
        self._training, self._recompute = training, recompute
        with torch.no_grad():
            pairs = zip(edges, weight, strict=True)
            self._projections = [EdgeProjection.of_weight(one.sums, own) for one, own in pairs]

    def summed_messages(self, states: Tensor, norm: StackedBatchNorm) -> Tensor:
        """Return the sum of gated messages of every atom, [M, N, F]; in training updates running averages."""
        if not self._training:
            return self._evaluate(states, norm)
        members = zip(
            states, self._weight, self._bias, norm.weight, norm.bias, self._edges, self._projections, strict=True
        )
        parts = [_Convolve.apply(*member, self._recompute) for member in members]
        summed, means, variances = (torch.stack(values) for values in zip(*parts, strict=True))
        norm.update_running(means, variances, means.new_tensor([[edges.count] for edges in self._edges]))
        return summed

    def _evaluate(self, states: Tensor, norm: StackedBatchNorm) -> Tensor:
        members = enumerate(zip(states, self._weight, self._bias, self._edges, strict=True))
        return torch.stack(
            [
                _convolve_in_evaluation(rows, (weight, bias), norm, member, edges)
                for member, (rows, weight, bias, edges) in members
            ]
        )
