"""The step of ALIGNN (Choudhary and DeCost, npj Comput. Mater. 7, 185 (2021)) in the order of its released code.

    h~, m  = EGGC(crystal graph; h, e)      atoms are nodes, bonds are edges
    e~, z~ = EGGC(line graph; m, z)         bonds are nodes, angles are edges

EGGC is the convolution of `eggc.py`. The line graph is the published one: bond (i, j) gets messages from every bond
(j, k), of its far end; the angle is that at j, the way back (k the same image of i) included. So a crystal of E bonds
has K E angles, each with a state of width F. The entry makes them of 40 radial functions of the cosine.

Nothing reads the bonds and angles after the last step, as in the released code without EGGC layers behind. The
published networks have as many of these as ALIGNN layers; here depth T is T ALIGNN layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.nn import functional as F

from srcgcnn.models.blocks.block import Block
from srcgcnn.models.blocks.eggc import LARGEST_DISTANCE_ANGSTROM, EdgeGatedConvolution, Radial, functions_of_edges
from srcgcnn.models.line_graph import bond_cosines
from srcgcnn.models.registry import ALIGNN_ANGLES, ALIGNN_DISTANCES
from srcgcnn.models.state import State

if TYPE_CHECKING:
    from srcgcnn.models.batch import FlatGraph
    from srcgcnn.models.config import ModelConfig
    from srcgcnn.models.line_graph import LineGraph
    from srcgcnn.models.norms import MemberNorms


class Entry(nn.Module):
    """First states of bonds and angles."""

    def __init__(self, config: ModelConfig) -> None:
        """Draw the weights."""
        super().__init__()
        self.edges = Radial(0.0, LARGEST_DISTANCE_ANGSTROM, ALIGNN_DISTANCES, config)
        self.angles = Radial(-1.0, 1.0, ALIGNN_ANGLES, config)

    def forward(self, graph: FlatGraph, state: State, norms: MemberNorms) -> State:
        """Return states of bonds [E, F] and angles [P, F] in addition to those of the atoms."""
        if graph.vectors is None:
            raise ValueError("ALIGNN needs vectors to neighbours, for angles; these graphs have distances only")
        cosines = bond_cosines(graph.vectors, graph.line.pairs)
        edges = self.edges(functions_of_edges(self.edges, graph), norms.edges_inner, norms.edges)
        angles = self.angles(self.angles.functions(cosines), norms.angles_inner, norms.angles)
        return State(F.silu(norms.atoms(state.atoms)), edges, angles=angles)


class LineGraphStep(Block):
    """One convolution on the crystal graph, then one on its line graph."""

    def __init__(self, config: ModelConfig) -> None:
        """Draw the weights."""
        super().__init__(config)
        self.crystal = EdgeGatedConvolution(config.hidden_channels)
        self.line = EdgeGatedConvolution(config.hidden_channels)

    def expand(self, graph: FlatGraph) -> LineGraph:
        """Return the line graph."""
        return graph.line

    def prepare(self, expanded: LineGraph) -> LineGraph:
        """Return the line graph: nothing else is the same for all steps."""
        return expanded

    def step(self, state: State, graph: FlatGraph, prepared: LineGraph, norms: MemberNorms) -> State:
        """Update atoms [N, F], bonds [E, F] and angles [P, F]."""
        if state.edges is None or state.angles is None:
            raise ValueError("ALIGNN needs states of bonds and angles: its entry makes them")
        atoms, bonds = self.crystal(state.atoms, state.edges, graph, norms.atoms, norms.edges)
        if self.own_residual:
            atoms, bonds = atoms + state.atoms, bonds + state.edges
        edges, angles = self.line(bonds, state.angles, prepared, norms.line_nodes, norms.line_edges)
        if self.own_residual:
            edges, angles = edges + bonds, angles + state.angles
        return State(atoms, edges, angles=angles)
