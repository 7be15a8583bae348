"""One module of a network of one's own: made from its class, and counted."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from srcgcnn.models.own import network_class, settings_of_class

if TYPE_CHECKING:
    from srcgcnn.models.config import ModelConfig


def make_module(config: ModelConfig) -> nn.Module:
    """Build one module with random weights from PyTorch's own generator.

    Raises:
        ValueError: the class may not be imported, is not a module, or leaves sizes open.
    """
    name = config.family
    kind = network_class(name, config.code)
    module = kind(**{setting: getattr(config, setting) for setting in settings_of_class(name, kind)})
    if not isinstance(module, nn.Module):
        raise ValueError(f"network {name!r} is not a torch.nn.Module")
    open_sizes = [part for part, value in module.named_parameters() if is_lazy(value)]
    if open_sizes:
        raise ValueError(f"network {name!r} leaves the sizes of {', '.join(open_sizes)} open: give them")
    if not any(value.requires_grad for value in module.parameters()):
        raise ValueError(f"network {name!r} has nothing to train")
    return module


def made_aside(config: ModelConfig) -> nn.Module:
    """Build one module and leave PyTorch's generator as it was."""
    with torch.random.fork_rng(devices=[]):
        return make_module(config)


@lru_cache(maxsize=256)
def count_module(config: ModelConfig) -> tuple[int, int]:
    """Count what a module trains: as convolution its parts `convolution_parts`, by default all; and all of it."""
    module = made_aside(config)
    total = sum(value.numel() for value in module.parameters() if value.requires_grad)
    parts = getattr(module, "convolution_parts", None)
    if parts is None:
        return total, total
    try:
        found = [module.get_submodule(part) for part in parts]
    except AttributeError as error:
        raise ValueError(f"network {config.family!r}: convolution_parts: {error}") from None
    kept = {id(value): value for part in found for value in part.parameters() if value.requires_grad}
    return sum(value.numel() for value in kept.values()), total
