"""Depth probes: what each step of message passing does to the atoms, with the trained weights.

Does the recurrence come to rest, do the atoms of a crystal become alike (oversmoothing), which steps does the readout
need, and what do more steps do than it was trained for? The test set is not touched.
"""

from __future__ import annotations

import math
from itertools import chain, pairwise
from typing import TYPE_CHECKING

import torch

from srcgcnn.models.network import StepwiseNetwork
from srcgcnn.models.readout import mean_over_atoms
from srcgcnn.run.trial import DepthProbes
from srcgcnn.training.objective import errors_per_model
from srcgcnn.training.predictor import in_units
from srcgcnn.training.unrolled import read_beyond

if TYPE_CHECKING:
    from torch import Tensor

    from srcgcnn.models.batch import GraphBatch
    from srcgcnn.training.trainer import GroupTrainer


def probe_depth(trainer: GroupTrainer) -> list[DepthProbes | None]:
    """Return the probes of every member, with the weights that its network has now.

    None where one is not finite, and for networks without steps.
    """
    network, rows = trainer.network, trainer.rows_of("val")
    if not isinstance(network, StepwiseNetwork):
        return [None] * network.models
    was_training = network.training
    network.eval()
    with torch.no_grad():
        batches = (trainer.crystals.batch(part) for part in rows.split(trainer.batch_size, dim=1))
        parts = zip(*(_readings(network, batch) for batch in batches), strict=True)
        change, spread, outputs = (torch.cat(part, dim=2) for part in parts)  # [T + 1, M, R]
    network.train(was_training)
    wanted, task = trainer.targets_of(rows), network.config.task
    errors = [errors_per_model(task, in_units(step, trainer.scales, task), wanted) for step in outputs]
    found = [
        DepthProbes(
            change=tuple(change[1:, member].mean(dim=1).tolist()),
            spread=tuple(spread[:, member].nanmean(dim=1).tolist()),
            exit_error=tuple(float(error[member]) for error in errors),
            beyond=beyond,
        )
        for member, beyond in enumerate(read_beyond(trainer))
    ]
    return [probes if _finite(probes) else None for probes in found]


def _finite(probes: DepthProbes) -> bool:
    """Whether JSON can hold them: no crystal of two atoms, or states of norm 0, must not cost the trial its result."""
    return all(map(math.isfinite, (*probes.change, *probes.spread, *probes.exit_error)))


def _readings(network: StepwiseNetwork, batch: GraphBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Return change and spread [T + 1, M, B] and outputs [T + 1, M, B] or [T + 1, M, B, 2], at steps 0 .. T."""
    first = network.initial_state(batch)
    steps = pairwise(chain([first, first], network.steps(first, batch)))
    found = [
        (_change(before.atoms, after.atoms, batch), _spread(after.atoms, batch), network.readout(after, batch))
        for before, after in steps
    ]
    change, spread, outputs = (torch.stack(readings) for readings in zip(*found, strict=True))
    return change, spread, outputs


def _change(before: Tensor, after: Tensor, batch: GraphBatch) -> Tensor:
    """|h_t - h_(t-1)| / |h_(t-1)|, mean over the atoms of each crystal: [M, N, F] to [M, B]."""
    ratio = (after - before).norm(dim=-1) / before.norm(dim=-1)
    return mean_over_atoms(ratio[..., None], batch).squeeze(-1).double()


def _spread(states: Tensor, batch: GraphBatch) -> Tensor:
    """Variance of the atoms of each crystal over their mean square, 1 - |mean h|^2 / mean |h|^2: [M, N, F] to [M, B].

    The Dirichlet energy of the complete graph on the atoms (arXiv:2303.10993), without its scale; NaN for one atom.
    """
    states = states.double()
    square = mean_over_atoms(states.square().sum(dim=-1, keepdim=True), batch).squeeze(-1)
    spread = 1 - mean_over_atoms(states, batch).square().sum(dim=-1) / square
    return spread.where(batch.atom_counts > 1, torch.nan)
