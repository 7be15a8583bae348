"""Exact parameter counts in closed form, without building a network (and without torch)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from srcgcnn.data.elements import ELEMENT_FEATURES
from srcgcnn.data.graph import GAUSSIAN_COUNT

if TYPE_CHECKING:
    from srcgcnn.models.config import ModelConfig


@dataclass(frozen=True)
class ParameterCounts:
    """Trainable numbers of one network.

    Attributes:
        convolution: Linear and BatchNorm parameters of the convolutions, as the paper counts them.
        total: everything, learned alpha and LayerNorm included.
    """

    convolution: int
    total: int


def body_layout(config: ModelConfig) -> dict[str, int]:
    """Return what decides the shapes of all weights before the readout."""
    recurrent = config.family == "srcgcnn"
    return {
        "hidden_channels": config.hidden_channels,
        "convolutions": 1 if recurrent else config.depth,
        "norm pairs": 1 if recurrent and config.norm == "shared" else config.depth,
        "learned alphas": {"learned": config.depth, "learned-scalar": 1}.get(str(config.alpha), 0),
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
    """Count the parameters of a network.

    With F = 64 and 41 Gaussians: one Linear 169 -> 128 has 21,760, one pair of BatchNorms 384.
    """
    width, body = config.hidden_channels, body_layout(config)
    linear = 2 * width * (2 * width + GAUSSIAN_COUNT) + 2 * width
    norms = 6 * width  # BatchNorm(2F) on the edges and BatchNorm(F) on the atoms, gamma and beta each
    convolution = body["convolutions"] * linear + body["norm pairs"] * norms
    embedding = (ELEMENT_FEATURES + 1) * width
    extras = body["learned alphas"] + 2 * width * body["LayerNorms"]
    return ParameterCounts(convolution, embedding + convolution + extras + _head_parameters(config))


def _head_parameters(config: ModelConfig) -> int:
    width, outputs = config.head_channels, head_layout(config)["outputs"]
    hidden = (config.head_layers - 1) * (width + 1) * width
    return (config.hidden_channels + 1) * width + hidden + (width + 1) * outputs
