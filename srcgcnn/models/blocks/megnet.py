"""MEGNet's step (Chen et al., Chem. Mater. 31, 3564 (2019)) in MatDeepLearn's form: edges, atoms and the crystal.

    e', h', u' = each by its own two Linear layers with relu      of edges, atoms and crystals, width F
    e~_ij = E([h'_j ; h'_i ; e'_ij ; u'])
    h~_i  = A([h'_i ; mean_j e~_ij ; u'])
    u~    = C([mean over edges e~ ; mean over atoms h~ ; u'])

E, A and C are two times Linear, relu, norm; with `inner_skip`, as in DeeperMEGNet, the first of the two is added to the
second. The step adds its un-embedded inputs to its results. Before the first step,
the entry makes edge states of the Gaussians by Linear and relu, and the crystal's of nothing: a learned constant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srcgcnn.data.graph import GAUSSIAN_COUNT
from srcgcnn.models.blocks.block import Block
from srcgcnn.models.gaussians import Gaussians
from srcgcnn.models.registry import CRYSTAL_FEATURES
from srcgcnn.models.state import State

if TYPE_CHECKING:
    from srcgcnn.models.batch import FlatGraph
    from srcgcnn.models.config import ModelConfig
    from srcgcnn.models.norms import MemberNorm, MemberNorms


class Entry(nn.Module):
    """First states of edges and crystals."""

    def __init__(self, config: ModelConfig) -> None:
        """Draw the weights."""
        super().__init__()
        self.edges = nn.Linear(GAUSSIAN_COUNT, config.hidden_channels)
        self.crystals = nn.Linear(CRYSTAL_FEATURES, config.hidden_channels)
        self.gaussians = Gaussians()

    def forward(self, graph: FlatGraph, state: State, norms: MemberNorms) -> State:  # noqa: ARG002
        """Return states of edges [E, F] and crystals [B, F] in addition to those of the atoms."""
        features = self.gaussians(graph.distances)
        nothing = features.new_zeros(len(graph.atom_counts), CRYSTAL_FEATURES)
        return State(state.atoms, torch.relu(self.edges(features)), torch.relu(self.crystals(nothing)))


class Embedding(nn.Module):
    """Two times Linear and relu."""

    def __init__(self, width: int) -> None:
        """Draw the weights."""
        super().__init__()
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, rows: Tensor) -> Tensor:
        """Map [R, F] to [R, F]."""
        return torch.relu(self.outer(torch.relu(self.inner(rows))))


class Update(nn.Module):
    """Two times Linear, relu and norm, with or without a skip over the second."""

    def __init__(self, inputs: int, config: ModelConfig) -> None:
        """Draw the weights."""
        super().__init__()
        width = config.hidden_channels
        self.skip = config.inner_skip
        self.inner, self.outer = nn.Linear(inputs, width), nn.Linear(width, width)

    def forward(self, rows: Tensor, inner_norm: MemberNorm, outer_norm: MemberNorm) -> Tensor:
        """Map [R, inputs] to [R, F]."""
        return self.finished(self.inner(rows), inner_norm, outer_norm)

    def finished(self, rows: Tensor, inner_norm: MemberNorm, outer_norm: MemberNorm) -> Tensor:
        """Do what follows the first Linear."""
        inner = inner_norm(torch.relu(rows))
        outer = outer_norm(torch.relu(self.outer(inner)))
        return outer + inner if self.skip else outer


class GraphNetwork(Block):
    """One update of edges, atoms and crystals."""

    def __init__(self, config: ModelConfig) -> None:
        """Draw the weights."""
        super().__init__(config)
        width = config.hidden_channels
        self.embed_edges, self.embed_atoms, self.embed_crystals = (Embedding(width) for _ in range(3))
        self.update_edges, self.update_atoms = Update(4 * width, config), Update(3 * width, config)
        self.update_crystals = Update(3 * width, config)

    def step(self, state: State, graph: FlatGraph, prepared: None, norms: MemberNorms) -> State:  # noqa: ARG002
        """Update all three: [E, F], [N, F], [B, F]."""
        if state.edges is None or state.crystals is None:
            raise ValueError("MEGNet needs states of edges and crystals: its entry makes them")
        edges, atoms = self.embed_edges(state.edges), self.embed_atoms(state.atoms)
        crystals = self.embed_crystals(state.crystals)
        rows = self._edge_rows(atoms, edges, crystals, graph)
        edges = self.update_edges.finished(rows, norms.edges_inner, norms.edges)
        of_atom = crystals.index_select(0, graph.crystal)
        edges_of_atom = graph.mean_over_edges(edges)
        rows = torch.cat([atoms, edges_of_atom, of_atom], dim=1)
        atoms = self.update_atoms(rows, norms.atoms_inner, norms.atoms)
        means = [graph.mean_over_atoms(edges_of_atom), graph.mean_over_atoms(atoms)]
        crystals = self.update_crystals(torch.cat([*means, crystals], dim=1), norms.crystals_inner, norms.crystals)
        after = State(atoms, edges, crystals)
        return after.plus(state) if self.own_residual else after

    def _edge_rows(self, atoms: Tensor, edges: Tensor, crystals: Tensor, graph: FlatGraph) -> Tensor:
        """Return E's first Linear of [h'_j ; h'_i ; e'_ij ; u']: what atoms and crystals have is not taken per edge."""
        width, linear = self.config.hidden_channels, self.update_edges.inner
        source, centre, edge, crystal = linear.weight.split(width, dim=1)
        of_centre = F.linear(atoms, centre) + F.linear(crystals, crystal, linear.bias).index_select(0, graph.crystal)
        return graph.plus_centres(F.linear(edges, edge) + graph.of_sources(F.linear(atoms, source)), of_centre)
