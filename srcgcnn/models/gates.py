"""The gate of a convolution, summed over neighbours, and its derivative: the only work that is done per edge.

    z_ij = c_i + n_j + u_ij            (centre, neighbour and edge part of the Linear)
    y_ij = scale * z_ij + shift        (BatchNorm, folded)
    m_i  = sum_j sigmoid(y first half) * softplus(y second half)

Each function exists once and runs in two ways. Eagerly, a few hundred atoms at a time, so that intermediates stay
in the cache. Or compiled by inductor into one loop over the edges; then sigmoid and softplus are polynomials, because
calls of a vector library's exp and log inside that loop took 29 ms for 80,000 edges, the polynomials 7 ms (one core).
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# tanh(x/2)/2 = x P(x^2) / Q(x^2) for |x| < 17.5 with an error of 7e-9, where float32 resolves 3e-8 (least squares on
# Chebyshev points, reweighted until the error was level; tests/test_fused.py measures it).
TANH_LIMIT = 17.5
TANH_NUMERATOR = (
    0.24999998202995083,
    0.008368640845773254,
    5.478602703709334e-05,
    8.123551742809751e-08,
    1.3316140580445858e-11,
)
TANH_DENOMINATOR = (1.0, 0.11680782557240099, 0.0016198168194778689, 5.161913906987298e-06, 3.0808298788133998e-09)
# -log(1 - t) = t L(t) for 0 <= t <= 1/2 with an error of 2e-8
LOGARITHM = (
    1.0000000229175898,
    0.4999928054186209,
    0.3337025589640745,
    0.2427744528848084,
    0.2698501332807165,
    -0.2045397450567233,
    1.260010442412675,
    -1.6986658138686495,
    1.4425228758568305,
)

ATOMS_PER_CHUNK = 256  # 1.5 MB per [256, 12, 128] float32
COMPILE_OPTIONS: dict[str, Any] = {
    "cpp.enable_floating_point_contract_flag": "fast",  # multiply-add instructions: 10.0 to 7.7 ms
    "assert_indirect_indexing": False,  # the indices come from a checked store
}

logger = logging.getLogger(__name__)


def gate_sum(
    centre: Tensor,
    neighbour: Tensor,
    edge: Tensor,
    index: Tensor,
    mask: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    *,
    compiled: bool,
) -> Tensor:
    """Return m [N, F].

    Args:
        centre: c [N, 2F].
        neighbour: n [N, 2F].
        edge: u [N, K, 2F].
        index: neighbours [N, K].
        mask: [N, K], 1 or 0; None when all edges are real.
        scale: [2F].
        shift: [2F].
        compiled: use the compiled loop (float32 only).
    """
    if _compilable(centre, compiled=compiled):
        _mark(centre, neighbour, edge, index, mask)
        return _compiled(_gate_sum)(centre, neighbour, edge, index, mask, scale, shift, fast=True)
    summed = centre.new_empty(len(centre), centre.shape[1] // 2)
    for rows in _chunks(len(centre)):
        part = None if mask is None else mask[rows]
        summed[rows] = _gate_sum(centre[rows], neighbour, edge[rows], index[rows], part, scale, shift, fast=False)
    return summed


def gate_gradient(
    centre: Tensor,
    neighbour: Tensor,
    edge: Tensor,
    index: Tensor,
    mask: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    upstream: Tensor,
    *,
    compiled: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Recompute the gate and differentiate it.

    Args:
        centre: c [N, 2F].
        neighbour: n [N, 2F].
        edge: u [N, K, 2F].
        index: neighbours [N, K].
        mask: [N, K], 1 or 0; None when all edges are real.
        scale: [2F].
        shift: [2F].
        upstream: the gradient of m [N, F].
        compiled: use the compiled loop (float32 only).

    Returns:
        The gradient g of z at fixed scale [N, K, 2F], its sum over K [N, 2F], and the sum over K of g * z [N, 2F].
    """
    if _compilable(centre, compiled=compiled):
        _mark(centre, neighbour, edge, index, mask, upstream)
        kernel = _compiled(_gate_gradient)
        return kernel(centre, neighbour, edge, index, mask, scale, shift, upstream, fast=True)
    gradient = torch.empty_like(edge)
    sums, products = torch.empty_like(centre), torch.empty_like(centre)
    for rows in _chunks(len(centre)):
        part = None if mask is None else mask[rows]
        gradient[rows], sums[rows], products[rows] = _gate_gradient(
            centre[rows], neighbour, edge[rows], index[rows], part, scale, shift, upstream[rows], fast=False
        )
    return gradient, sums, products


def _gate_sum(
    centre: Tensor,
    neighbour: Tensor,
    edge: Tensor,
    index: Tensor,
    mask: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    *,
    fast: bool,
) -> Tensor:
    (_, first), (_, second) = _halves(centre, neighbour, edge, index, scale, shift)
    gate, core, _ = _activations(first, second, fast=fast)
    messages = gate * core
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
    *,
    fast: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    half = centre.shape[1] // 2
    (z_first, first), (z_second, second) = _halves(centre, neighbour, edge, index, scale, shift)
    gate, core, slope = _activations(first, second, fast=fast)
    passed = upstream[:, None] * gate
    if mask is not None:
        passed = passed * mask[..., None]
    of_first = passed * (1 - gate) * core * scale[:half]
    of_second = passed * slope * scale[half:]
    gradient = torch.stack([of_first, of_second], dim=2).flatten(2)
    sums = torch.cat([of_first.sum(dim=1), of_second.sum(dim=1)], dim=1)
    products = torch.cat([(of_first * z_first).sum(dim=1), (of_second * z_second).sum(dim=1)], dim=1)
    return gradient, sums, products


def _halves(
    centre: Tensor, neighbour: Tensor, edge: Tensor, index: Tensor, scale: Tensor, shift: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Return z and y of the gate and of the core, [N, K, F] each.

    Written as two expressions: taken from one [N, K, 2F], inductor would store that in memory (29 against 7 ms).
    """
    half = centre.shape[1] // 2
    parts = []
    for part in (slice(None, half), slice(half, None)):
        z = centre[:, None, part] + neighbour[:, part][index] + edge[..., part]
        parts.append((z, z * scale[part] + shift[part]))
    return parts


def _activations(first: Tensor, second: Tensor, *, fast: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return sigmoid(first), softplus(second) and the latter's derivative sigmoid(second)."""
    if not fast:
        return torch.sigmoid(first), F.softplus(second), torch.sigmoid(second)
    slope = _half_tanh(second)
    below = 0.5 - slope.abs()  # sigmoid(-|second|)
    return 0.5 + _half_tanh(first), second.clamp(min=0) + below * _polynomial(below, LOGARITHM), 0.5 + slope


def _half_tanh(x: Tensor) -> Tensor:
    """Return tanh(x/2)/2 = sigmoid(x) - 1/2."""
    x = x.clamp(-TANH_LIMIT, TANH_LIMIT)
    square = x * x
    return x * _polynomial(square, TANH_NUMERATOR) / _polynomial(square, TANH_DENOMINATOR)


def _polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    value = x * coefficients[-1] + coefficients[-2]
    for coefficient in reversed(coefficients[:-2]):
        value = value * x + coefficient
    return value


def _chunks(atoms: int) -> list[slice]:
    return [slice(start, start + ATOMS_PER_CHUNK) for start in range(0, atoms, ATOMS_PER_CHUNK)]


# --- compilation ---


def _compilable(centre: Tensor, *, compiled: bool) -> bool:
    """Refuse single rows: inductor would make a kernel for exactly one atom."""
    return compiled and centre.dtype == torch.float32 and len(centre) > 1 and compiler_works()


def _mark(*tensors: Tensor | None) -> None:
    """Declare the number of atoms variable, so that one kernel serves all batches."""
    for tensor in tensors:
        if tensor is not None:
            torch._dynamo.mark_dynamic(tensor, 0)  # its documented place


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, options=COMPILE_OPTIONS, fullgraph=True)


@functools.cache
def compiler_works() -> bool:
    """Compile something small once; where there is no C++ compiler the eager way serves."""
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(4))
    except Exception as error:  # noqa: BLE001  (inductor's failures have no common class)
        logger.warning("inductor cannot compile here (%s): training runs uncompiled, about half as fast", error)
        return False
    return True
