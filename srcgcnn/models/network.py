"""CGCNN and SR-CGCNN: one network class, from the paper's equations (arXiv:2605.01304) and the released code's order.

    h0     = W_emb v + b_emb
    g_ij   = BN1(W [h_i ; h_j ; u_ij] + b)
    m_i    = BN2(sum_j sigmoid(g_ij first half) * softplus(g_ij second half))
    h~_i   = softplus(h_i + m_i)
    h_i   <- (1 - alpha_t) h_i + alpha_t h~_i            (SR-CGCNN only)
    y      = head(mean over atoms of h)

CGCNN-L has its own W, BN1, BN2 in every layer; SR-CGCNN-T has one W for all steps and BN1, BN2 per step (or one pair).
`blocks/cgcnn/equations.py` holds the same equations once more, slow and obvious, as the oracle of the tests.

The Linear on [h_i ; h_j ; u_ij] is split in three: the centre and neighbour parts are products per atom, not per edge,
and with a shared W the edge part is the same in every step and is computed once per forward.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srcgcnn.data.elements import ELEMENT_FEATURES
from srcgcnn.data.graph import GAUSSIAN_COUNT, GAUSSIAN_STEP_ANGSTROM
from srcgcnn.models.blocks.cgcnn.kernels.fused import FusedConvolution
from srcgcnn.models.blocks.cgcnn.kernels.native.library import NativeEdges, native_library
from srcgcnn.models.blocks.cgcnn.kernels.sums import TensorEdges
from srcgcnn.models.inductor import CompiledCall, mark_sizes
from srcgcnn.models.stacked import StackedBatchNorm, StackedLayerNorm, StackedLinear, affine, take_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from srcgcnn.models.batch import GraphBatch
    from srcgcnn.models.config import Alpha, ModelConfig

Path = Literal["plain", "fused", "compiled"]

# Without a compiler: plain operators keep 140 MB per step for the backward (batch 256), fused ones next to nothing, but
# take a third longer.
DEEPEST_PLAIN = 8
DEEPEST_KEPT = 8  # fused: up to here BatchNorm's sums are kept for the backward, 14 MB per step (batch 256)
DROPOUT = 0.5  # classification only, as in the original
INITIAL_ALPHA_LOGIT = 1.0  # sigmoid(1) = 0.731, as in the released code


class EdgeLinear(StackedLinear):
    """The Linear 169 -> 128 of a convolution, applied in three parts. Weight rows: centre, neighbour, Gaussians."""

    def __init__(self, models: int, hidden: int) -> None:
        super().__init__(models, 2 * hidden + GAUSSIAN_COUNT, 2 * hidden)
        self._parts = [hidden, hidden, GAUSSIAN_COUNT]

    def edge_part(self, gaussians: Tensor) -> Tensor:
        """Project the Gaussians: [M, N*K, 41] to [M, N*K, 2F]."""
        return torch.bmm(gaussians, self.weight.split(self._parts, dim=1)[2]).to(gaussians.dtype)

    def forward_parts(self, states: Tensor, edge_part: Tensor, batch: GraphBatch) -> Tensor:
        """Return W [h_i ; h_j ; u_ij] + b for all edges: [M, N*K, 2F]."""
        centre_weight, neighbour_weight, _ = self.weight.split(self._parts, dim=1)
        centre = affine(self.bias, states, centre_weight)
        neighbour = take_rows(torch.bmm(states, neighbour_weight).to(states.dtype), batch.neighbours)
        edges = neighbour + edge_part.view_as(neighbour) + centre[:, :, None]
        return edges.flatten(1, 2)


class NormPair(nn.Module):
    """The two BatchNorms of one convolution: on the edges (2F) and on the atoms (F)."""

    def __init__(self, models: int, hidden: int) -> None:
        super().__init__()
        self.edges = StackedBatchNorm(models, 2 * hidden)
        self.atoms = StackedBatchNorm(models, hidden)


class Head(nn.Module):
    """Readout: softplus, then Linear and softplus per hidden layer, then one output (or two log-probabilities)."""

    def __init__(self, models: int, config: ModelConfig) -> None:
        super().__init__()
        widths = [config.hidden_channels, *[config.head_channels] * config.head_layers]
        self.hidden = nn.ModuleList(StackedLinear(models, inputs, outputs) for inputs, outputs in pairwise(widths))
        self.classify = config.task == "classification"
        self.output = StackedLinear(models, config.head_channels, 2 if self.classify else 1)

    def forward(self, crystals: Tensor, dropout_mask: Tensor | None = None) -> Tensor:
        """Map [M, B, F] to [M, B, 1], or to log-probabilities [M, B, 2]."""
        rows = F.softplus(crystals)
        for index, layer in enumerate(self.hidden):
            rows = F.softplus(layer(rows))
            if index == 0 and dropout_mask is not None:
                rows = rows * dropout_mask
        rows = self.output(rows)
        return F.log_softmax(rows, dim=-1) if self.classify else rows


class CrystalGraphNetwork(nn.Module):
    """M networks of one shape (family, depth, norm, damping mode); fixed alphas may differ between them.

    Attributes:
        config: shape of the networks.
        models: M.
        path: how convolutions are computed: `plain` operators (the oracle), `fused` (kernels/fused.py), or
            `compiled`: fused with machine code on the CPU (kernels/native/) or with inductor's on a GPU.
            All give the same numbers to rounding.
    """

    element_features: Tensor
    gaussian_centres: Tensor
    fixed_alpha: Tensor

    def __init__(self, config: ModelConfig, element_features: Tensor, alphas: Sequence[Alpha] | None = None) -> None:
        """Build uninitialised networks.

        Args:
            config: shape of the networks.
            element_features: [101, 92], row Z for element Z.
            alphas: one damping per model, all of the same mode; default one model with the damping of `config`.
        """
        super().__init__()
        alphas = [config.alpha] if alphas is None else list(alphas)
        self.config, self.models = config, len(alphas)
        self.path: Path = uncompiled_path(config)
        hidden, recurrent = config.hidden_channels, config.family == "srcgcnn"
        self.register_buffer("element_features", element_features.float(), persistent=False)
        centres = torch.arange(GAUSSIAN_COUNT) * GAUSSIAN_STEP_ANGSTROM
        self.register_buffer("gaussian_centres", centres, persistent=False)
        self.embedding = StackedLinear(self.models, ELEMENT_FEATURES, hidden)
        self.linears = nn.ModuleList(EdgeLinear(self.models, hidden) for _ in range(1 if recurrent else config.depth))
        pairs = 1 if recurrent and config.norm == "shared" else config.depth
        self.norms = nn.ModuleList(NormPair(self.models, hidden) for _ in range(pairs))
        self.layer_norm = StackedLayerNorm(self.models, hidden) if config.layer_norm else None
        self._add_damping(alphas)
        self.head = Head(self.models, config)
        self._inductor = CompiledCall(type(self)._outputs)  # of no object: it would keep its network alive

    def _add_damping(self, alphas: list[Alpha]) -> None:
        self.alpha_logits: nn.Parameter | None = None
        if self.config.alpha in ("learned", "learned-scalar"):
            steps = self.config.depth if self.config.alpha == "learned" else 1
            self.alpha_logits = nn.Parameter(torch.full((self.models, steps), INITIAL_ALPHA_LOGIT))
        fixed = [alpha if isinstance(alpha, (int, float)) else 1.0 for alpha in alphas]
        self.register_buffer("fixed_alpha", torch.tensor(fixed, dtype=torch.float32), persistent=False)

    def reset_parameters(self, seeds: Sequence[int]) -> None:
        """Draw initial weights, one seed per model, in the order embedding, convolutions, head."""
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        for layer in [self.embedding, *self.linears, *self.head.hidden, self.head.output]:
            layer.reset_parameters(generators)

    def alphas(self) -> Tensor:
        """Return the damping of every step: [M, T]."""
        if self.alpha_logits is not None:
            return torch.sigmoid(self.alpha_logits).expand(-1, self.config.depth)
        return self.fixed_alpha[:, None].expand(-1, self.config.depth)

    def forward(self, batch: GraphBatch, dropout_mask: Tensor | None = None) -> Tensor:
        """Return the standardised target [M, B], or log-probabilities [M, B, 2]."""
        if self.path == "compiled" and batch.distances.is_cuda:
            mark_sizes((*batch.tensors, dropout_mask))
            return self._inductor(self, batch, dropout_mask)
        return self._outputs(batch, dropout_mask)

    def _outputs(self, batch: GraphBatch, dropout_mask: Tensor | None) -> Tensor:
        return self.readout(self.atom_states(batch), batch, dropout_mask)

    def readout(self, states: Tensor, batch: GraphBatch, dropout_mask: Tensor | None = None) -> Tensor:
        """Map atom states [M, N, F] to the outputs of `forward`."""
        outputs = self.head(mean_over_atoms(states, batch), dropout_mask)
        return outputs if self.head.classify else outputs.squeeze(-1)

    def atom_states(self, batch: GraphBatch) -> Tensor:
        """Return the atom states after the last step: [M, N, F]."""
        *_, last = self.steps(self.initial_states(batch), batch)
        return last

    def initial_states(self, batch: GraphBatch) -> Tensor:
        """Embed the elements: project the table once, then look up every atom."""
        table = self.embedding(self.element_features.expand(self.models, -1, -1))
        return take_rows(table, batch.atomic_numbers)

    def steps(self, states: Tensor, batch: GraphBatch) -> Iterator[Tensor]:
        """Yield the atom states [M, N, F] after every layer or recurrent step."""
        fused = self._fused(batch)
        gaussians = None if fused else self.gaussians(batch.distances)
        damped, alphas = self.config.alpha != "none", self.alphas()
        for step in range(self.config.depth):
            linear = self.linears[min(step, len(self.linears) - 1)]
            norms = self.norms[min(step, len(self.norms) - 1)]
            if fused is not None:
                if step < len(self.linears):
                    fused.project(linear)  # type: ignore[arg-type]
                summed = fused.summed_messages(states, linear, norms.edges)  # type: ignore[arg-type]
            else:
                if step < len(self.linears):
                    edge_part = linear.edge_part(gaussians)  # type: ignore[operator]
                summed = summed_messages(states, edge_part, linear, norms, batch)  # type: ignore[arg-type]
            updated = F.softplus(states + norms.atoms(summed, batch.atom_mask))  # type: ignore[operator]
            if damped:
                updated = torch.lerp(states, updated, alphas[:, step, None, None])
            states = updated if self.layer_norm is None else self.layer_norm(updated)
            yield states

    def _fused(self, batch: GraphBatch) -> FusedConvolution | None:
        """The fused convolutions, where asked for and possible."""
        device = batch.distances.device.type
        by_inductor = self.path == "compiled" and device == "cuda"  # which fuses the plain operators
        if self.path == "plain" or by_inductor or torch.is_autocast_enabled(device):
            return None
        differentiated = torch.is_grad_enabled() and (not self.training or batch.distances.requires_grad)
        frozen = any(norms.edges.training != self.training for norms in self.norms)  # type: ignore[union-attr]
        if differentiated or frozen:  # in training they take the batch's statistics, otherwise they have no gradient
            return None
        with torch.no_grad():
            recompute = self.config.depth > DEEPEST_KEPT
            return FusedConvolution(self._edges(batch), training=self.training, recompute=recompute)

    def _edges(self, batch: GraphBatch) -> list[NativeEdges] | list[TensorEdges]:
        members = range(self.models)
        if self.path == "compiled" and batch.distances.dtype == torch.float32:
            library = native_library(self.config.hidden_channels)
            if library is not None:
                return [NativeEdges.of_member(batch, member, library) for member in members]
        gaussians = self.gaussians(batch.distances)
        return [TensorEdges.of_member(batch, member, gaussians[member]) for member in members]

    def gaussians(self, distances: Tensor) -> Tensor:
        """Expand distances [M, N, K] into exp(-(d - mu)^2 / 0.2^2): [M, N*K, 41]; zero for masked edges."""
        offsets = distances.flatten(1)[..., None] - self.gaussian_centres
        return torch.exp(-(offsets / GAUSSIAN_STEP_ANGSTROM).square())


def uncompiled_path(config: ModelConfig) -> Path:
    """Return the faster of the ways that need no compiler, unless it takes much memory."""
    return "plain" if config.depth <= DEEPEST_PLAIN else "fused"


def summed_messages(
    states: Tensor, edge_part: Tensor, linear: EdgeLinear, norms: NormPair, batch: GraphBatch
) -> Tensor:
    """Sum the gated messages of the neighbours, in plain operators: [M, N, F] to [M, N, F]."""
    edge_mask = None if batch.edge_mask is None else batch.edge_mask.flatten(1)
    gates = norms.edges(linear.forward_parts(states, edge_part, batch), edge_mask)
    gate, core = gates.chunk(2, dim=-1)
    messages = torch.sigmoid(gate) * F.softplus(core)
    if edge_mask is not None:
        messages = messages * edge_mask[..., None]
    return messages.view(*batch.neighbours.shape, -1).sum(dim=2)


def mean_over_atoms(states: Tensor, batch: GraphBatch) -> Tensor:
    """Average the atoms of each crystal: [M, N, F] to [M, B, F]. Padding atoms fall into a row that is cut off."""
    models, crystals = batch.atom_counts.shape
    first = torch.arange(models, device=states.device)[:, None] * (crystals + 1)
    sums = states.new_zeros(models * (crystals + 1), states.shape[-1])
    sums = sums.index_add(0, (batch.crystal + first).flatten(), states.flatten(0, 1))
    return sums.view(models, crystals + 1, -1)[:, :crystals] / batch.atom_counts[..., None]


def dropout_masks(generators: Sequence[torch.Generator], crystals: int, config: ModelConfig) -> Tensor | None:
    """Draw the classification head's dropout [M, B, head] from one generator per model; None for regression."""
    if config.task != "classification":
        return None
    draws = [torch.rand(crystals, config.head_channels, generator=generator) for generator in generators]
    return (torch.stack(draws) >= DROPOUT).float() / (1 - DROPOUT)
