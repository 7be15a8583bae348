"""The norms of a network's steps: what kind, and what different steps share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from srcgcnn.models.stacked import StackedBatchNorm, StackedGroupNorm, StackedLayerNorm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from srcgcnn.models.config import ModelConfig

KINDS: dict[str, type[StackedBatchNorm | StackedLayerNorm | StackedGroupNorm]] = {
    "batch": StackedBatchNorm,
    "layer": StackedLayerNorm,
    "group": StackedGroupNorm,
}


class NormSet(nn.Module):
    """The norms of one step, or of the entry, as attributes with the names that `BlockSpec` gives them."""

    def __init__(self, models: int, config: ModelConfig, widths: Mapping[str, int]) -> None:
        super().__init__()
        for name, width in widths.items():
            kind = "batch" if name in config.block.always_batch else config.norm_kind
            self.add_module(name, KINDS[kind](models, width))

    def __getattr__(self, name: str) -> StackedBatchNorm | StackedLayerNorm | StackedGroupNorm:
        """Return a norm by its name."""
        return super().__getattr__(name)  # type: ignore[return-value]

    def with_own_statistics(self) -> NormSet:
        """Return norms that take weights and biases from these, and have running averages of their own."""
        other = NormSet.__new__(NormSet)
        nn.Module.__init__(other)
        for name, norm in self.named_children():
            other.add_module(name, _with_own_statistics(norm))
        return other

    def of_member(self, member: int) -> MemberNorms:
        """Return the norms of one model."""
        return MemberNorms(self, member)


class MemberNorms:
    """The norms of one step of one model, which take rows [R, C]."""

    def __init__(self, norms: NormSet, member: int) -> None:
        self._norms, self._member = norms, member

    def __getattr__(self, name: str) -> MemberNorm:
        """Return a norm by its name."""
        return MemberNorm(getattr(self._norms, name), self._member)


class MemberNorm:
    """One norm of one model."""

    def __init__(self, norm: StackedBatchNorm | StackedLayerNorm | StackedGroupNorm, member: int) -> None:
        self._norm, self._member = norm, member

    def __call__(self, rows: Tensor) -> Tensor:
        """Normalise rows [R, C]."""
        return self._norm.of_member(rows, self._member)


class _BatchNormOfOther(StackedBatchNorm):
    """Running averages of its own; weight and bias are those of another BatchNorm, which alone lists them."""

    def __init__(self, other: StackedBatchNorm) -> None:
        nn.Module.__init__(self)
        self._other = (other,)  # in a tuple: not a part of this module
        self.register_buffer("running_mean", torch.zeros_like(other.running_mean))
        self.register_buffer("running_var", torch.ones_like(other.running_var))

    @property
    def weight(self) -> nn.Parameter:  # type: ignore[override]
        return self._other[0].weight

    @property
    def bias(self) -> nn.Parameter:  # type: ignore[override]
        return self._other[0].bias


class _GroupNormOfOther(StackedGroupNorm):
    """The same for group normalisation."""

    def __init__(self, other: StackedGroupNorm) -> None:
        nn.Module.__init__(self)
        self._other = (other,)
        self.norm = _BatchNormOfOther(other.norm)

    @property
    def assignment(self) -> nn.Parameter:  # type: ignore[override]
        return self._other[0].assignment


def _with_own_statistics(norm: nn.Module) -> nn.Module:
    if isinstance(norm, StackedGroupNorm):
        return _GroupNormOfOther(norm)
    if isinstance(norm, StackedBatchNorm):
        return _BatchNormOfOther(norm)
    if isinstance(norm, StackedLayerNorm):
        return norm
    raise TypeError(f"{type(norm).__name__} has no statistics")


def norms_of(models: int, config: ModelConfig) -> nn.ModuleList:
    """Build the sets of norms: one per step, or one for all; step t uses set min(t, sets - 1)."""
    sets = [NormSet(models, config, config.block.norms(config.sizes)) for _ in range(config.norm_sets)]
    if config.norm == "affine" and config.norm_sets < config.depth:
        sets += [sets[0].with_own_statistics() for _ in range(config.depth - 1)]
    return nn.ModuleList(sets)
