"""From the states after the last step to the outputs: pool the atoms of each crystal, then a small network.

    mean, sum, max   of the atoms, channel by channel
    attention        sum of softmax weights times states (GATGNN's global attention, Louis et al. 2020): weights from
                     [h_i ; shares of the elements in the crystal] by Linear, softplus, Linear, softplus, Linear
    set2set          Vinyals et al. (arXiv:1511.06391), PyTorch Geometric's: twice as wide as the states

If a block has states of edges or crystals for the readout (`BlockSpec.reads`), they are concatenated with the pooled
atoms: the mean over atoms of the mean over their edges, and the crystal's own.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srcgcnn.models.counts import ELEMENTS, head_layout
from srcgcnn.models.members import draw, members, stack
from srcgcnn.models.stacked import StackedLinear

if TYPE_CHECKING:
    from collections.abc import Sequence

    from srcgcnn.models.batch import GraphBatch
    from srcgcnn.models.config import ModelConfig, Readout
    from srcgcnn.models.state import State

SET2SET_STEPS = 3  # as in MatDeepLearn
DROPOUT = 0.5  # classification only, as in the original


class Head(nn.Module):
    """Softplus, then Linear and softplus per hidden layer, then the outputs (or two log-probabilities)."""

    def __init__(self, models: int, config: ModelConfig) -> None:
        super().__init__()
        widths = [config.pooled_channels, *[config.head_channels] * config.head_layers]
        self.hidden = nn.ModuleList(StackedLinear(models, inputs, outputs) for inputs, outputs in pairwise(widths))
        self.classify = config.task == "classification"
        self.output = StackedLinear(models, config.head_channels, head_layout(config)["outputs"])

    def forward(self, crystals: Tensor, dropout_mask: Tensor | None = None) -> Tensor:
        """Map [M, B, F] to [M, B, P], or to log-probabilities [M, B, 2]."""
        rows = F.softplus(crystals)
        for index, layer in enumerate(self.hidden):
            rows = F.softplus(layer(rows))
            if index == 0 and dropout_mask is not None:
                rows = rows * dropout_mask
        rows = self.output(rows)
        return F.log_softmax(rows, dim=-1) if self.classify else rows


class AttentionPool(nn.Module):
    """Sum over atoms, weighted by a softmax over the atoms of each crystal."""

    def __init__(self, models: int, width: int) -> None:
        super().__init__()
        self.inner = StackedLinear(models, width + ELEMENTS, width)
        self.outer = StackedLinear(models, width, width)
        self.score = StackedLinear(models, width, 1)

    def reset_parameters(self, generators: list[torch.Generator]) -> None:
        """Draw the weights, one generator per model."""
        for layer in (self.inner, self.outer, self.score):
            layer.reset_parameters(generators)

    def forward(self, states: Tensor, batch: GraphBatch) -> Tensor:
        """Map [M, N, F] to [M, B, F]."""
        rows = torch.cat([states, of_atoms(composition(batch, states.dtype), batch)], dim=-1)
        scores = self.score(F.softplus(self.outer(F.softplus(self.inner(rows)))))
        highest = of_atoms(max_over_atoms(scores.detach(), batch), batch)  # for the exponential's range only
        weights = torch.exp(scores - highest)
        return sum_over_atoms(weights * states, batch) / sum_over_atoms(weights, batch)


class Set2SetPool(nn.Module):
    """PyTorch Geometric's Set2Set, model by model."""

    def __init__(self, models: int, width: int) -> None:
        from torch_geometric.nn import Set2Set  # twice the time of torch itself, and most networks need none of it

        super().__init__()
        self._make = partial(Set2Set, width, SET2SET_STEPS)
        self.models, self.layer = models, stack(self._make(), models)

    def reset_parameters(self, generators: list[torch.Generator]) -> None:
        """Draw the weights, one generator per model."""
        draw(self.layer, self._make, generators)

    def forward(self, states: Tensor, batch: GraphBatch) -> Tensor:
        """Map [M, N, F] to [M, B, 2F]."""
        crystals = batch.atom_counts.shape[1]
        found = []
        for member, layer in enumerate(members(self.layer, self.models)):
            atoms = batch.real_atoms(member)
            found.append(layer(states[member, :atoms], batch.crystal[member, :atoms], None, crystals))
        return torch.stack(found)


POOLS: dict[str, type[AttentionPool | Set2SetPool]] = {"attention": AttentionPool, "set2set": Set2SetPool}


def pooled(kind: Readout, pool: nn.Module | None, state: State, reads: Sequence[str], batch: GraphBatch) -> Tensor:
    """Return what the head reads of every crystal: [M, B, C]."""
    plain = {"mean": mean_over_atoms, "sum": sum_over_atoms, "max": max_over_atoms}
    parts = [plain[kind](state.atoms, batch) if pool is None else pool(state.atoms, batch)]
    if "edges" in reads and state.edges is not None:
        parts.append(mean_over_atoms(mean_over_slots(state.edges, batch), batch))
    if "crystals" in reads and state.crystals is not None:
        parts.append(state.crystals)
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def composition(batch: GraphBatch, dtype: torch.dtype) -> Tensor:
    """Return the share of every element in each crystal: [M, B, 101], column Z for element Z."""
    return mean_over_atoms(F.one_hot(batch.atomic_numbers, ELEMENTS).to(dtype), batch)


def of_atoms(crystals: Tensor, batch: GraphBatch) -> Tensor:
    """Give every atom what its crystal has: [M, B, C] to [M, N, C]; padding atoms get that of the last crystal."""
    index = batch.crystal.clamp(max=crystals.shape[1] - 1)
    return crystals.gather(1, index[..., None].expand(-1, -1, crystals.shape[-1]))


def mean_over_slots(edges: Tensor, batch: GraphBatch) -> Tensor:
    """Average the real edges of every atom, 0 where there is none: [M, N, K, C] to [M, N, C]."""
    if batch.edge_mask is None:
        return edges.mean(dim=2)
    real = batch.edge_mask[..., None]
    return (edges * real).sum(dim=2) / real.sum(dim=2).clamp(min=1)


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
    """Draw what is random in a training step, from one generator per model.

    Returns the classification head's dropout [M, B, head], None for regression; for networks of one's own, which may
    draw anything, seeds int64 [M, 1].
    """
    if config.own:
        return torch.stack([torch.randint(2**62, (1,), generator=generator) for generator in generators])
    if config.task != "classification":
        return None
    draws = [torch.rand(crystals, config.head_channels, generator=generator) for generator in generators]
    return (torch.stack(draws) >= DROPOUT).float() / (1 - DROPOUT)
