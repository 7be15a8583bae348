"""How much of the gradient reaches each step of message passing, at the start of the first epochs."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import torch

from srcgcnn.models.stacked import recomputation

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from srcgcnn.models.batch import GraphBatch
    from srcgcnn.models.network import StepwiseNetwork

PROBED_EPOCHS = 3  # at whose start gradients are measured


def probe_gradients(network: StepwiseNetwork, batch: GraphBatch, losses: Callable[[Tensor], Tensor]) -> Tensor:
    """Return |dL / dh_t|, the norm over all atoms of a batch, after every step t = 0 .. T of every model: [T + 1, M].

    Nothing is left behind: no gradient of a weight, no moved running average.

    Args:
        network: in the mode in which it is trained.
        batch: of training crystals.
        losses: from outputs to the loss of each model, [M, B] to [M].
    """
    with recomputation(), torch.enable_grad():
        first = network.initial_state(batch)
        first.atoms.requires_grad_()  # also if the embedding is frozen
        states, followed = zip(*[(first, [first.atoms]), *network.followed(first, batch)], strict=True)
        loss = losses(network.readout(states[-1], batch)).sum()
        gradients = iter(torch.autograd.grad(loss, list(chain.from_iterable(followed)), materialize_grads=True))
    return torch.stack([_norms([next(gradients) for _ in atoms]) for atoms in followed])


def _norms(gradients: list[Tensor]) -> Tensor:
    """Norm of each model's gradient [M]: of one [M, N, F], or of M of [N, F]."""
    rows = gradients[0] if gradients[0].dim() == 3 else gradients
    return torch.stack([one.double().norm() for one in rows])
