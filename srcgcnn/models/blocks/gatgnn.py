"""GATGNN's augmented graph attention (Louis et al., PCCP 22, 18141 (2020)), as MatDeepLearn has it.

    p_i, p_j = softplus([h_i ; e_ij] W), softplus([h_j ; e_ij] W)       one W for both ends, H heads of width F
    s_ij = softplus(norm(softplus(<a_h, [p_i ; p_j]_h>)))               norm over the H heads
    w_ij = softmax of s_ij over the edges of atom i
    h~_i = norm(mean_h sum_j w_ij p_j + b)

The messages hold the edge. Edge states come from the entry, LeakyReLU(Linear(Gaussians)), and stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from srcgcnn.data.graph import GAUSSIAN_COUNT
from srcgcnn.models.blocks.block import Block
from srcgcnn.models.gaussians import Gaussians
from srcgcnn.models.registry import GATGNN_HEADS
from srcgcnn.models.state import State

if TYPE_CHECKING:
    from srcgcnn.models.batch import FlatGraph
    from srcgcnn.models.config import ModelConfig
    from srcgcnn.models.norms import MemberNorms

SLOPE = 0.2  # of LeakyReLU


class Entry(nn.Module):
    """First states of the edges."""

    def __init__(self, config: ModelConfig) -> None:
        """Draw the weights."""
        super().__init__()
        self.edges = nn.Linear(GAUSSIAN_COUNT, config.hidden_channels)
        self.gaussians = Gaussians()

    def forward(self, graph: FlatGraph, state: State, norms: MemberNorms) -> State:  # noqa: ARG002
        """Return states of edges [E, F] in addition to those of the atoms, which get the same activation."""
        features = self.gaussians(graph.distances)
        return State(F.leaky_relu(state.atoms, SLOPE), F.leaky_relu(self.edges(features), SLOPE))


class Attention(Block):
    """One attention over the edges of every atom."""

    def __init__(self, config: ModelConfig) -> None:
        """Draw the weights."""
        super().__init__(config)
        width = config.hidden_channels
        self.weight = nn.Parameter(torch.empty(2 * width, GATGNN_HEADS * width))  # rows: atom, edge
        self.attention = nn.Parameter(torch.empty(GATGNN_HEADS, 2 * width))
        self.bias = nn.Parameter(torch.zeros(width))
        nn.init.xavier_uniform_(self.weight)
        nn.init.xavier_uniform_(self.attention)

    def step(self, state: State, graph: FlatGraph, prepared: None, norms: MemberNorms) -> State:  # noqa: ARG002
        """Attend: [N, F] to [N, F]."""
        if state.edges is None:
            raise ValueError("GATGNN needs states of edges: its entry makes them")
        width = self.config.hidden_channels
        of_atoms, of_edges = state.atoms @ self.weight[:width], state.edges @ self.weight[width:]
        own = F.softplus(graph.plus_centres(of_edges, of_atoms)).unflatten(1, (GATGNN_HEADS, width))
        other = F.softplus(graph.of_sources(of_atoms) + of_edges).unflatten(1, (GATGNN_HEADS, width))
        scores = (own * self.attention[:, :width]).sum(dim=2) + (other * self.attention[:, width:]).sum(dim=2)
        weights = graph.softmax_over_edges(F.softplus(norms.scores(F.softplus(scores))))  # [E, H]
        update = graph.sum_over_edges((weights[..., None] * other).mean(dim=1)) + self.bias
        return State(norms.atoms(state.atoms + update if self.own_residual else update), state.edges)
