"""The radial functions of CGCNN, which most blocks take as features of an edge."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srcgcnn.data.graph import GAUSSIAN_COUNT, GAUSSIAN_STEP_ANGSTROM

SMALLEST = 1e-30  # smaller values are 0: no sum of features changes
LARGEST_EXPONENT = 80.0  # exp(-80) < SMALLEST; far beyond, exp takes processors several times as long


def decayed(exponents: Tensor) -> Tensor:
    """Return exp(-x) of x >= 0, and 0 if that is below 1e-30."""
    return F.threshold((-exponents.clamp(max=LARGEST_EXPONENT)).exp(), SMALLEST, 0.0)


class Gaussians(nn.Module):
    """exp(-(d - mu)^2 / 0.2^2) for 41 centres mu = 0, 0.2 .. 8 angstrom. No weights, and nothing that is saved."""

    centres: Tensor

    def __init__(self) -> None:
        """Place the centres."""
        super().__init__()
        self.register_buffer("centres", torch.arange(GAUSSIAN_COUNT) * GAUSSIAN_STEP_ANGSTROM, persistent=False)

    def forward(self, distances: Tensor) -> Tensor:
        """Expand distances [...] in angstrom: [..., 41]; zero where one is infinite."""
        return decayed(((distances[..., None] - self.centres) / GAUSSIAN_STEP_ANGSTROM).square())
