"""The convolution of CGCNN, in the order of the released code (arXiv:2605.01304; PRL 120, 145301).

    g_ij = BN_edges(W [h_i ; h_j ; u_ij] + b)
    m_i  = BN_atoms(sum_j sigmoid(g_ij first half) * softplus(g_ij second half))
    h~_i = softplus(h_i + m_i)

`equations.py` holds the same once more, slow and obvious, as the oracle of the tests.

The Linear on [h_i ; h_j ; u_ij] is split in three: the centre and neighbour parts are products per atom, not per edge,
and the edge part does not depend on the state, so that tied steps share it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from srcgcnn.data.graph import GAUSSIAN_COUNT
from srcgcnn.models.blocks.block import StackedBlock
from srcgcnn.models.blocks.cgcnn.kernels.fused import FusedConvolution
from srcgcnn.models.blocks.cgcnn.kernels.native.library import NativeEdges, native_library
from srcgcnn.models.gaussians import Gaussians
from srcgcnn.models.stacked import StackedLinear, affine, take_rows
from srcgcnn.models.state import State

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Sequence

    from srcgcnn.models.backend import Backend
    from srcgcnn.models.batch import GraphBatch
    from srcgcnn.models.config import ModelConfig
    from srcgcnn.models.norms import NormSet
    from srcgcnn.models.stacked import StackedBatchNorm

DEEPEST_KEPT = 8  # native: up to here BatchNorm's sums are kept for the backward, 14 MB per step (batch 256)


class Convolution(StackedBlock):
    """The Linear 169 -> 128 of M models, and the step around it. Weight rows: centre, neighbour, Gaussians."""

    def __init__(self, models: int, config: ModelConfig, backend: Backend) -> None:
        """Make weights, unset."""
        super().__init__(config)
        hidden = config.hidden_channels
        linear = StackedLinear(models, 2 * hidden + GAUSSIAN_COUNT, 2 * hidden)
        self.weight, self.bias = linear.weight, linear.bias
        self._parts = [hidden, hidden, GAUSSIAN_COUNT]
        self._backend = backend
        self.gaussians = Gaussians()

    def reset_parameters(self, generators: Sequence[torch.Generator]) -> None:
        """Draw the weights, one generator per model."""
        StackedLinear.reset_parameters(self, list(generators))  # type: ignore[arg-type]

    def expand(self, graph: GraphBatch) -> Tensor | list[NativeEdges]:
        """Return the Gaussians [M, N*K, 41], or the edges as machine code reads them, one per model."""
        library = self._library(graph)
        if library is None:
            return self._gaussians_of(graph)
        with torch.no_grad():
            return [NativeEdges.of_member(graph, member, library) for member in range(len(self.weight))]

    def prepare(self, expanded: Tensor | list[NativeEdges]) -> Tensor | FusedConvolution:
        """Return the edge part of the Linear [M, N*K, 2F], or the convolution that needs none."""
        if isinstance(expanded, Tensor):
            return self._edge_part(expanded)
        recompute = self.config.depth > DEEPEST_KEPT
        return FusedConvolution(expanded, self.weight, self.bias, training=self.training, recompute=recompute)

    def step(self, state: State, graph: GraphBatch, prepared: Tensor | FusedConvolution, norms: NormSet) -> State:
        """Convolve: [M, N, F] to [M, N, F]."""
        states, norm = state.atoms, norms.edges
        # a frozen BatchNorm uses its running averages in training, which only the plain step knows
        if isinstance(prepared, FusedConvolution) and norm.training == self.training:
            summed = prepared.summed_messages(states, cast("StackedBatchNorm", norm))
        else:
            plain = prepared if isinstance(prepared, Tensor) else self._edge_part(self._gaussians_of(graph))
            summed = self._summed_messages(states, graph, plain, norms)
        messages = norms.atoms(summed, graph.atom_mask)
        return State(F.softplus(states + messages if self.own_residual else messages))

    def _summed_messages(self, states: Tensor, graph: GraphBatch, edge_part: Tensor, norms: NormSet) -> Tensor:
        """Sum the gated messages of the neighbours, in plain operators: [M, N, F] to [M, N, F]."""
        edge_mask = None if graph.edge_mask is None else graph.edge_mask.flatten(1)
        gates = norms.edges(self._projected(states, edge_part, graph), edge_mask)
        gate, core = gates.chunk(2, dim=-1)
        messages = torch.sigmoid(gate) * F.softplus(core)
        if edge_mask is not None:
            messages = messages * edge_mask[..., None]
        return messages.view(*graph.neighbours.shape, -1).sum(dim=2)

    def _projected(self, states: Tensor, edge_part: Tensor, graph: GraphBatch) -> Tensor:
        """Return W [h_i ; h_j ; u_ij] + b for all edges: [M, N*K, 2F]."""
        centre_weight, neighbour_weight, _ = self.weight.split(self._parts, dim=1)
        centre = affine(self.bias, states, centre_weight)
        neighbour = take_rows(torch.bmm(states, neighbour_weight).to(states.dtype), graph.neighbours)
        edges = neighbour + edge_part.view_as(neighbour) + centre[:, :, None]
        return edges.flatten(1, 2)

    def _edge_part(self, gaussians: Tensor) -> Tensor:
        """Project the Gaussians: [M, N*K, 41] to [M, N*K, 2F]."""
        return torch.bmm(gaussians, self.weight.split(self._parts, dim=1)[2]).to(gaussians.dtype)

    def _gaussians_of(self, graph: GraphBatch) -> Tensor:
        """Expand distances [M, N, K]: [M, N*K, 41]; zero for masked edges."""
        return cast("Tensor", self.gaussians(graph.distances.flatten(1)))

    def _library(self, graph: GraphBatch) -> ctypes.CDLL | None:
        """Return the machine code if it can be used: float32 on the CPU, with BatchNorm, and a gradient or none."""
        device = graph.distances.device.type
        if self._backend != "native" or device != "cpu" or graph.distances.dtype != torch.float32:
            return None
        # in training it takes the batch's statistics, otherwise it has no gradient
        differentiated = torch.is_grad_enabled() and (not self.training or graph.distances.requires_grad)
        if torch.is_autocast_enabled(device) or differentiated or self.config.norm_kind != "batch":
            return None
        return native_library(self.config.hidden_channels)
