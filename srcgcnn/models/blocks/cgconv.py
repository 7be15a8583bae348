"""The convolution of CGCNN as MatDeepLearn has it (PyTorch Geometric's CGConv): what DeeperCGCNN is built on.

    z_ij = [h_i ; h_j ; e_ij]
    h~_i = norm(h_i + mean_j sigmoid(W_f z_ij + b_f) * softplus(W_s z_ij + b_s))

Other than in CGCNN's paper, messages are averaged, edges are not normalised, and no softplus follows the residual.
"""

from __future__ import annotations

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


class GatedConvolution(Block):
    """One convolution. The two Linear layers on z are one: the products with h are taken per atom, not per edge."""

    def __init__(self, config: ModelConfig) -> None:
        """Draw the weights."""
        super().__init__(config)
        width = config.hidden_channels
        self.gates = nn.Linear(2 * width + GAUSSIAN_COUNT, 2 * width)  # columns: h_i, h_j, e_ij; rows: f, s
        self.gaussians = Gaussians()

    def expand(self, graph: FlatGraph) -> Tensor:
        """Return Gaussians [E, 41]."""
        return self.gaussians(graph.distances)

    def prepare(self, expanded: Tensor) -> Tensor:
        """Return the edge part of both products: [E, 2F]."""
        return F.linear(expanded, self.gates.weight[:, 2 * self.config.hidden_channels :])

    def step(self, state: State, graph: FlatGraph, prepared: Tensor, norms: MemberNorms) -> State:
        """Convolve: [N, F] to [N, F]."""
        width = self.config.hidden_channels
        of_centre = F.linear(state.atoms, self.gates.weight[:, :width], self.gates.bias)
        of_neighbour = F.linear(state.atoms, self.gates.weight[:, width : 2 * width])
        both = graph.plus_centres(graph.of_sources(of_neighbour) + prepared, of_centre)
        gate, core = both.chunk(2, dim=1)
        update = graph.mean_over_edges(torch.sigmoid(gate) * F.softplus(core))
        return State(norms.atoms(state.atoms + update if self.own_residual else update))
