"""Start a trial from trained weights: copy them into every member, give it a new head or not, freeze parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from srcgcnn.data.store import sha256_of
from srcgcnn.models.parts import current_name
from srcgcnn.models.stacked import StackedBatchNorm
from srcgcnn.training.model_file import load_model

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torch import nn

    from srcgcnn.models.network import Network
    from srcgcnn.run.training_config import StartConfig

HEAD = "head."


def check_weights(start: StartConfig, path: Path) -> None:
    """Refuse a file that is missing or is not the one that the trial was planned with.

    Raises:
        ValueError: the file is another one, or missing.
    """
    found = sha256_of(path) if path.exists() else "no such file"
    if found != start.weights_hash:
        raise ValueError(
            f"{path}: the weights to start from have sha256 {found}, the plan has {start.weights_hash}; "
            "start the sweep again with --init-from"
        )


def start_from(network: Network, start: StartConfig, path: Path) -> None:
    """Copy the weights of a model file into every member of a network that has its initial weights.

    Raises:
        ValueError: the file's network has other shapes; or a frozen part does not exist.
    """
    _, trained = load_model(path)
    own = network.state_dict()
    kept = {
        name: value for name, value in trained.state_dict().items() if start.head == "keep" or not name.startswith(HEAD)
    }
    required = {name for name in own if start.head == "keep" or not name.startswith(HEAD)}
    differing = sorted(
        name
        for name in required | kept.keys()
        if name not in own or name not in kept or own[name][:1].shape != kept[name].shape
    )
    if differing:
        raise ValueError(
            f"{path} holds {trained.config.label}; {network.config.label} cannot start from it: {', '.join(differing)}"
        )
    with torch.no_grad():
        for name, value in kept.items():
            own[name].copy_(value.expand_as(own[name]))
    _freeze(network, start.frozen)


def _freeze(network: Network, prefixes: tuple[str, ...]) -> None:
    for prefix in prefixes:
        found = [parameter for name, parameter in network.named_parameters() if _under(name, current_name(prefix))]
        if not found:
            known = ", ".join(name for name, _ in network.named_parameters())
            raise ValueError(f"nothing to freeze is called {prefix!r}; known: {known}")
        for parameter in found:
            parameter.requires_grad = False
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ValueError(f"frozen={list(prefixes)} leaves nothing to train")


def _under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _frozen_norms(network: nn.Module) -> Iterable[StackedBatchNorm]:
    return [
        module
        for module in network.modules()
        if isinstance(module, StackedBatchNorm) and not module.weight.requires_grad
    ]


def train_mode(network: Network) -> None:
    """Set training mode; frozen BatchNorms keep their running statistics and use them."""
    network.train()
    for norm in _frozen_norms(network):
        norm.eval()
