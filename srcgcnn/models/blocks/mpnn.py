"""The message-passing network of Gilmer et al. (arXiv:1704.01212), one step of MatDeepLearn's form.

    m_i  = relu(norm(W h_i + b + mean_j A(e_ij) h_j)),   A(e) = reshape(Linear(relu(Linear(e))), F x F)
    h~_i = GRU(m_i, s_i),  s~_i = h~_i                  s_i is the GRU's memory; before the first step it is h_i

The original network is tied; MatDeepLearn's has an edge network and a GRU per layer. No matrix A is ever made: with
g = relu(Linear(e)), sum_j A(e_ij) h_j is a product of the weights of A with sum_j g_ij h_j^T.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from srcgcnn.data.graph import GAUSSIAN_COUNT
from srcgcnn.models.blocks.block import Block
from srcgcnn.models.gaussians import Gaussians
from srcgcnn.models.state import State

if TYPE_CHECKING:
    from srcgcnn.models.batch import FlatGraph
    from srcgcnn.models.config import ModelConfig
    from srcgcnn.models.norms import MemberNorms


class EdgeNetwork(Block):
    """One message of an edge network, and one update by a gated recurrent unit."""

    def __init__(self, config: ModelConfig) -> None:
        """Draw the weights."""
        super().__init__(config)
        width, edges = config.hidden_channels, config.edge_width
        self.edge_inner = nn.Linear(GAUSSIAN_COUNT, edges)
        self.edge_outer = nn.Linear(edges, width * width)  # rows: the matrix A row by row, [in, out]
        self.root = nn.Linear(width, width)
        self.update = nn.GRUCell(width, width)
        self.gaussians = Gaussians()

    def expand(self, graph: FlatGraph) -> Tensor:
        """Return Gaussians [E, 41]."""
        return self.gaussians(graph.distances)

    def prepare(self, expanded: Tensor) -> Tensor:
        """Return g with a last column of ones, for the bias of A: [E, C + 1]."""
        inner = torch.relu(self.edge_inner(expanded))
        return torch.cat([inner, inner.new_ones(len(inner), 1)], dim=1)

    def step(self, state: State, graph: FlatGraph, prepared: Tensor, norms: MemberNorms) -> State:
        """Pass messages and update: [N, F] to [N, F]."""
        width = self.config.hidden_channels
        pairs = graph.mean_of_products(prepared, graph.of_sources(state.atoms))  # [N, C + 1, F]
        weight = torch.cat([self.edge_outer.weight, self.edge_outer.bias[:, None]], dim=1)  # [F * F, C + 1]
        weight = weight.view(width, width, -1).permute(2, 0, 1).reshape(-1, width)  # [(C + 1) * F in, F out]
        message = self.root(state.atoms) + pairs.flatten(1) @ weight
        memory = state.atoms if state.memory is None else state.memory
        updated = self.update(torch.relu(norms.atoms(message)), memory)
        return State(updated, memory=updated)
