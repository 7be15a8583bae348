"""From the states after the last step to the outputs: pool the atoms of each crystal, then a small network."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srcgcnn.models.stacked import StackedLinear

if TYPE_CHECKING:
    from collections.abc import Sequence

    from srcgcnn.models.batch import GraphBatch
    from srcgcnn.models.config import ModelConfig, Readout

DROPOUT = 0.5  # classification only, as in the original


class Head(nn.Module):
    """Softplus, then Linear and softplus per hidden layer, then one output (or two log-probabilities)."""

    def __init__(self, models: int, config: ModelConfig) -> None:
        super().__init__()
        widths = [config.hidden_channels, *[config.head_channels] * config.head_layers]
        self.hidden = nn.ModuleList(StackedLinear(models, inputs, outputs) for inputs, outputs in pairwise(widths))
        self.classify = config.task == "classification"
        self.output = StackedLinear(models, config.head_channels, 2 if self.classify else 1)

    def forward(self, crystals: Tensor, dropout_mask: Tensor | None = None) -> Tensor:
        """Map [M, B, F] to [M, B, 1], or to log-probabilities [M, B, 2]."""
        rows = F.softplus(crystals)
        for index, layer in enumerate(self.hidden):
            rows = F.softplus(layer(rows))
            if index == 0 and dropout_mask is not None:
                rows = rows * dropout_mask
        rows = self.output(rows)
        return F.log_softmax(rows, dim=-1) if self.classify else rows


def pooled(kind: Readout, states: Tensor, batch: GraphBatch) -> Tensor:
    """Pool the atoms of each crystal: [M, N, F] to [M, B, F].

    Raises:
        NotImplementedError: a kind that needs weights.
    """
    if kind == "mean":
        return mean_over_atoms(states, batch)
    if kind == "sum":
        return sum_over_atoms(states, batch)
    if kind == "max":
        return max_over_atoms(states, batch)
    raise NotImplementedError(f"readout={kind!r} is not built yet; take mean, sum or max")


def mean_over_atoms(states: Tensor, batch: GraphBatch) -> Tensor:
    """Average the atoms of each crystal: [M, N, F] to [M, B, F]."""
    return sum_over_atoms(states, batch) / batch.atom_counts[..., None]


def sum_over_atoms(states: Tensor, batch: GraphBatch) -> Tensor:
    """Sum the atoms of each crystal: [M, N, F] to [M, B, F]. Padding atoms fall into a row that is cut off."""
    models, crystals = batch.atom_counts.shape
    sums = states.new_zeros(models * (crystals + 1), states.shape[-1])
    sums = sums.index_add(0, _rows(batch, crystals), states.flatten(0, 1))
    return sums.view(models, crystals + 1, -1)[:, :crystals]


def max_over_atoms(states: Tensor, batch: GraphBatch) -> Tensor:
    """Take the largest value of the atoms of each crystal, channel by channel: [M, N, F] to [M, B, F]."""
    models, crystals = batch.atom_counts.shape
    index = _rows(batch, crystals)[:, None].expand(-1, states.shape[-1])
    largest = states.new_zeros(models * (crystals + 1), states.shape[-1])
    largest = largest.scatter_reduce(0, index, states.flatten(0, 1), "amax", include_self=False)
    return largest.view(models, crystals + 1, -1)[:, :crystals]


def _rows(batch: GraphBatch, crystals: int) -> Tensor:
    first = torch.arange(len(batch.crystal), device=batch.crystal.device)[:, None] * (crystals + 1)
    return (batch.crystal + first).flatten()


def dropout_masks(generators: Sequence[torch.Generator], crystals: int, config: ModelConfig) -> Tensor | None:
    """Draw the classification head's dropout [M, B, head] from one generator per model; None for regression."""
    if config.task != "classification":
        return None
    draws = [torch.rand(crystals, config.head_channels, generator=generator) for generator in generators]
    return (torch.stack(draws) >= DROPOUT).float() / (1 - DROPOUT)
