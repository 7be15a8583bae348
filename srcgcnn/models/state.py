"""What a step maps to what: states of atoms, and of edges, angles and crystals if a network has them."""

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
        edges: [M, N, K, Fe], or [E, Fe] inside of a block without the model axis; None if edges have no state.
        crystals: [M, B, Fu], or [B, Fu]; None if crystals have no state.
        memory: [M, N, F], or [N, F]: what a recurrent cell passes to its next step besides the states, which skips and
            damping leave alone; None if there is none.
        angles: [M, P, Fz], or [P, Fz] without the model axis: of pairs of edges, in the order of `LineGraph`. Only
            steps read them: what `Network.steps` yields has none. None if angles have no state.
    """

    atoms: Tensor
    edges: Tensor | None = None
    crystals: Tensor | None = None
    memory: Tensor | None = None
    angles: Tensor | None = None

    def merged(self, other: State, merge: Callable[[Tensor, Tensor], Tensor]) -> State:
        """Merge the parts of two states, one by one; parts that a step hands on as they were stay so."""

        def both(mine: Tensor | None, its: Tensor | None) -> Tensor | None:
            return its if mine is None or its is None or its is mine else merge(mine, its)

        edges, crystals = both(self.edges, other.edges), both(self.crystals, other.crystals)
        angles = both(self.angles, other.angles)
        return State(merge(self.atoms, other.atoms), edges, crystals, other.memory, angles)

    @property
    def parts(self) -> tuple[Tensor | None, ...]:
        """All attributes, in order."""
        return self.atoms, self.edges, self.crystals, self.memory, self.angles

    def plus(self, before: State) -> State:
        """Add the states before a step to these, which are those after it."""
        return before.merged(self, torch.add)

    def moved_to(self, other: State, share: Tensor) -> State:
        """Go a share [M] or [] of the way to another state."""
        return self.merged(other, lambda mine, its: torch.lerp(mine, its, _over(share, mine)))


def _over(share: Tensor, part: Tensor) -> Tensor:
    return share.reshape(*share.shape, *[1] * (part.dim() - share.dim())) if share.dim() else share
