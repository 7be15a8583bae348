"""The interface of a block: one message-passing step, and nothing about depth (docs/blocks.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from srcgcnn.models.config import ModelConfig
    from srcgcnn.models.state import State


class Block(nn.Module):
    """One step of one model. Its weights are drawn in its constructor, as PyTorch does.

    A block sees one model at a time: states [N, F], edges in one list [E]. Where its registry entry says
    `model_axis=True`, it takes (models, config, backend), sees [M, ...] and a `GraphBatch`, and has
    `reset_parameters(generators)`.

    Attributes:
        config: the network that it is part of.
        own_residual: whether the step adds its input to its result, if the published one does so.
    """

    def __init__(self, config: ModelConfig) -> None:
        """Make the weights."""
        super().__init__()
        self.config = config
        self.own_residual = config.block.own_residual and config.skip != "residual"

    def expand(self, graph: Any) -> Any:
        """Compute what depends on the graph only, such as Gaussians: once per forward, for all blocks."""

    def prepare(self, expanded: Any) -> Any:
        """Compute what does not depend on the state, such as filters: once per forward and distinct block."""

    def step(self, state: State, graph: Any, prepared: Any, norms: Any) -> State:
        """Apply the published equation.

        Args:
            state: of the step before.
            graph: the `FlatGraph` (or `GraphBatch`).
            prepared: what `prepare` returned.
            norms: the norms of this step, called by the names of the registry entry: `norms.atoms(rows)`.
        """
        raise NotImplementedError

    def forward(self, method: str, *arguments: Any) -> Any:
        """Call a method: `torch.func.functional_call`, which puts the weights of one model in, calls this one."""
        return getattr(self, method)(*arguments)


class StackedBlock(Block):
    """A block that works on all models at once."""

    def reset_parameters(self, generators: Sequence[Any]) -> None:
        """Draw the weights, one generator per model."""
        raise NotImplementedError
