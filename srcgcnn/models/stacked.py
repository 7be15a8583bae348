"""Layers that hold M models at once, `[M, rows, channels]`, and know nothing of crystals.

Stock layers do not serve: under `torch.vmap` BatchNorm cannot update running statistics, and normalisation
sharing is one of the axes of the sweep (docs/design.md, decision 5). Initial weights are PyTorch's defaults, drawn
model by model from that model's own seed, so that a model starts from the same numbers alone and in a group.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH_NORM_MOMENTUM = 0.1  # PyTorch's defaults, which the released code uses
EPSILON = 1e-5
GROUPS, GROUP_SHARE = 10, 0.01  # of group normalisation, as published


class StackedLinear(nn.Module):
    """M Linear layers: weight [M, in, out], bias [M, out]."""

    def __init__(self, models: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(models, inputs, outputs))
        self.bias = nn.Parameter(torch.empty(models, outputs))

    def reset_parameters(self, generators: list[torch.Generator]) -> None:
        """Draw weights and biases from U(-1/sqrt(in), 1/sqrt(in)), one generator per model."""
        bound = 1 / math.sqrt(self.weight.shape[1])
        with torch.no_grad():
            for model, generator in enumerate(generators):
                for values in (self.weight[model], self.bias[model]):
                    values.copy_(torch.empty(values.shape).uniform_(-bound, bound, generator=generator))

    def forward(self, rows: Tensor) -> Tensor:
        """Map [M, R, in] to [M, R, out]."""
        return affine(self.bias, rows, self.weight)


def affine(bias: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
    """Return bias + rows @ weight for [M, out], [M, R, in], [M, in, out], in the type of `rows` also under autocast."""
    return torch.baddbmm(bias[:, None], rows, weight).to(rows.dtype)


class StackedBatchNorm(nn.Module):
    """M BatchNorms: statistics over the R real rows of each model, running averages for evaluation."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, models: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(models, channels))
        self.bias = nn.Parameter(torch.zeros(models, channels))
        self.register_buffer("running_mean", torch.zeros(models, channels))
        self.register_buffer("running_var", torch.ones(models, channels))

    def forward(self, rows: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise [M, R, C]; rows with mask [M, R] False do not enter the statistics."""
        if mask is None and rows.shape[0] == 1:
            return self.of_member(rows[0], 0)[None]
        if self.training:
            mean, variance = self._statistics(rows, mask)
        else:
            mean, variance = self.running_mean, self.running_var
        scale = self.weight * torch.rsqrt(variance + EPSILON)
        return torch.addcmul((self.bias - mean * scale)[:, None], rows, scale[:, None])

    def of_member(self, rows: Tensor, member: int) -> Tensor:
        """Normalise the rows [R, C] of one model, with PyTorch's own fused kernel."""
        momentum = 0.0 if recomputing() else BATCH_NORM_MOMENTUM
        return F.batch_norm(
            rows,
            self.running_mean[member],
            self.running_var[member],
            self.weight[member],
            self.bias[member],
            self.training,
            momentum,
            EPSILON,
        )

    def _statistics(self, rows: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and biased variance [M, C] of the real rows; updates the running averages."""
        if mask is None:
            count = torch.full((rows.shape[0], 1), float(rows.shape[1]), dtype=rows.dtype, device=rows.device)
            mean = rows.mean(dim=1)
            variance = (rows - mean[:, None]).square().mean(dim=1)
        else:
            real = mask[..., None].to(rows.dtype)
            count = real.sum(dim=1)
            mean = (rows * real).sum(dim=1) / count
            variance = ((rows - mean[:, None]).square() * real).sum(dim=1) / count
        self.update_running(mean, variance, count)
        return mean, variance

    @torch.no_grad()
    def update_running(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Move the running averages towards mean and biased variance [M, C] of `count` [M, 1] rows."""
        if recomputing():
            return
        self.running_mean.lerp_(mean, BATCH_NORM_MOMENTUM)
        self.running_var.lerp_(variance * count / (count - 1).clamp(min=1), BATCH_NORM_MOMENTUM)


class StackedLayerNorm(nn.Module):
    """M LayerNorms over the last axis."""

    def __init__(self, models: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(models, channels))
        self.bias = nn.Parameter(torch.zeros(models, channels))

    def forward(self, rows: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002 - as the other norms
        """Normalise [M, R, C] over C."""
        normalised = F.layer_norm(rows, rows.shape[-1:], eps=EPSILON)
        return torch.addcmul(self.bias[:, None], normalised, self.weight[:, None])

    def of_member(self, rows: Tensor, member: int) -> Tensor:
        """Normalise the rows [R, C] of one model."""
        return F.layer_norm(rows, rows.shape[-1:], self.weight[member], self.bias[member], EPSILON)


class StackedGroupNorm(nn.Module):
    """M differentiable group normalisations (arXiv:2006.06972): x + 0.01 * sum over groups g of BN_g(s_g x).

    s = softmax(U x) shares a row out between the groups. As `torch_geometric.nn.DiffGroupNorm`: with a factor of 0.01
    it is nearly the identity.
    """

    def __init__(self, models: int, channels: int) -> None:
        super().__init__()
        self.assignment = nn.Parameter(torch.empty(models, channels, GROUPS))
        self.norm = StackedBatchNorm(models, GROUPS * channels)

    def reset_parameters(self, generators: list[torch.Generator]) -> None:
        """Draw the assignment as PyTorch draws a Linear without bias, one generator per model."""
        bound = 1 / math.sqrt(self.assignment.shape[1])
        with torch.no_grad():
            for values, generator in zip(self.assignment, generators, strict=True):
                values.copy_(torch.empty(values.shape).uniform_(-bound, bound, generator=generator))

    def forward(self, rows: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise [M, R, C]; rows with mask [M, R] False do not enter the statistics."""
        grouped = self.norm(_by_group(rows, torch.bmm(rows, self.assignment)), mask)
        return rows + GROUP_SHARE * grouped.view(*rows.shape[:-1], GROUPS, -1).sum(dim=-2)

    def of_member(self, rows: Tensor, member: int) -> Tensor:
        """Normalise the rows [R, C] of one model."""
        grouped = self.norm.of_member(_by_group(rows, rows @ self.assignment[member]), member)
        return rows + GROUP_SHARE * grouped.view(*rows.shape[:-1], GROUPS, -1).sum(dim=-2)


def _by_group(rows: Tensor, logits: Tensor) -> Tensor:
    return (logits.softmax(dim=-1)[..., None] * rows[..., None, :]).flatten(-2)


class _Recomputation:
    active = False


def recomputing() -> bool:
    """Whether a step is being computed a second time, for its backward: running averages have moved already."""
    return _Recomputation.active


@contextmanager
def recomputation() -> Iterator[None]:
    """Say that what happens inside is a second time."""
    before, _Recomputation.active = _Recomputation.active, True
    try:
        yield
    finally:
        _Recomputation.active = before


def take_rows(rows: Tensor, index: Tensor) -> Tensor:
    """Gather rows model by model: [M, R, C] at [M, ...] gives [M, ..., C].

    `index_select` on the flat array: its gradient is one `index_add`, much cheaper than that of advanced indexing.
    """
    models, count, channels = rows.shape
    if models > 1:
        first = torch.arange(models, device=index.device) * count
        index = index + first.view(-1, *[1] * (index.dim() - 1))
    return rows.reshape(-1, channels).index_select(0, index.reshape(-1)).view(*index.shape, channels)
