"""Exact parameter counts in closed form, without building a network (and without torch)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from srcgcnn.data.elements import ELEMENT_FEATURES, LARGEST_ATOMIC_NUMBER
from srcgcnn.models.registry import linear

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def body_layout(config: ModelConfig) -> dict[str, int | str]:
    """Return what decides the shapes of all weights before the readout."""
    return {
        "block": config.block.title,
        "hidden_channels": config.hidden_channels,
        "edge_channels": config.edge_width,
        "blocks": config.distinct_blocks,
        "norm sets": config.norm_sets,
        "norm kind": config.norm_kind,
        "correction": config.correction,
        "learned alphas": learned_alphas(config),
        "LayerNorms": int(config.layer_norm),
    }


def head_layout(config: ModelConfig) -> dict[str, int]:
    """Return what decides the shapes of the readout's weights."""
    return {
        "head_channels": config.head_channels,
        "head_layers": config.head_layers,
        "outputs": 1 if config.task == "regression" else 2,
    }


def count_parameters(config: ModelConfig) -> ParameterCounts:
    """Count the parameters of a network, in closed form but for networks of one's own, which are built.

    CGCNN with F = 64 and 41 Gaussians: one Linear 169 -> 128 has 21,760, one pair of BatchNorms 384.
    """
    if config.own:
        from srcgcnn.models.own_module import count_module

        return ParameterCounts(*count_module(config))
    block, width = config.block, config.hidden_channels
    norms = config.norm_sets * _norm_parameters(config, block.norms(config))
    convolution = config.distinct_blocks * block.weights(config) + norms + correction_parameters(config)
    entry = block.entry_weights(config) + _norm_parameters(config, block.entry_norms(config))
    embedding = (ELEMENT_FEATURES + 1) * width + entry
    extras = learned_alphas(config) + 2 * width * config.layer_norm + _pool_parameters(config)
    return ParameterCounts(convolution, embedding + convolution + extras + _head_parameters(config))


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


def _pool_parameters(config: ModelConfig) -> int:
    width = config.hidden_channels
    if config.readout == "attention":
        return linear(width + ELEMENTS, width) + linear(width, width) + linear(width, 1)
    if config.readout == "set2set":
        return 4 * width * (2 * width + width + 2)  # an LSTM from 2F to F: four products of each, two biases
    return 0


def _head_parameters(config: ModelConfig) -> int:
    width, outputs = config.head_channels, head_layout(config)["outputs"]
    hidden = (config.head_layers - 1) * (width + 1) * width
    return (config.pooled_channels + 1) * width + hidden + (width + 1) * outputs
