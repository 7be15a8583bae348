"""The radial functions of CGCNN, which most blocks take as features of an edge."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from srcgcnn.data.graph import GAUSSIAN_COUNT, GAUSSIAN_STEP_ANGSTROM


class Gaussians(nn.Module):
    """exp(-(d - mu)^2 / 0.2^2) for 41 centres mu = 0, 0.2 .. 8 angstrom. No weights, and nothing that is saved."""

    centres: Tensor

    def __init__(self) -> None:
        """Place the centres."""
        super().__init__()
        self.register_buffer("centres", torch.arange(GAUSSIAN_COUNT) * GAUSSIAN_STEP_ANGSTROM, persistent=False)

    def forward(self, distances: Tensor) -> Tensor:
        """Expand distances [...] in angstrom: [..., 41]; zero where one is infinite."""
        return (-((distances[..., None] - self.centres) / GAUSSIAN_STEP_ANGSTROM).square()).exp()
