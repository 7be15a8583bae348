"""Every network that can be requested by name: its block, and how the block becomes depth. No torch here.

A new block is one file in `blocks/` and one line here (docs/blocks.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING

from srcgcnn.models.own import is_own

if TYPE_CHECKING:
    from collections.abc import Callable

GATGNN_HEADS = 4
CRYSTAL_FEATURES = 3  # of MEGNet, all zero: MatDeepLearn has a place for features of a crystal and puts nothing there
ALIGNN_DISTANCES, ALIGNN_ANGLES = 80, 40  # radial functions of a distance and of the cosine of an angle
EDGE_FEATURES = 41  # Gaussians of a distance (srcgcnn.data.graph.GAUSSIAN_COUNT)


@dataclass(frozen=True)
class Sizes:
    """What decides the sizes of a block.

    Attributes:
        hidden_channels: F, width of the atom states.
        edge_width: width of what a block makes of edges.
        edge_features: Gaussians of a distance; other numbers only if a network of the literature is counted.
    """

    hidden_channels: int
    edge_width: int
    edge_features: int = EDGE_FEATURES


@dataclass(frozen=True)
class BlockSpec:
    """One message-passing step, as far as plans and counts need to know it.

    Attributes:
        title: name in readable form, such as `SchNet`.
        where: `module:Class` of the step (a `srcgcnn.models.blocks.block.Block`).
        weights: trainable numbers of one block, without the norms.
        norms: name and width of everything that a step wants normalised.
        own_residual: whether the published step adds its input to its result by itself.
        model_axis: whether the step works on [M, ...] tensors of M models at once; others are run model by model.
        backends: how it can be computed, besides inductor (`models/backend.py`).
        entry: `module:Class` of what embeds edges and crystals once, before the first step; "" for none.
        entry_weights: trainable numbers of it, without its norms.
        entry_norms: name and width of everything that the entry wants normalised.
        needs: parts of a graph beyond distances: `vectors`.
        always_batch: names of norms that are BatchNorm whatever `norm_kind` says of the others.
        inner_skips: whether `inner_skip` means something for it.
        reads: states that the readout takes: `atoms`, and with them `edges` and `crystals` if they are an outcome.
        one_step: what is to be known of a network of one such step before it is judged; "" for nothing.
    """

    title: str
    where: str
    weights: Callable[[Sizes], int]
    norms: Callable[[Sizes], dict[str, int]]
    own_residual: bool = True
    model_axis: bool = False
    backends: tuple[str, ...] = ("plain",)
    entry: str = ""
    entry_weights: Callable[[Sizes], int] = field(default=lambda _: 0)
    entry_norms: Callable[[Sizes], dict[str, int]] = field(default=lambda _: {})
    needs: tuple[str, ...] = ()
    always_batch: tuple[str, ...] = ()
    inner_skips: bool = False
    reads: tuple[str, ...] = ("atoms",)
    one_step: str = ""

    @cached_property
    def reads_edge_width(self) -> bool:
        """Whether `edge_channels` changes anything about it."""
        narrow, wide = Sizes(1, 1), Sizes(1, 2)
        sizes = (self.weights, self.norms, self.entry_weights, self.entry_norms)
        return any(size(narrow) != size(wide) for size in sizes)


def _cgcnn(sizes: Sizes) -> int:
    width = sizes.hidden_channels
    return linear(2 * width + sizes.edge_features, 2 * width)


def _schnet(sizes: Sizes) -> int:
    width, filters = sizes.hidden_channels, sizes.edge_width
    filter_network = linear(sizes.edge_features, filters) + linear(filters, filters)
    return filter_network + width * filters + linear(filters, width) + linear(width, width)


def _cgconv(sizes: Sizes) -> int:
    width = sizes.hidden_channels
    return 2 * linear(2 * width + sizes.edge_features, width)


def _mpnn(sizes: Sizes) -> int:
    width, edges = sizes.hidden_channels, sizes.edge_width
    edge_network = linear(sizes.edge_features, edges) + linear(edges, width * width)
    return edge_network + linear(width, width) + 6 * linear(width, width)  # the last: a GRU has six products


def _megnet(sizes: Sizes) -> int:
    width = sizes.hidden_channels
    embeddings = 6 * linear(width, width)
    return embeddings + sum(linear(inputs * width, width) + linear(width, width) for inputs in (4, 3, 3))


def _megnet_entry(sizes: Sizes) -> int:
    return linear(sizes.edge_features, sizes.hidden_channels) + linear(CRYSTAL_FEATURES, sizes.hidden_channels)


def _gatgnn(sizes: Sizes) -> int:
    width = sizes.hidden_channels
    return 2 * width * GATGNN_HEADS * width + GATGNN_HEADS * 2 * width + width


def _gatgnn_entry(sizes: Sizes) -> int:
    return linear(sizes.edge_features, sizes.hidden_channels)


def _eggc(sizes: Sizes) -> int:
    return 5 * linear(sizes.hidden_channels, sizes.hidden_channels)


def _eggc_entry(sizes: Sizes) -> int:
    return linear(ALIGNN_DISTANCES, sizes.edge_width) + linear(sizes.edge_width, sizes.hidden_channels)


def _alignn_entry(sizes: Sizes) -> int:
    angles = linear(ALIGNN_ANGLES, sizes.edge_width) + linear(sizes.edge_width, sizes.hidden_channels)
    return _eggc_entry(sizes) + angles


def linear(inputs: int, outputs: int) -> int:
    """Count the weights and biases of a Linear."""
    return (inputs + 1) * outputs


def on_atoms(sizes: Sizes) -> dict[str, int]:
    """One norm, on the states of the atoms: what most blocks want."""
    return {"atoms": sizes.hidden_channels}


def _on_everything_twice(sizes: Sizes) -> dict[str, int]:
    parts = ("edges", "atoms", "crystals")
    return {f"{part}{layer}": sizes.hidden_channels for part in parts for layer in ("_inner", "")}


def _on_scores_and_atoms(sizes: Sizes) -> dict[str, int]:
    return {"scores": GATGNN_HEADS, "atoms": sizes.hidden_channels}


def _on_edges_and_atoms(sizes: Sizes) -> dict[str, int]:
    return {"edges": 2 * sizes.hidden_channels, "atoms": sizes.hidden_channels}


def _on_both(sizes: Sizes) -> dict[str, int]:
    return {"atoms": sizes.hidden_channels, "edges": sizes.hidden_channels}


def _on_both_graphs(sizes: Sizes) -> dict[str, int]:
    return {**_on_both(sizes), "line_nodes": sizes.hidden_channels, "line_edges": sizes.hidden_channels}


def _on_eggc_entry(sizes: Sizes) -> dict[str, int]:
    width = sizes.hidden_channels
    return {"atoms": width, "edges_inner": sizes.edge_width, "edges": width}


def _on_alignn_entry(sizes: Sizes) -> dict[str, int]:
    return {**_on_eggc_entry(sizes), "angles_inner": sizes.edge_width, "angles": sizes.hidden_channels}


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
    "cgconv": BlockSpec("CGConv", f"{_BLOCKS}.cgconv:GatedConvolution", _cgconv, on_atoms),
    "schnet": BlockSpec("SchNet", f"{_BLOCKS}.schnet:Interaction", _schnet, on_atoms),
    "mpnn": BlockSpec("MPNN", f"{_BLOCKS}.mpnn:EdgeNetwork", _mpnn, on_atoms, own_residual=False),
    "megnet": BlockSpec(
        "MEGNet",
        f"{_BLOCKS}.megnet:GraphNetwork",
        _megnet,
        _on_everything_twice,
        entry=f"{_BLOCKS}.megnet:Entry",
        entry_weights=_megnet_entry,
        inner_skips=True,
        reads=("atoms", "edges", "crystals"),
    ),
    "gatgnn": BlockSpec(
        "GATGNN",
        f"{_BLOCKS}.gatgnn:Attention",
        _gatgnn,
        _on_scores_and_atoms,
        own_residual=False,
        entry=f"{_BLOCKS}.gatgnn:Entry",
        entry_weights=_gatgnn_entry,
        always_batch=("scores",),
    ),
    "eggc": BlockSpec(
        "EGGC",
        f"{_BLOCKS}.eggc:EdgeGatedStep",
        _eggc,
        _on_both,
        entry=f"{_BLOCKS}.eggc:Entry",
        entry_weights=_eggc_entry,
        entry_norms=_on_eggc_entry,
    ),
    "alignn": BlockSpec(
        "ALIGNN",
        f"{_BLOCKS}.alignn:LineGraphStep",
        lambda sizes: 2 * _eggc(sizes),
        _on_both_graphs,
        entry=f"{_BLOCKS}.alignn:Entry",
        entry_weights=_alignn_entry,
        entry_norms=_on_alignn_entry,
        needs=("vectors",),
        one_step="ALIGNN with one step uses no angles: they reach the atoms with the crystal graph of the next step.",
    ),
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
    if is_own(name):
        return _own_block(name)
    if name not in BLOCKS:
        raise ValueError(f"model {family!r} is unknown; known: {', '.join(FAMILIES)}, or your own: module:Class")
    return BLOCKS[name]


@cache
def _own_block(name: str) -> BlockSpec:
    """Stand for a network of one's own, which has no block: nothing is imported for it."""
    return BlockSpec(name.partition(":")[2], "", _counted_when_built, lambda _: {}, needs=("vectors",))


def _counted_when_built(_: Sizes) -> int:
    raise ValueError("the weights of a network of one's own are counted when it is built")
