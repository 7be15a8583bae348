"""How blocks become depth. Knows nothing of crystals.

for t = 1 .. T:   h~ = block_(t mod K)(c_t(h)) [+ h]    (correction, skip)
h  = (1 - alpha_t) h + alpha_t h~     (damping)
h  = LayerNorm(h)                     (if requested)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.checkpoint import checkpoint

from srcgcnn.models.stacked import recomputation
from srcgcnn.models.state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor


@dataclass(frozen=True)
class Recurrence:
    """The parts of a network between embedding and readout, of all models or of one.

    Attributes:
        depth: T.
        blocks: K distinct blocks, used in cycles.
        norms: a set of norms per step, or one for all.
        alphas: damping of every step, [T, M] or [T]; None for no damping.
        layer_norm: LayerNorm after every step, or None.
        correction: what a step changes about the block that it shares, from states and step to states; or None.
        outer_skip: whether the input of a step is added to its result.
        recompute: keep the states between steps only, and compute the steps again for the backward.
    """

    depth: int
    blocks: Sequence[Any]
    norms: Sequence[Any]
    alphas: Tensor | None
    layer_norm: Callable[[Tensor], Tensor] | None
    outer_skip: bool
    recompute: bool = False
    correction: Callable[[Tensor, int], Tensor] | None = None

    def steps(self, state: State, graph: Any) -> Iterator[State]:
        """Yield the state after every step."""
        expanded = self.blocks[0].expand(graph)
        prepared: dict[int, Any] = {}
        for step in range(self.depth):
            number = step % len(self.blocks)
            if number not in prepared:
                prepared[number] = self.blocks[number].prepare(expanded)
            once = partial(self._step, step=step, graph=graph, prepared=prepared[number])
            state = _recomputed(once, state) if self.recompute else once(state)
            if step + len(self.blocks) >= self.depth:
                del prepared[number]  # not used again
            yield state

    def _step(self, state: State, *, step: int, graph: Any, prepared: Any) -> State:
        norms = self.norms[min(step, len(self.norms) - 1)]
        read = state if self.correction is None else replace(state, atoms=self.correction(state.atoms, step))
        after = self.blocks[step % len(self.blocks)].step(read, graph, prepared, norms)
        if self.outer_skip:
            after = after.plus(state)
        if self.alphas is not None:
            after = state.moved_to(after, self.alphas[step])
        if self.layer_norm is not None:
            after = replace(after, atoms=self.layer_norm(after.atoms))
        return after


def _recomputed(step: Callable[[State], State], state: State) -> State:
    """Take a step that keeps nothing but its input for the backward."""

    def of_tensors(*parts: Tensor | None) -> tuple[Tensor | None, ...]:
        after = step(State(*parts))  # type: ignore[arg-type]
        return after.parts

    after = checkpoint(of_tensors, *state.parts, use_reentrant=False, preserve_rng_state=False, context_fn=_contexts)
    return State(*after)


def _contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    return torch.enable_grad(), recomputation()
