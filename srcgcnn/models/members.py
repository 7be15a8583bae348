"""Modules that know nothing of the model axis, run for M models: their weights are stacked, [M, ...].

So everything above (optimiser, checkpoints, model files) sees one network with the model axis in front, whatever its
blocks are. A model's weights are drawn from its own seed: it starts from the same numbers alone and in a group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def stack(module: nn.Module, models: int) -> nn.Module:
    """Give every weight and every buffer that is saved the model axis, in place. The values are unset."""
    made: dict[nn.Parameter, nn.Parameter] = {}  # a weight that two parts share stays one
    for part in module.modules():
        for name, value in list(part.named_parameters(recurse=False)):
            if value not in made:
                made[value] = nn.Parameter(torch.empty(models, *value.shape), requires_grad=value.requires_grad)
            part.register_parameter(name, made[value])
        for name, buffer in list(part.named_buffers(recurse=False)):
            if name not in part._non_persistent_buffers_set:  # others depend on nothing that differs between models
                part.register_buffer(name, buffer.expand(models, *buffer.shape).clone())
    return module


def draw(module: nn.Module, make: Callable[[], nn.Module], generators: Sequence[torch.Generator]) -> None:
    """Fill a stacked module with the weights that `make` draws, one seed per model, from its generator."""
    targets = module.state_dict()
    for member, generator in enumerate(generators):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
            drawn = make().state_dict()
        for name, value in drawn.items():
            targets[name][member].copy_(value)


class Member:
    """One model of a stacked module: calls go to the module with this model's weights in it."""

    def __init__(self, module: nn.Module, tensors: dict[str, Tensor]) -> None:
        self._module, self._tensors = module, tensors

    def __call__(self, *arguments: Any) -> Any:
        """Call the module."""
        return functional_call(self._module, self._tensors, arguments)

    def expand(self, *arguments: Any) -> Any:
        """See `Block.expand`."""
        return self("expand", *arguments)

    def prepare(self, *arguments: Any) -> Any:
        """See `Block.prepare`."""
        return self("prepare", *arguments)

    def step(self, *arguments: Any) -> Any:
        """See `Block.step`."""
        return self("step", *arguments)


def members(module: nn.Module, models: int) -> list[Member]:
    """Return the models of a stacked module, for one forward."""
    unbound: list[dict[str, Tensor]] = [{} for _ in range(models)]
    local = {name for part, prefix in _parts(module) for name in _not_stacked(part, prefix)}
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        if name in local:
            continue
        # a view whose gradient costs nothing for one model, and one stack for several
        values = (value.squeeze(0),) if models == 1 else value.unbind(0)
        for member in range(models):
            unbound[member][name] = values[member]
    return [Member(module, tensors) for tensors in unbound]


def _parts(module: nn.Module) -> list[tuple[nn.Module, str]]:
    return [(part, f"{name}." if name else "") for name, part in module.named_modules()]


def _not_stacked(part: nn.Module, prefix: str) -> list[str]:
    return [prefix + name for name in part._non_persistent_buffers_set]
