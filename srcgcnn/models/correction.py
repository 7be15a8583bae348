"""What each step changes about the block that it shares: between one block for all steps and one for each.

Both act on the atoms' states before the block, so they serve every block:

    film         h <- g_t * h + b_t             2F weights a step; begins with g = 1, b = 0
    lowrank:R    h <- h + (h D_t) U_t           2FR weights a step; begins with U = 0

A Linear W of the block that reads h then acts as W with a correction of rank R, (1 + D_t U_t) W.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from srcgcnn.models.config import ModelConfig


class Film(nn.Module):
    """A scale and a shift of every channel for each of T steps of M models."""

    def __init__(self, models: int, depth: int, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(models, depth, channels))
        self.shift = nn.Parameter(torch.zeros(models, depth, channels))

    def reset_parameters(self, _generators: Sequence[torch.Generator]) -> None:
        """Leave states as they are: nothing is drawn."""
        nn.init.ones_(self.scale)
        nn.init.zeros_(self.shift)

    def forward(self, atoms: Tensor, step: int) -> Tensor:
        """Correct the states [M, N, F] before a step."""
        return torch.addcmul(self.shift[:, step, None], atoms, self.scale[:, step, None])

    def of_member(self, atoms: Tensor, step: int, member: int) -> Tensor:
        """Correct the states [N, F] of one model."""
        return torch.addcmul(self.shift[member, step], atoms, self.scale[member, step])


class LowRank(nn.Module):
    """A product of rank R that is added to the states, for each of T steps of M models."""

    def __init__(self, models: int, depth: int, channels: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(models, depth, channels, rank))
        self.up = nn.Parameter(torch.zeros(models, depth, rank, channels))

    def reset_parameters(self, generators: Sequence[torch.Generator]) -> None:
        """Draw the way down as PyTorch draws a Linear, one generator per model; the way up begins at zero."""
        bound = 1 / math.sqrt(self.down.shape[2])
        with torch.no_grad():
            for values, generator in zip(self.down, generators, strict=True):
                values.copy_(torch.empty(values.shape).uniform_(-bound, bound, generator=generator))
        nn.init.zeros_(self.up)

    def forward(self, atoms: Tensor, step: int) -> Tensor:
        """Correct the states [M, N, F] before a step."""
        return torch.baddbmm(atoms, torch.bmm(atoms, self.down[:, step]), self.up[:, step])

    def of_member(self, atoms: Tensor, step: int, member: int) -> Tensor:
        """Correct the states [N, F] of one model."""
        return torch.addmm(atoms, atoms @ self.down[member, step], self.up[member, step])


def correction_of(config: ModelConfig, models: int) -> Film | LowRank | None:
    """Build the correction that a configuration names."""
    if config.correction == "none":
        return None
    shape = models, config.depth, config.hidden_channels
    return Film(*shape) if config.correction == "film" else LowRank(*shape, config.correction_rank)
