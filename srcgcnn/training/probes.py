"""Depth probes: what each step of message passing does to the atoms.

With the trained weights: does the recurrence converge, do states explode, do the atoms of a crystal become alike
(oversmoothing), which steps does the readout need, and what do more steps do than it was trained for? The test set is
not touched. Gradients are measured while it trains (`gradient_probes.py`).
"""

from __future__ import annotations

import math
from itertools import chain, pairwise
from typing import TYPE_CHECKING

import torch

from srcgcnn.models.network import StepwiseNetwork
from srcgcnn.models.readout import mean_over_atoms, mean_over_slots
from srcgcnn.run.trial_result import DepthProbes
from srcgcnn.training.unrolled import read_beyond

if TYPE_CHECKING:
    from torch import Tensor

    from srcgcnn.models.batch import GraphBatch
    from srcgcnn.training.trainer import GroupTrainer


def probe_depth(trainer: GroupTrainer) -> list[DepthProbes | None]:
    """Return the probes of every member, with the weights that its network has now.

    None if one is not finite, and for networks without steps.
    """
    network, rows = trainer.network, trainer.rows_of("val")
    if not isinstance(network, StepwiseNetwork):
        return [None] * network.models
    was_training = network.training
    network.eval()
    with torch.no_grad():
        batches = (trainer.crystals.batch(part) for part in rows.split(trainer.batch_size, dim=1))
        parts = zip(*(_readings(network, batch) for batch in batches), strict=True)
        change, spread, square, energy, outputs = (torch.cat(part, dim=2) for part in parts)  # [T + 1, M, R]
    network.train(was_training)
    errors = [trainer.targets.errors_of_outputs(step, rows) for step in outputs]
    found = [
        DepthProbes(
            change=tuple(change[1:, member].mean(dim=1).tolist()),
            spread=tuple(spread[:, member].nanmean(dim=1).tolist()),
            exit_error=tuple(float(error[member]) for error in errors),
            beyond=beyond,
            size=tuple(square[:, member].mean(dim=1).sqrt().tolist()),
            energy=tuple(energy[:, member].mean(dim=1).tolist()),
            gradients=_finite_rows(trainer.progress.members[member].gradients),
        )
        for member, beyond in enumerate(read_beyond(trainer))
    ]
    return [probes if _finite(probes) else None for probes in found]


def _finite_rows(gradients: list[list[float]]) -> tuple[tuple[float, ...], ...]:
    """Return the gradients of every epoch, or nothing if one is not finite."""
    found = tuple(tuple(row) for row in gradients)
    return found if all(map(math.isfinite, chain.from_iterable(found))) else ()


def _finite(probes: DepthProbes) -> bool:
    """Whether JSON can hold them: no crystal of two atoms, or states of norm 0, must not cost the trial its result."""
    parts = (probes.change, probes.spread, probes.exit_error, probes.size, probes.energy)
    return all(map(math.isfinite, chain.from_iterable(parts)))


def _readings(network: StepwiseNetwork, batch: GraphBatch) -> tuple[Tensor, ...]:
    """Return change, spread, mean square and energy [T + 1, M, B], and outputs of every step [T + 1, M, B, ...]."""
    first = network.initial_state(batch)
    steps = pairwise(chain([first, first], network.steps(first, batch)))
    found = [
        (
            _change(before.atoms, after.atoms, batch),
            _spread(after.atoms, batch),
            mean_over_atoms(after.atoms.double().square().mean(dim=-1, keepdim=True), batch).squeeze(-1),
            _energy(after.atoms, batch),
            network.readout(after, batch),
        )
        for before, after in steps
    ]
    return tuple(torch.stack(readings) for readings in zip(*found, strict=True))


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


def _energy(states: Tensor, batch: GraphBatch) -> Tensor:
    """Dirichlet energy per edge and channel, mean of (h_i - h_j)^2 / 2 over the edges of each atom: to [M, B].

    Over the mean square of the states it is 0 where neighbours are alike, about 1 where they have nothing in common.
    """
    of_models = zip(states.double(), batch.neighbours, strict=True)
    halves = [(own[:, None] - own[near]).square().mean(dim=-1, keepdim=True) / 2 for own, near in of_models]
    return mean_over_atoms(mean_over_slots(torch.stack(halves), batch), batch).squeeze(-1)
