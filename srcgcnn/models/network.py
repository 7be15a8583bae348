"""A network: embedding, a block repeated by a recurrence, readout. M networks of one shape at once.

    h0 = W_emb v + b_emb                       element features to atom states
    h  = recurrence(block)(h0)                 T steps (recurrence.py)
    y  = head(pool over the atoms of h)        (readout.py)

CGCNN-L has a block per layer, SR-CGCNN-T (arXiv:2605.01304) one for all steps, with norms per step. So every other
network of the registry is a row of settings, too (docs/models.md).
"""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from srcgcnn.data.elements import ELEMENT_FEATURES
from srcgcnn.models.correction import correction_of
from srcgcnn.models.inductor import CompiledCall, mark_sizes
from srcgcnn.models.members import draw, members, stack
from srcgcnn.models.norms import NormSet, norms_of
from srcgcnn.models.parts import current_name
from srcgcnn.models.readout import POOLS, Head, pooled
from srcgcnn.models.recurrence import Recurrence
from srcgcnn.models.stacked import StackedGroupNorm, StackedLayerNorm, StackedLinear, take_rows
from srcgcnn.models.state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from srcgcnn.models.backend import Backend
    from srcgcnn.models.batch import FlatGraph, GraphBatch
    from srcgcnn.models.blocks.block import Block, StackedBlock
    from srcgcnn.models.config import Alpha, ModelConfig

DEEPEST_PLAIN = 8  # plain: beyond, steps are computed again for the backward instead of keeping 140 MB each (batch 256)
INITIAL_ALPHA_LOGIT = 1.0  # sigmoid(1) = 0.731, as in the released code


class Network(nn.Module, ABC):
    """What training and prediction need of M networks. Every weight and saved buffer is [M, ...].

    Attributes:
        config: shape of the networks.
        models: M.
        backend: how they are computed.
        element_features: [101, 92], row Z for element Z.
    """

    config: ModelConfig
    models: int
    backend: Backend
    element_features: Tensor

    @abstractmethod
    def reset_parameters(self, seeds: Sequence[int]) -> None:
        """Draw initial weights, one seed per model."""

    @abstractmethod
    def alphas(self) -> Tensor:
        """Return the damping of every step, [M, T]."""

    @abstractmethod
    def forward(self, batch: GraphBatch, dropout_mask: Tensor | None = None) -> Tensor:
        """Return the standardised target [M, B], several [M, B, P], or log-probabilities [M, B, 2]."""


class StepwiseNetwork(Network):
    """A network with states after every step: what probes and embeddings read."""

    @abstractmethod
    def initial_state(self, batch: GraphBatch) -> State:
        """Return the states before the first step."""

    @abstractmethod
    def steps(self, state: State, batch: GraphBatch, share: Tensor | None = None) -> Iterator[State]:
        """Yield the states after every step: probes, any-depth reading and stopping live on this iterator.

        `share` [M, T] multiplies the damping of every step: how much of its way it goes; by default 1.
        """

    def followed(self, state: State, batch: GraphBatch) -> Iterator[tuple[State, list[Tensor]]]:
        """Yield the states after every step, and the tensors of atoms that the next step reads: for their gradients.

        One tensor [M, N, F], or one [N, F] for each model if the states [M, ...] are copies.
        """
        for after in self.steps(state, batch):
            yield after, [after.atoms]

    @abstractmethod
    def readout(self, state: State, batch: GraphBatch, dropout_mask: Tensor | None = None) -> Tensor:
        """Map the states after any step to the outputs of `forward`."""

    def forward(self, batch: GraphBatch, dropout_mask: Tensor | None = None) -> Tensor:
        """Return the standardised target [M, B], several [M, B, P], or log-probabilities [M, B, 2]."""
        *_, last = self.steps(self.initial_state(batch), batch)
        return self.readout(last, batch, dropout_mask)


class CrystalGraphNetwork(StepwiseNetwork):
    """M networks of one shape (block, depth, norms, damping mode); fixed alphas may differ between them."""

    fixed_alpha: Tensor

    def __init__(
        self,
        config: ModelConfig,
        element_features: Tensor,
        alphas: Sequence[Alpha] | None = None,
        backend: Backend = "plain",
    ) -> None:
        """Build uninitialised networks.

        Args:
            config: shape of the networks.
            element_features: [101, 92], row Z for element Z.
            alphas: one damping per model, all of the same mode; default one model with the damping of `config`.
            backend: how they are computed.
        """
        super().__init__()
        alphas = [config.alpha] if alphas is None else list(alphas)
        self.config, self.models, self.backend = config, len(alphas), backend
        hidden = config.hidden_channels
        self.register_buffer("element_features", element_features.float(), persistent=False)
        self.embedding = StackedLinear(self.models, ELEMENT_FEATURES, hidden)
        if config.block.entry:
            self.entry = stack(self._make_entry(), self.models)
            self.entry_norms = NormSet(self.models, config, config.block.entry_norms(config.sizes))
        self.blocks = nn.ModuleList(self._block() for _ in range(config.distinct_blocks))
        self.norms = norms_of(self.models, config)
        self.layer_norm = StackedLayerNorm(self.models, hidden) if config.layer_norm else None
        self.correction = correction_of(config, self.models)
        self._add_damping(alphas)
        self.pool = POOLS[config.readout](self.models, hidden) if config.readout in POOLS else None
        self.head = Head(self.models, config)
        self._inductor = CompiledCall(type(self)._outputs)  # of no object: it would keep its network alive
        self.register_load_state_dict_pre_hook(_rename_earlier)

    def _block(self) -> Block:
        if self.config.block.model_axis:
            return cast("Block", load(self.config.block.where)(self.models, self.config, self.backend))
        return cast("Block", stack(self._make_block(), self.models))

    def _make_block(self) -> nn.Module:
        return load(self.config.block.where)(self.config)

    def _make_entry(self) -> nn.Module:
        return load(self.config.block.entry)(self.config)

    def _add_damping(self, alphas: list[Alpha]) -> None:
        self.alpha_logits: nn.Parameter | None = None
        if self.config.alpha in ("learned", "learned-scalar"):
            steps = self.config.depth if self.config.alpha == "learned" else 1
            start = self.config.alpha_start
            logit = INITIAL_ALPHA_LOGIT if start is None else math.log(start / (1 - start))
            self.alpha_logits = nn.Parameter(torch.full((self.models, steps), logit))
        usual = self.config.depth**-0.5 if self.config.alpha == "1/sqrt(T)" else 1.0
        fixed = [alpha if isinstance(alpha, (int, float)) else usual for alpha in alphas]
        self.register_buffer("fixed_alpha", torch.tensor(fixed, dtype=torch.float32), persistent=False)

    def reset_parameters(self, seeds: Sequence[int]) -> None:
        """Draw initial weights, one seed per model, in the order embedding, blocks, head, and what else there is."""
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.embedding.reset_parameters(generators)
        for block in self.blocks:
            if self.config.block.model_axis:
                cast("StackedBlock", block).reset_parameters(generators)
            else:
                draw(block, self._make_block, generators)
        for layer in [*self.head.hidden, self.head.output]:
            cast("StackedLinear", layer).reset_parameters(generators)
        if self.config.block.entry:
            draw(self.entry, self._make_entry, generators)
        if self.pool is not None:
            self.pool.reset_parameters(generators)
        if self.correction is not None:
            self.correction.reset_parameters(generators)
        for norm in self.modules():
            if isinstance(norm, StackedGroupNorm) and "assignment" in norm._parameters:
                norm.reset_parameters(generators)

    def alphas(self) -> Tensor:
        """Return the damping of every step: [M, T]."""
        if self.alpha_logits is not None:
            return torch.sigmoid(self.alpha_logits).expand(-1, self.config.depth)
        return self.fixed_alpha[:, None].expand(-1, self.config.depth)

    def forward(self, batch: GraphBatch, dropout_mask: Tensor | None = None) -> Tensor:
        """Return the standardised target [M, B], several [M, B, P], or log-probabilities [M, B, 2]."""
        if self.backend == "inductor" and batch.distances.is_cuda:
            mark_sizes((*batch.tensors, dropout_mask))
            return self._inductor(self, batch, dropout_mask)
        return self._outputs(batch, dropout_mask)

    def _outputs(self, batch: GraphBatch, dropout_mask: Tensor | None) -> Tensor:
        return super().forward(batch, dropout_mask)

    def initial_state(self, batch: GraphBatch) -> State:
        """Embed the elements (project the table once, then look up every atom), then edges and crystals if any."""
        table = self.embedding(self.element_features.expand(self.models, -1, -1))
        state = State(take_rows(table, batch.atomic_numbers))
        if not self.config.block.entry:
            return state
        graphs = [batch.flat(member) for member in range(self.models)]
        entries, own = members(self.entry, self.models), unstacked(state, graphs)
        found = [
            entry(graph, mine, self.entry_norms.of_member(member))
            for member, (entry, graph, mine) in enumerate(zip(entries, graphs, own, strict=True))
        ]
        return stacked(found, batch, graphs)

    def steps(self, state: State, batch: GraphBatch, share: Tensor | None = None) -> Iterator[State]:
        """Yield the states [M, ...] after every layer or recurrent step."""
        for after, _ in self.followed(state, batch, share):
            yield after

    def followed(
        self, state: State, batch: GraphBatch, share: Tensor | None = None
    ) -> Iterator[tuple[State, list[Tensor]]]:
        """See `StepwiseNetwork.followed`; `share` as of `steps`."""
        alphas = self.alphas() if self.config.alpha != "none" else None
        if share is not None:
            alphas = share if alphas is None else alphas * share
        if self.config.block.model_axis:
            for after in self._recurrence(alphas).steps(state, batch):
                yield after, [after.atoms]
            return
        graphs = [batch.flat(member) for member in range(self.models)]
        recurrences = self._member_recurrences(alphas)
        own = unstacked(state, graphs)
        iterators = [one.steps(mine, graph) for one, mine, graph in zip(recurrences, own, graphs, strict=True)]
        for states in zip(*iterators, strict=True):
            joined = stacked([replace(one, angles=None) for one in states], batch, graphs)
            yield joined, [one.atoms for one in states]

    def _recurrence(self, alphas: Tensor | None) -> Recurrence:
        return Recurrence(
            depth=self.config.depth,
            blocks=list(self.blocks),
            norms=list(self.norms),
            alphas=None if alphas is None else alphas.T,
            layer_norm=self.layer_norm,
            correction=self.correction,
            outer_skip=self.config.skip != "none",
            recompute=self._recomputes,
        )

    @property
    def _recomputes(self) -> bool:
        sparing = self.backend == "native" and self.config.block.model_axis
        return self.config.depth > DEEPEST_PLAIN and torch.is_grad_enabled() and not sparing

    def _member_recurrences(self, alphas: Tensor | None) -> list[Recurrence]:
        blocks = [members(block, self.models) for block in self.blocks]
        return [
            Recurrence(
                depth=self.config.depth,
                blocks=[of_models[member] for of_models in blocks],
                norms=[cast("NormSet", norms).of_member(member) for norms in self.norms],
                alphas=None if alphas is None else alphas[member],
                layer_norm=None if self.layer_norm is None else partial(self.layer_norm.of_member, member=member),
                correction=None if self.correction is None else partial(self.correction.of_member, member=member),
                outer_skip=self.config.skip != "none",
                recompute=self._recomputes,
            )
            for member in range(self.models)
        ]

    def readout(self, state: State, batch: GraphBatch, dropout_mask: Tensor | None = None) -> Tensor:
        """Map the states [M, ...] after any step to the outputs of `forward`."""
        crystals = pooled(self.config.readout, self.pool, state, self.config.block.reads, batch)
        outputs = self.head(crystals, dropout_mask)
        return outputs if self.head.classify or self.config.outputs > 1 else outputs.squeeze(-1)


def load(where: str) -> Callable[..., nn.Module]:
    """Import `module:Class`."""
    module, name = where.split(":")
    return cast("Callable[..., nn.Module]", getattr(importlib.import_module(module), name))


def unstacked(state: State, graphs: Sequence[FlatGraph]) -> list[State]:
    """Cut a state [M, ...] into those of its models, without padding."""
    found = []
    for member, graph in enumerate(graphs):
        edges = None if state.edges is None else state.edges[member, : len(graph.atomic_numbers)].flatten(0, 1)
        if edges is not None and graph.places is not None:
            edges = edges[graph.places]
        crystals = None if state.crystals is None else state.crystals[member]
        memory = None if state.memory is None else state.memory[member, : len(graph.atomic_numbers)]
        angles = None if state.angles is None else state.angles[member, : len(graph.line.centres)]
        found.append(State(state.atoms[member, : len(graph.atomic_numbers)], edges, crystals, memory, angles))
    return found


def stacked(states: Sequence[State], batch: GraphBatch, graphs: Sequence[FlatGraph]) -> State:
    """Join the states of all models to one [M, ...], with zeros for padding."""
    _, atoms, degree = batch.neighbours.shape
    joined = torch.stack([_padded(one.atoms, atoms) for one in states])
    edges = crystals = memory = angles = None
    if states[0].edges is not None:
        parts = [
            _at_places(cast("Tensor", one.edges), graph, atoms * degree)
            for one, graph in zip(states, graphs, strict=True)
        ]
        edges = torch.stack(parts).unflatten(1, (atoms, degree))
    if states[0].crystals is not None:
        crystals = torch.stack([cast("Tensor", one.crystals) for one in states])
    if states[0].memory is not None:
        memory = torch.stack([_padded(cast("Tensor", one.memory), atoms) for one in states])
    if states[0].angles is not None:
        rows = [cast("Tensor", one.angles) for one in states]
        angles = torch.stack([_padded(one, max(map(len, rows))) for one in rows])
    return State(joined, edges, crystals, memory, angles)


def _padded(rows: Tensor, count: int) -> Tensor:
    return rows if len(rows) == count else torch.cat([rows, rows.new_zeros(count - len(rows), *rows.shape[1:])])


def _at_places(edges: Tensor, graph: FlatGraph, slots: int) -> Tensor:
    if graph.places is None:
        return _padded(edges, slots)
    return edges.new_zeros(slots, *edges.shape[1:]).index_copy(0, graph.places, edges)


def _rename_earlier(_module: nn.Module, weights: dict[str, Any], prefix: str, *_: Any) -> None:
    for name in [name for name in weights if name.startswith(prefix)]:
        renamed = prefix + current_name(name.removeprefix(prefix))
        if renamed != name:
            weights[renamed] = weights.pop(name)
