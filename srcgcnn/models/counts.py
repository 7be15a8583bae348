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


def count_parameters(config: ModelConfig) -> ParameterCounts:
    """Count the parameters of a network.

    With F = 64 and 41 Gaussians: one Linear 169 -> 128 has 21,760, one pair of BatchNorms 384.
    """
    width = config.hidden_channels
    linear = 2 * width * (2 * width + GAUSSIAN_COUNT) + 2 * width
    norms = 6 * width  # BatchNorm(2F) on the edges and BatchNorm(F) on the atoms, gamma and beta each
    independent = config.depth if config.family == "cgcnn" else 1
    norm_pairs = config.depth if config.norm == "step" or config.family == "cgcnn" else 1
    convolution = independent * linear + norm_pairs * norms
    embedding = (ELEMENT_FEATURES + 1) * width
    extras = _alpha_parameters(config) + (2 * width if config.layer_norm else 0)
    return ParameterCounts(convolution, embedding + convolution + extras + _head_parameters(config))


def _alpha_parameters(config: ModelConfig) -> int:
    return {"learned": config.depth, "learned-scalar": 1}.get(str(config.alpha), 0)


def _head_parameters(config: ModelConfig) -> int:
    width = config.head_channels
    outputs = 1 if config.task == "regression" else 2
    hidden = (config.head_layers - 1) * (width + 1) * width
    return (config.hidden_channels + 1) * width + hidden + (width + 1) * outputs
