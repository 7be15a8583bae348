"""Denoising: predict, from the last states, the noise that training adds to the distances (Godwin et al., ICLR 2022).

The store has distances, and the networks that train on it are invariant, so noise and target are distances, too: the
variant that the authors name for invariant networks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srcgcnn.data.graph import GAUSSIAN_COUNT
from srcgcnn.models.gaussians import Gaussians
from srcgcnn.models.stacked import StackedLinear, affine, take_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from srcgcnn.models.batch import GraphBatch


class Denoiser(nn.Module):
    """M small networks on (h_i, h_j, u_ij): Linear 2F + 41 -> F, softplus, Linear F -> 1. Trained, never kept."""

    def __init__(self, models: int, hidden_channels: int) -> None:
        """Make weights, unset."""
        super().__init__()
        self._parts = [hidden_channels, hidden_channels, GAUSSIAN_COUNT]
        self.inner = StackedLinear(models, sum(self._parts), hidden_channels)
        self.outer = StackedLinear(models, hidden_channels, 1)
        self.gaussians = Gaussians()

    def reset_parameters(self, generators: Sequence[torch.Generator]) -> None:
        """Draw the weights, one generator per model."""
        for layer in (self.inner, self.outer):
            layer.reset_parameters(list(generators))

    def forward(self, atoms: Tensor, batch: GraphBatch) -> Tensor:
        """Map last states [M, N, F] and noisy distances to the noise in units of its deviation: [M, N, K]."""
        of_centre, of_neighbour, of_edge = self.inner.weight.split(self._parts, dim=1)
        edges = torch.bmm(self.gaussians(batch.distances.flatten(1)), of_edge)
        neighbours = take_rows(torch.bmm(atoms, of_neighbour), batch.neighbours)
        hidden = neighbours + edges.view_as(neighbours) + affine(self.inner.bias, atoms, of_centre)[:, :, None]
        return self.outer(F.softplus(hidden).flatten(1, 2)).view(batch.distances.shape)


def draw_noise(batch: GraphBatch, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw standard normal noise for the edges of every model's atoms, 0 for padding: [M, N, K] on the host."""
    _, atoms, degree = batch.distances.shape
    draws = []
    for member, generator in enumerate(generators):
        real = torch.randn(batch.real_atoms(member), degree, generator=generator)
        draws.append(torch.cat([real, torch.zeros(atoms - len(real), degree)]))
    return torch.stack(draws)


def denoising_loss(predicted: Tensor, noise: Tensor, batch: GraphBatch) -> Tensor:
    """Mean square error of the predicted noise over real edges: two arrays [M, N, K] give [M]."""
    square = (predicted - noise).square().flatten(1)
    if batch.edge_mask is None and batch.atom_mask is None:
        return square.mean(dim=1)
    real = torch.isfinite(batch.distances) if batch.edge_mask is None else batch.edge_mask
    if batch.atom_mask is not None:
        real = real & batch.atom_mask[..., None]
    real = real.flatten(1)
    return (square * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)
