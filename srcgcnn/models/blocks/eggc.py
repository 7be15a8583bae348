"""The edge-gated graph convolution of ALIGNN (Choudhary and DeCost, npj Comput. Mater. 7, 185 (2021)), without angles.

    m_ij = A x_i + B x_j + C y_ij                                       nodes x, edges y; A .. V: Linear with bias
    s_ij = sigmoid(m_ij)
    x~_i = x_i + SiLU(norm(U x_i + sum_j s_ij * V x_j / (sum_j s_ij + 1e-6)))
    y~_ij = y_ij + SiLU(norm(m_ij))

Products are element by element. Before the first step, the entry makes atoms SiLU(norm(h)), and edges of 80 radial
functions exp(-g (d - c)^2), c = 0 .. 8 angstrom, by two times Linear, norm, SiLU. As released, g is one over the
spacing of the centres, not over its square: the functions are wide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srcgcnn.models.blocks.block import Block
from srcgcnn.models.gaussians import decayed
from srcgcnn.models.registry import ALIGNN_DISTANCES
from srcgcnn.models.state import State

if TYPE_CHECKING:
    from srcgcnn.models.batch import FlatGraph
    from srcgcnn.models.config import ModelConfig
    from srcgcnn.models.line_graph import LineGraph
    from srcgcnn.models.norms import MemberNorm, MemberNorms

LARGEST_DISTANCE_ANGSTROM = 8.0
SMALLEST_GATE = 1e-6


class EdgeGatedConvolution(nn.Module):
    """One convolution, on the crystal graph or on its line graph."""

    def __init__(self, width: int) -> None:
        """Draw the weights. Products of the same rows are one Linear: they are taken per node and gathered together."""
        super().__init__()
        self.centre = nn.Linear(width, 2 * width)  # rows: A, U
        self.source = nn.Linear(width, 2 * width)  # rows: B, V
        self.edge = nn.Linear(width, width)  # C

    def forward(
        self, nodes: Tensor, edges: Tensor, graph: FlatGraph | LineGraph, of_nodes: MemberNorm, of_edges: MemberNorm
    ) -> tuple[Tensor, Tensor]:
        """Return what is added to nodes [R, F] and edges [E, F]."""
        gate_of_centre, own = self.centre(nodes).chunk(2, dim=1)
        gate_of_source, message = self.source(nodes).chunk(2, dim=1)
        gates = graph.plus_centres(self.edge(edges) + graph.of_sources(gate_of_source), gate_of_centre)
        shares = torch.sigmoid(gates)
        messages = shares * graph.of_sources(message)
        update = graph.sum_over_edges(messages) / (graph.sum_over_edges(shares) + SMALLEST_GATE)
        return F.silu(of_nodes(own + update)), F.silu(of_edges(gates))


class Radial(nn.Module):
    """Radial functions at even spacings, and two times Linear, norm, SiLU."""

    centres: Tensor

    def __init__(self, first: float, last: float, count: int, config: ModelConfig) -> None:
        """Draw the weights."""
        super().__init__()
        self.sharpness = (count - 1) / (last - first)
        self.inner = nn.Linear(count, config.edge_width)
        self.outer = nn.Linear(config.edge_width, config.hidden_channels)
        self.register_buffer("centres", torch.linspace(first, last, count), persistent=False)

    def functions(self, values: Tensor) -> Tensor:
        """Map [R] to the radial functions [R, count]."""
        return decayed(self.sharpness * (values[:, None] - self.centres).square())

    def forward(self, functions: Tensor, inner_norm: MemberNorm, outer_norm: MemberNorm) -> Tensor:
        """Map [R, count] to [R, F]."""
        return F.silu(outer_norm(self.outer(F.silu(inner_norm(self.inner(functions))))))


def functions_of_edges(radial: Radial, graph: FlatGraph) -> Tensor:
    """Return the radial functions of all distances [E, count], each computed once for each distance that differs."""
    distances, of_edges = graph.distinct
    functions = radial.functions(distances)
    return functions if of_edges is None else functions.index_select(0, of_edges)


class Entry(nn.Module):
    """First states of the edges."""

    def __init__(self, config: ModelConfig) -> None:
        """Draw the weights."""
        super().__init__()
        self.edges = Radial(0.0, LARGEST_DISTANCE_ANGSTROM, ALIGNN_DISTANCES, config)

    def forward(self, graph: FlatGraph, state: State, norms: MemberNorms) -> State:
        """Return states of edges [E, F] in addition to those of the atoms."""
        edges = self.edges(functions_of_edges(self.edges, graph), norms.edges_inner, norms.edges)
        return State(F.silu(norms.atoms(state.atoms)), edges)


class EdgeGatedStep(Block):
    """One convolution on the crystal graph."""

    def __init__(self, config: ModelConfig) -> None:
        """Draw the weights."""
        super().__init__(config)
        self.crystal = EdgeGatedConvolution(config.hidden_channels)

    def step(self, state: State, graph: FlatGraph, prepared: None, norms: MemberNorms) -> State:  # noqa: ARG002
        """Update atoms [N, F] and edges [E, F]."""
        if state.edges is None:
            raise ValueError("EGGC needs states of edges: its entry makes them")
        after = State(*self.crystal(state.atoms, state.edges, graph, norms.atoms, norms.edges))
        return after.plus(state) if self.own_residual else after
