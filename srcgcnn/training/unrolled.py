"""Any-depth reading: a trained network whose blocks go in cycles, taken for more steps than it was trained for.

Norms of steps that were not trained take weights from the last step, and statistics re-estimated on training rows.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch

from srcgcnn.models.network import CrystalGraphNetwork
from srcgcnn.models.stacked import BATCH_NORM_MOMENTUM

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from srcgcnn.models.batch import GraphBatch
    from srcgcnn.training.trainer import GroupTrainer

FURTHER = 2  # read up to so many times the steps of training


def read_beyond(trainer: GroupTrainer) -> list[tuple[float, ...]]:
    """Return the validation errors of every member after steps T + 1 .. 2T, with the weights that it has now.

    Empty for networks whose blocks do not go in cycles, and if an error is not finite.
    """
    network, rows = cast("CrystalGraphNetwork", trainer.network), trainer.rows_of("val")
    config = network.config
    if config.distinct_blocks == config.depth:
        return [()] * network.models
    longer = unrolled(network, FURTHER * config.depth)
    estimate_norms(longer, config.depth, _batches(trainer, trainer.rows_of("train"), trainer.batch_sizes))
    with torch.no_grad():
        outputs = torch.cat(
            [_outputs(longer, batch, config.depth) for batch in _batches(trainer, rows, trainer.batch_size)], dim=2
        )
    errors = torch.stack([trainer.targets.errors_of_outputs(step, rows) for step in outputs])
    errors_of_members = [tuple(errors[:, member].tolist()) for member in range(network.models)]
    return [of_member if all(map(math.isfinite, of_member)) else () for of_member in errors_of_members]


def unrolled(network: CrystalGraphNetwork, depth: int) -> CrystalGraphNetwork:
    """Return the same weights for more steps, to be evaluated. What is each step's own, later steps take from the last.

    Raises:
        ValueError: its blocks do not go in cycles, so there is no block for another step.
    """
    config, own = network.config, network.state_dict()
    if config.distinct_blocks == config.depth:
        raise ValueError(f"{config.label} has a block for every step and none for step {config.depth + 1}")
    features, alphas = network.element_features, [config.alpha] * network.models
    longer_config = replace(config, depth=depth, blocks=config.distinct_blocks)
    longer = CrystalGraphNetwork(longer_config, features, alphas, network.backend).to(features.device)
    longer.fixed_alpha.copy_(network.fixed_alpha)
    last = max((int(match[1]) for name in own if (match := re.match(r"norms\.(\d+)\.", name))), default=0)
    weights = {name: own[name] if name in own else own[_of_step(name, last)] for name in longer.state_dict()}
    by_step = [name for name in weights if name.startswith("correction.")]  # [M, T, ...]
    for name in [*by_step, "alpha_logits"] if config.alpha == "learned" else by_step:
        last_step = own[name][:, -1:]
        further = last_step.expand(-1, depth - config.depth, *last_step.shape[2:])
        weights[name] = torch.cat([own[name], further], dim=1)
    longer.load_state_dict(weights)
    return longer.eval()


def _of_step(name: str, step: int) -> str:
    return re.sub(r"^norms\.\d+\.", f"norms.{step}.", name)


@torch.no_grad()
def estimate_norms(network: CrystalGraphNetwork, first: int, batches: Iterable[GraphBatch]) -> None:
    """Set the running averages of the norms of steps from `first` on to those of some batches. No other changes."""
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    new = [(name, buffer) for name, buffer in network.named_buffers() if _is_new_average(name, first)]
    for _, buffer in new:
        buffer.zero_()
    count = 0
    network.train()  # all steps see the statistics of the batch, as in training
    for batch in batches:
        for _ in network.steps(network.initial_state(batch), batch):
            pass
        count += 1
    network.eval()
    names = {name for name, _ in new}
    for name, buffer in network.named_buffers():
        if name in names and count:
            buffer.div_(1 - (1 - BATCH_NORM_MOMENTUM) ** count)  # they began at zero
        else:
            buffer.copy_(before[name])


def _is_new_average(name: str, first: int) -> bool:
    match = re.match(r"norms\.(\d+)\..*running_(mean|var)$", name)
    return match is not None and int(match[1]) >= first


def _batches(trainer: GroupTrainer, rows: Tensor, sizes: int | list[int]) -> Iterable[GraphBatch]:
    return (trainer.crystals.batch(part) for part in rows.split(sizes, dim=1))


def _outputs(network: CrystalGraphNetwork, batch: GraphBatch, trained: int) -> Tensor:
    """Read out after every step beyond those of training: [T, M, B] or [T, M, B, 2]."""
    states = list(network.steps(network.initial_state(batch), batch))[trained:]
    return torch.stack([network.readout(state, batch) for state in states])
