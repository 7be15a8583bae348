"""SchNet's interaction (arXiv:1706.08566), as PyTorch Geometric and MatDeepLearn have it.

    W_ij = Linear(ssp(Linear(e_ij))) * (cos(pi d_ij / cutoff) + 1) / 2        filters, which depend on no state
    v_i  = Linear(ssp(Linear(sum_j W_ij * (Linear_without_bias h)_j)))
    h~_i = norm(h_i + v_i)

ssp = softplus - ln 2. The cosine is zero beyond the cutoff; PyTorch Geometric lets it rise again.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srcgcnn.data.graph import GAUSSIAN_COUNT
from srcgcnn.models.blocks.block import Block
from srcgcnn.models.gaussians import Gaussians
from srcgcnn.models.state import State

if TYPE_CHECKING:
    from srcgcnn.models.batch import FlatGraph
    from srcgcnn.models.config import ModelConfig
    from srcgcnn.models.norms import MemberNorms

CUTOFF_ANGSTROM = 8.0


class Interaction(Block):
    """One interaction: continuous-filter convolution and two Linear layers."""

    def __init__(self, config: ModelConfig) -> None:
        """Draw the weights."""
        super().__init__(config)
        width, filters = config.hidden_channels, config.edge_width
        self.filter_inner = nn.Linear(GAUSSIAN_COUNT, filters)
        self.filter_outer = nn.Linear(filters, filters)
        self.inwards = nn.Linear(width, filters, bias=False)
        self.outwards = nn.Linear(filters, width)
        self.last = nn.Linear(width, width)
        self.gaussians = Gaussians()
        for layer in (self.filter_inner, self.filter_outer, self.inwards, self.outwards, self.last):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def expand(self, graph: FlatGraph) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return Gaussians [U, 41] and envelope [U, 1] of the distances that differ, and which each edge has."""
        distances, of_edges = graph.distinct
        envelope = 0.5 * (torch.cos(distances.clamp(max=CUTOFF_ANGSTROM) * (math.pi / CUTOFF_ANGSTROM)) + 1)
        return self.gaussians(distances), envelope[:, None], of_edges

    def prepare(self, expanded: tuple[Tensor, Tensor, Tensor | None]) -> Tensor:
        """Return the filters [E, filters]."""
        features, envelope, of_edges = expanded
        filters = after_shifted_softplus(self.filter_outer, self.filter_inner(features)) * envelope
        return filters if of_edges is None else filters.index_select(0, of_edges)

    def step(self, state: State, graph: FlatGraph, prepared: Tensor, norms: MemberNorms) -> State:
        """Interact: [N, F] to [N, F]."""
        messages = graph.of_sources(self.inwards(state.atoms)) * prepared
        update = after_shifted_softplus(self.last, self.outwards(graph.sum_over_edges(messages)))
        return State(norms.atoms(state.atoms + update if self.own_residual else update))


def after_shifted_softplus(linear: nn.Linear, rows: Tensor) -> Tensor:
    """Return linear(softplus(x) - ln 2): the shift, which makes 0 of 0, is taken to the bias, a pass over rows less."""
    bias = linear.bias - math.log(2.0) * linear.weight.sum(dim=1)
    return F.linear(F.softplus(rows), linear.weight, bias)
