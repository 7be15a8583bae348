"""The equations of `block.py` once more, slow and obvious: one network, one crystal batch, no shortcuts.

This is the oracle that every fast path is tested against; nothing else uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from srcgcnn.models.batch import GraphBatch


def reference_forward(network: Any, batch: GraphBatch, member: int = 0) -> Tensor:
    """Return what one member predicts for its batch, in train or eval mode as the network is, updating nothing.

    Returns:
        [B] standardised targets, or [B, 2] log-probabilities (without dropout).
    """
    weights = {name: value[member] for name, value in network.state_dict().items()}
    real = torch.ones_like(batch.crystal[member], dtype=torch.bool)
    if batch.atom_mask is not None:
        real = batch.atom_mask[member]
    config, training = network.config, network.training
    features = network.element_features[batch.atomic_numbers[member][real]]
    states = features @ weights["embedding.weight"] + weights["embedding.bias"]
    for step in range(config.depth):
        block, norms = f"blocks.{step % config.distinct_blocks}", min(step, config.norm_sets - 1)
        statistics = step if config.norm == "affine" else norms
        names = (block, f"norms.{norms}", f"norms.{statistics}")
        updated = _convolution(states, weights, names, batch, member, real, training=training)
        if config.alpha != "none":
            alpha = network.alphas()[member, step]
            updated = (1 - alpha) * states + alpha * updated
        if config.layer_norm:
            scale, shift = weights["layer_norm.weight"], weights["layer_norm.bias"]
            updated = torch.nn.functional.layer_norm(updated, updated.shape[-1:], scale, shift)
        states = updated
    return _head(states, weights, batch, member, real, config.head_layers, classify=config.task == "classification")


def _convolution(
    states: Tensor,
    weights: dict[str, Tensor],
    names: tuple[str, str, str],
    batch: GraphBatch,
    member: int,
    real: Tensor,
    *,
    training: bool,
) -> Tensor:
    block, norms, statistics = names
    neighbours, distances = batch.neighbours[member][real], batch.distances[member][real]
    mask = torch.ones_like(distances, dtype=torch.bool)
    if batch.edge_mask is not None:
        mask = batch.edge_mask[member][real]
    centre, slot = mask.nonzero(as_tuple=True)
    gaussian = torch.exp(-((distances[centre, slot][:, None] - 0.2 * torch.arange(41)) ** 2) / 0.2**2)
    concatenated = torch.cat([states[centre], states[neighbours[centre, slot]], gaussian.to(states.dtype)], dim=1)
    edges = concatenated @ weights[f"{block}.weight"] + weights[f"{block}.bias"]
    edges = _batch_norm(edges, weights, (f"{norms}.edges", f"{statistics}.edges"), training=training)
    half = edges.shape[1] // 2
    messages = torch.sigmoid(edges[:, :half]) * torch.nn.functional.softplus(edges[:, half:])
    summed = torch.stack([messages[centre == atom].sum(dim=0) for atom in range(len(states))])
    names_of_norm = (f"{norms}.atoms", f"{statistics}.atoms")
    return torch.nn.functional.softplus(states + _batch_norm(summed, weights, names_of_norm, training=training))


def _batch_norm(rows: Tensor, weights: dict[str, Tensor], names: tuple[str, str], *, training: bool) -> Tensor:
    name, statistics = names
    if training:
        mean, variance = rows.mean(dim=0), rows.var(dim=0, unbiased=False)
    else:
        mean, variance = weights[f"{statistics}.running_mean"], weights[f"{statistics}.running_var"]
    return (rows - mean) / torch.sqrt(variance + 1e-5) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _head(
    states: Tensor,
    weights: dict[str, Tensor],
    batch: GraphBatch,
    member: int,
    real: Tensor,
    layers: int,
    *,
    classify: bool,
) -> Tensor:
    crystal = batch.crystal[member][real]
    rows = torch.stack([states[crystal == index].mean(dim=0) for index in range(batch.atom_counts.shape[1])])
    rows = torch.nn.functional.softplus(rows)
    for index in range(layers):
        linear = rows @ weights[f"head.hidden.{index}.weight"] + weights[f"head.hidden.{index}.bias"]
        rows = torch.nn.functional.softplus(linear)
    rows = rows @ weights["head.output.weight"] + weights["head.output.bias"]
    return torch.log_softmax(rows, dim=-1) if classify else rows[:, 0]
