"""The network of a configuration, whichever kind it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from srcgcnn.models.network import CrystalGraphNetwork

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from srcgcnn.models.backend import Backend
    from srcgcnn.models.config import Alpha, ModelConfig
    from srcgcnn.models.network import Network


def make_network(
    config: ModelConfig, element_features: Tensor, alphas: Sequence[Alpha] | None = None, backend: Backend = "plain"
) -> Network:
    """Build uninitialised networks, one for each of `alphas` (see `CrystalGraphNetwork`).

    Raises:
        ValueError: a user-defined network may not be imported, or is not a network.
    """
    if config.own:
        from srcgcnn.models.own_network import OwnModels

        return OwnModels(config, element_features, 1 if alphas is None else len(alphas))
    return CrystalGraphNetwork(config, element_features, alphas, backend)
