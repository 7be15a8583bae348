"""What a step maps to what: states of atoms, and of edges and crystals where a network has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


@dataclass(frozen=True)
class State:
    """States at one depth. M models, N atoms of K edges each, E real edges, B crystals.

    Attributes:
        atoms: [M, N, F], or [N, F] inside of a block without the model axis.
        edges: [M, N, K, Fe], or [E, Fe] inside of a block without the model axis; None where edges have no state.
        crystals: [M, B, Fu], or [B, Fu]; None where crystals have no state.
    """

    atoms: Tensor
    edges: Tensor | None = None
    crystals: Tensor | None = None

    def merged(self, other: State, merge: Callable[[Tensor, Tensor], Tensor]) -> State:
        """Merge the parts of two states, one by one."""

        def both(mine: Tensor | None, its: Tensor | None) -> Tensor | None:
            return its if mine is None or its is None else merge(mine, its)

        edges, crystals = both(self.edges, other.edges), both(self.crystals, other.crystals)
        return State(merge(self.atoms, other.atoms), edges, crystals)

    def plus(self, other: State) -> State:
        """Add all parts."""
        return self.merged(other, torch.add)

    def moved_to(self, other: State, share: Tensor) -> State:
        """Go a share [M] or [] of the way to another state."""
        return self.merged(other, lambda mine, its: torch.lerp(mine, its, _over(share, mine)))


def _over(share: Tensor, part: Tensor) -> Tensor:
    return share.reshape(*share.shape, *[1] * (part.dim() - share.dim())) if share.dim() else share
