"""Parameters of the networks of the literature in their own sizes, as their papers count them. No torch here.

Our networks have the same layers in other sizes (92 features of an element, 41 of a distance, widths of a sweep), so
the closed forms are the same: these rows say which sizes, and what else the published numbers hold. Numbers of Omee et
al. (Patterns 3, 100491 (2022)) are for the demonstration settings of its code, a fork of MatDeepLearn; those of ALIGNN
(npj Comput. Mater. 7, 185 (2021)) of its released code.
"""

from __future__ import annotations

from dataclasses import dataclass

from srcgcnn.models.config import ModelConfig
from srcgcnn.models.counts import Inputs, count_parameters
from srcgcnn.models.published import settings_of
from srcgcnn.models.registry import linear

# 100 elements and 14 degrees; shares of 108 elements
MATDEEPLEARN = Inputs(atom_features=114, edge_features=50, elements=108)
ALIGNN_ANGLE_ENTRY = 19_904  # embedding of angles: 40 -> 64 -> 256, with its norms


@dataclass(frozen=True)
class PublishedSizes:
    """One network of the literature.

    Attributes:
        name: by which it can be requested here.
        width: of the atom states.
        edge_width: of what a block makes of edges.
        head: widths of the readout's hidden layers.
        inputs: what it is given.
        readout: how it pools atoms, if that has weights.
        extra: weights that our network has and the published one lacks.
        unused: weights that the published number includes and nothing reads.
        unused_per_layer: the same, of every layer.
        behind: another block, of which as many layers follow as the network has.
    """

    name: str
    width: int
    edge_width: int
    head: tuple[int, ...]
    inputs: Inputs = MATDEEPLEARN
    readout: str = "mean"
    extra: int = 0
    unused: int = 0
    unused_per_layer: int = 0
    behind: str = ""

    def network(self, layers: int) -> ModelConfig:
        """Return the network of so many layers, stacked."""
        settings = settings_of(self.name) | {"readout": self.readout, "depth": layers}
        return ModelConfig(**settings, hidden_channels=self.width, edge_channels=self.edge_width)

    def label(self, layers: int) -> str:
        """Human-readable name, such as `DeeperGATGNN-30` or `ALIGNN-4 + EGGC-4`."""
        own = ModelConfig(**settings_of(self.name), depth=layers)
        return f"{own.label} + {ModelConfig(self.behind, layers).label}" if self.behind else own.label

    def count(self, layers: int, *, unused: bool = True) -> int:
        """Count all parameters, with or without those that nothing reads."""
        found = count_parameters(self.network(layers), self.inputs, self.head).total - self.extra
        if self.behind:
            behind = ModelConfig(self.behind, layers, hidden_channels=self.width, edge_channels=self.edge_width)
            found += count_parameters(behind).convolution
        return found + (self.unused + self.unused_per_layer * layers if unused else 0)


_CGCNN = Inputs()
# CGConv of that time made a BatchNorm that it did not use; the attention three norms. The first layer of MEGNet takes
# the features of edges and crystals instead of states, where ours has a Linear to make states of them.
_UNUSED_IN_CGCONV = 2 * 100
_MEGNET_ENTRY = 2 * linear(100, 100)
PUBLISHED_SIZES: dict[str, PublishedSizes] = {
    row.name: row
    for row in (
        PublishedSizes("cgcnn", 64, 64, (128,), _CGCNN),
        PublishedSizes("srcgcnn", 64, 64, (128,), _CGCNN),
        PublishedSizes("schnet", 100, 150, (100,) * 3),
        PublishedSizes("deeperschnet", 100, 150, (100,) * 3),
        PublishedSizes("cgconv", 100, 100, (150,) * 3, unused_per_layer=_UNUSED_IN_CGCONV),
        PublishedSizes("deepercgcnn", 100, 100, (150,) * 3, unused_per_layer=_UNUSED_IN_CGCONV),
        PublishedSizes("mpnn", 100, 100, (100,) * 3),
        PublishedSizes("deepermpnn", 100, 100, (100,) * 3),
        PublishedSizes("megnet", 100, 100, (100,) * 3, extra=_MEGNET_ENTRY),
        PublishedSizes("deepermegnet", 100, 100, (100,) * 3, extra=_MEGNET_ENTRY),
        PublishedSizes("gatgnn", 64, 64, (), readout="attention", unused=3 * 2 * 64),
        PublishedSizes("deepergatgnn", 64, 64, (), readout="attention", unused=3 * 30 * 64),
        PublishedSizes("alignn", 256, 64, (), _CGCNN, behind="eggc"),
        PublishedSizes("eggc", 256, 64, (), _CGCNN, unused=ALIGNN_ANGLE_ENTRY),
    )
}
