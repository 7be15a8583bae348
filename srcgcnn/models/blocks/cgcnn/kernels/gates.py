"""The gate of a convolution, summed over neighbours, and its derivative: the only work that is done per edge.

    z_ij = c_i + n_j + u_ij            (centre, neighbour and edge part of the Linear)
    y_ij = scale * z_ij + shift        (BatchNorm, folded)
    m_i  = sum_j sigmoid(y first half) * softplus(y second half)

These are PyTorch's operators, on the CPU a few hundred atoms at a time so that intermediates stay in the cache.
`convolution.cpp` is the same for float32 on the CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Iterator

ATOMS_PER_CHUNK = 256  # 1.5 MB per [256, 12, 128] float32


def gate_sum(
    centre: Tensor,
    neighbour: Tensor,
    gaussians: Tensor,
    weight: Tensor,
    index: Tensor,
    mask: Tensor | None,
    scale: Tensor,
    shift: Tensor,
) -> Tensor:
    """Return m [N, F].

    Args:
        centre: c [N, 2F].
        neighbour: n [N, 2F].
        gaussians: [N*K, G], which make u together with `weight`.
        weight: [G, 2F].
        index: neighbours [N, K].
        mask: [N, K], 1 or 0; None when all edges are real.
        scale: [2F].
        shift: [2F].
    """
    summed = centre.new_empty(len(centre), centre.shape[1] // 2)
    for rows, edge in _chunks(index, gaussians, weight):
        part = None if mask is None else mask[rows]
        summed[rows] = _gate_sum(centre[rows], neighbour, edge, index[rows], part, scale, shift)
    return summed


def gate_gradient(
    centre: Tensor,
    neighbour: Tensor,
    gaussians: Tensor,
    weight: Tensor,
    index: Tensor,
    mask: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    upstream: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Recompute the gate and differentiate it.

    Args:
        centre: c [N, 2F].
        neighbour: n [N, 2F].
        gaussians: [N*K, G].
        weight: [G, 2F].
        index: neighbours [N, K].
        mask: [N, K], 1 or 0; None when all edges are real.
        scale: [2F].
        shift: [2F].
        upstream: the gradient of m [N, F].

    Returns:
        The gradient of z at fixed scale [N*K, 2F], its sum over K [N, 2F], and the gradient of the weight [G, 2F].
    """
    gradient = centre.new_empty(*index.shape, centre.shape[1])
    sums, of_weight = torch.empty_like(centre), torch.zeros_like(weight)
    by_atom = gaussians.view(*index.shape, -1)
    for rows, edge in _chunks(index, gaussians, weight):
        part = None if mask is None else mask[rows]
        inputs = (centre[rows], neighbour, edge, index[rows], part, scale, shift, upstream[rows])
        gradient[rows], sums[rows] = _gate_gradient(*inputs)
        of_weight.addmm_(by_atom[rows].flatten(0, 1).T, gradient[rows].flatten(0, 1))
    return gradient.flatten(0, 1), sums, of_weight


def _chunks(index: Tensor, gaussians: Tensor, weight: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield runs of atoms with their edges' u [atoms, K, 2F]."""
    atoms, degree = index.shape
    step = atoms if gaussians.is_cuda else ATOMS_PER_CHUNK
    for start in range(0, atoms, step):
        edge = gaussians[start * degree : (start + step) * degree] @ weight
        yield slice(start, start + step), edge.view(-1, degree, weight.shape[1])


def _gate_sum(
    centre: Tensor, neighbour: Tensor, edge: Tensor, index: Tensor, mask: Tensor | None, scale: Tensor, shift: Tensor
) -> Tensor:
    first, second = _halves(centre, neighbour, edge, index, scale, shift)
    messages = torch.sigmoid(first) * F.softplus(second)
    if mask is not None:
        messages = messages * mask[..., None]
    return messages.sum(dim=1)


def _gate_gradient(
    centre: Tensor,
    neighbour: Tensor,
    edge: Tensor,
    index: Tensor,
    mask: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    upstream: Tensor,
) -> tuple[Tensor, Tensor]:
    half = centre.shape[1] // 2
    first, second = _halves(centre, neighbour, edge, index, scale, shift)
    gate = torch.sigmoid(first)
    passed = upstream[:, None] * gate
    if mask is not None:
        passed = passed * mask[..., None]
    of_first = passed * (1 - gate) * F.softplus(second) * scale[:half]
    of_second = passed * torch.sigmoid(second) * scale[half:]
    sums = torch.cat([of_first.sum(dim=1), of_second.sum(dim=1)], dim=1)
    return torch.cat([of_first, of_second], dim=2), sums


def _halves(
    centre: Tensor, neighbour: Tensor, edge: Tensor, index: Tensor, scale: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor]:
    """Return y of the gate and of the core, [N, K, F] each."""
    half = centre.shape[1] // 2
    first, second = (
        (centre[:, None, part] + neighbour[:, part][index] + edge[..., part]) * scale[part] + shift[part]
        for part in (slice(None, half), slice(half, None))
    )
    return first, second
