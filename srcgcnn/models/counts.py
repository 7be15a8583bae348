"""Exact parameter counts in closed form, without building a network (and without torch)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from srcgcnn.data.elements import ELEMENT_FEATURES, LARGEST_ATOMIC_NUMBER
from srcgcnn.models.registry import EDGE_FEATURES, linear

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from srcgcnn.models.config import ModelConfig

ELEMENTS = LARGEST_ATOMIC_NUMBER + 1
# Weights of a norm for every channel: weight and bias; group normalisation has both for each of 10 groups, and shares
# rows out with 10 more
PER_CHANNEL = {"batch": 2, "layer": 2, "group": 30}


@dataclass(frozen=True)
class ParameterCounts:
    """Trainable numbers of one network.

    Attributes:
        convolution: the blocks, their norms and what corrects them, as the paper of SR-CGCNN counts them.
        total: everything: also embedding, readout, learned alpha and LayerNorm.
    """

    convolution: int
    total: int


LEARNED_READOUTS = ("attention", "set2set")


def body_layout(config: ModelConfig) -> dict[str, int | str]:
    """Return what decides the shapes of all weights before the head."""
    return {
        "block": config.block.title,
        "hidden_channels": config.hidden_channels,
        "edge_channels": config.edge_width,
        "blocks": config.distinct_blocks,
        "norm sets": config.norm_sets,
        "sets of statistics": config.depth if config.norm == "affine" and config.varies_steps else config.norm_sets,
        "norm kind": config.norm_kind,
        "correction": config.correction,
        "corrected steps": config.depth if config.correction != "none" else 0,
        "pooling": config.readout if config.readout in LEARNED_READOUTS else "without weights",
        "learned alphas": learned_alphas(config),
        "LayerNorms": int(config.layer_norm),
    }


def head_layout(config: ModelConfig) -> dict[str, int]:
    """Return what decides the shapes of the readout's weights."""
    return {
        "head_channels": config.head_channels,
        "head_layers": config.head_layers,
        "outputs": config.outputs if config.task == "regression" else 2,
    }


@dataclass(frozen=True)
class Inputs:
    """What networks are given, as far as it decides their sizes. The defaults are ours.

    Attributes:
        atom_features: of an element.
        edge_features: Gaussians of a distance.
        elements: shares of the elements in a crystal.
    """

    atom_features: int = ELEMENT_FEATURES
    edge_features: int = EDGE_FEATURES
    elements: int = ELEMENTS


def count_parameters(
    config: ModelConfig, inputs: Inputs = Inputs(), head: Sequence[int] | None = None
) -> ParameterCounts:
    """Count the parameters of a network, in closed form but for networks of one's own, which are built.

    CGCNN with F = 64 and 41 Gaussians: one Linear 169 -> 128 has 21,760, one pair of BatchNorms 384.

    Args:
        config: the network.
        inputs: what it is given.
        head: widths of the readout's hidden layers; None takes those of `config`.
    """
    if config.own:
        from srcgcnn.models.own_module import count_module

        return ParameterCounts(*count_module(config))
    block, width = config.block, config.hidden_channels
    sizes = replace(config.sizes, edge_features=inputs.edge_features)
    norms = config.norm_sets * _norm_parameters(config, block.norms(sizes))
    convolution = config.distinct_blocks * block.weights(sizes) + norms + correction_parameters(config)
    entry = block.entry_weights(sizes) + _norm_parameters(config, block.entry_norms(sizes))
    embedding = linear(inputs.atom_features, width) + entry
    extras = learned_alphas(config) + 2 * width * config.layer_norm + _pool_parameters(config, inputs.elements)
    hidden = [config.head_channels] * config.head_layers if head is None else head
    return ParameterCounts(convolution, embedding + convolution + extras + _head_parameters(config, hidden))


def correction_parameters(config: ModelConfig) -> int:
    """Count what steps change about the block that they share: 2F or 2FR a step."""
    each = {"none": 0, "film": 1}.get(config.correction, config.correction_rank)
    return config.depth * 2 * config.hidden_channels * each


def learned_alphas(config: ModelConfig) -> int:
    """Count the learned dampings."""
    return {"learned": config.depth, "learned-scalar": 1}.get(str(config.alpha), 0)


def _norm_parameters(config: ModelConfig, widths: Mapping[str, int]) -> int:
    batch = config.block.always_batch
    return sum(n * PER_CHANNEL["batch" if name in batch else config.norm_kind] for name, n in widths.items())


def _pool_parameters(config: ModelConfig, elements: int) -> int:
    width = config.hidden_channels
    if config.readout == "attention":
        return linear(width + elements, width) + linear(width, width) + linear(width, 1)
    if config.readout == "set2set":
        return 4 * width * (2 * width + width + 2)  # an LSTM from 2F to F: four products of each, two biases
    return 0


def _head_parameters(config: ModelConfig, hidden: Sequence[int]) -> int:
    widths = [config.pooled_channels, *hidden, head_layout(config)["outputs"]]
    return sum(linear(inputs, outputs) for inputs, outputs in pairwise(widths))
