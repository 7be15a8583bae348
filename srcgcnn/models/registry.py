"""Every network that can be asked for by name: its block, and how the block becomes depth. No torch here.

A new block is one file in `blocks/` and one line here (docs/models.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

EDGE_FEATURES = 41  # Gaussians of a distance (srcgcnn.data.graph.GAUSSIAN_COUNT)


class Widths(Protocol):
    """What of a `ModelConfig` decides the sizes of a block."""

    @property
    def hidden_channels(self) -> int:
        """F, width of the atom states."""

    @property
    def edge_width(self) -> int:
        """Width of what a block makes of edges."""


@dataclass(frozen=True)
class BlockSpec:
    """One message-passing step, as far as plans and counts need to know it.

    Attributes:
        title: name for people, such as `SchNet`.
        where: `module:Class` of the step (a `srcgcnn.models.blocks.block.Block`).
        weights: trainable numbers of one block, without the norms.
        norms: name and width of everything that a step wants normalised.
        own_residual: whether the published step adds its input to its result by itself.
        model_axis: whether the step works on [M, ...] tensors of M models at once; others are run model by model.
        backends: how it can be computed, beside inductor (`models/backend.py`).
        entry: `module:Class` of what embeds edges and crystals once, before the first step; "" for none.
        entry_weights: trainable numbers of it.
        needs: parts of a graph beyond distances: `vectors`.
    """

    title: str
    where: str
    weights: Callable[[Widths], int]
    norms: Callable[[Widths], dict[str, int]]
    own_residual: bool = True
    model_axis: bool = False
    backends: tuple[str, ...] = ("plain",)
    entry: str = ""
    entry_weights: Callable[[Widths], int] = field(default=lambda _: 0)
    needs: tuple[str, ...] = ()


def _cgcnn(config: Widths) -> int:
    width = config.hidden_channels
    return linear(2 * width + EDGE_FEATURES, 2 * width)


def _schnet(config: Widths) -> int:
    width, filters = config.hidden_channels, config.edge_width
    filter_network = linear(EDGE_FEATURES, filters) + linear(filters, filters)
    return filter_network + width * filters + linear(filters, width) + linear(width, width)


def linear(inputs: int, outputs: int) -> int:
    """Count the weights and biases of a Linear."""
    return (inputs + 1) * outputs


def on_atoms(config: Widths) -> dict[str, int]:
    """One norm, on the states of the atoms: what most blocks want."""
    return {"atoms": config.hidden_channels}


def _on_edges_and_atoms(config: Widths) -> dict[str, int]:
    return {"edges": 2 * config.hidden_channels, "atoms": config.hidden_channels}


_BLOCKS = "srcgcnn.models.blocks"
BLOCKS: dict[str, BlockSpec] = {
    "cgcnn": BlockSpec(
        "CGCNN",
        f"{_BLOCKS}.cgcnn.block:Convolution",
        _cgcnn,
        _on_edges_and_atoms,
        model_axis=True,
        backends=("plain", "native"),
    ),
    "schnet": BlockSpec("SchNet", f"{_BLOCKS}.schnet:Interaction", _schnet, on_atoms),
}

# The tied form of CGCNN has the name of its paper; that of any other block is the block with `blocks = 1`.
TIED = {"srcgcnn": "cgcnn"}
FAMILIES = (*TIED, *BLOCKS)


def block_of(family: str) -> BlockSpec:
    """Return the block of a family.

    Raises:
        ValueError: there is no such family.
    """
    name = TIED.get(family, family)
    if name not in BLOCKS:
        raise ValueError(f"model {family!r} is unknown; known: {', '.join(FAMILIES)}")
    return BLOCKS[name]
