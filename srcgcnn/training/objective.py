"""What is minimised and what is reported: target scaling, loss, error."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from srcgcnn.models.config import Task
    from srcgcnn.run.training_config import TrainingConfig

PAPER_SAMPLE = 500  # rows that the released code draws for its normaliser


@dataclass(frozen=True)
class Normaliser:
    """Mean and deviation of the target, in its unit."""

    mean: float
    std: float


def fit_normaliser(
    config: TrainingConfig, task: Task, targets: np.ndarray, train: np.ndarray, seed: int, name: str
) -> Normaliser:
    """Fit on training rows only, or on a sample of all rows if the paper's normaliser is requested; NaN does not count.

    Raises:
        ValueError: all those targets are equal, so there is nothing to learn.
    """
    if task == "classification":
        return Normaliser(0.0, 1.0)
    values = _known(targets[train])
    if config.normaliser == "paper":
        known = _known(targets)
        values = np.array(random.Random(seed).sample(known.tolist(), min(PAPER_SAMPLE, len(known))))  # noqa: S311
    return Normaliser(float(np.mean(values)), deviation_of(values, name))


def deviation_of(targets: np.ndarray, name: str) -> float:
    """Return the standard deviation of training targets [R]; NaN does not count.

    Raises:
        ValueError: all those targets are equal, so there is nothing to learn.
    """
    values = _known(targets)
    if np.ptp(values) == 0:  # the deviation of equal numbers may be 1e-17
        raise ValueError(
            f"all {len(values)} training targets equal {values[0]}: nothing to learn; check the target column {name!r}"
        )
    return float(np.std(values, ddof=1))


def _known(targets: np.ndarray) -> np.ndarray:
    return targets[~np.isnan(targets)]


def loss_per_model(config: TrainingConfig, task: Task, outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean loss over the batch for each model, [M]: outputs are [M, B] or [M, B, 2], targets [M, B].

    With several targets per crystal, outputs and targets are [M, B, P] with NaN for gaps, and the loss is the mean of
    their losses, with equal weights, each over the crystals of the batch that have the target.
    """
    if task == "classification":
        picked = outputs.gather(-1, targets.long()[..., None]).squeeze(-1)
        return -picked.mean(dim=1)
    losses: dict[str, Callable[..., Tensor]] = {"mse": F.mse_loss, "l1": F.l1_loss, "huber": F.huber_loss}
    if targets.dim() == 2:
        return losses[config.loss](outputs, targets, reduction="none").mean(dim=1)
    return _mean_of_known(losses[config.loss](outputs, targets.nan_to_num(), reduction="none"), targets).mean(dim=1)


def _mean_of_known(values: Tensor, targets: Tensor) -> Tensor:
    """Average values [M, R, P] over the rows whose target is known: [M, P]; 0 if none is."""
    known = ~targets.isnan()
    return values.where(known, 0.0).sum(dim=1) / known.sum(dim=1).clamp(min=1)


def errors_per_model(
    task: Task, predictions: Tensor, targets: Tensor, deviations: Sequence[Sequence[float]] = ()
) -> Tensor:
    """Validation error that picks the best epoch: MAE in the target's unit, or 1 - accuracy. [M, R] gives [M].

    With several targets [M, R, P] it is the mean of their MAEs, each divided by its standard deviation in `deviations`
    [M, P].
    """
    if task == "classification":
        return ((predictions > 0.5).to(targets.dtype) != targets).to(targets.dtype).mean(dim=1)
    if targets.dim() == 2:
        return (predictions - targets).abs().mean(dim=1)
    errors = _mean_of_known((predictions - targets.nan_to_num()).abs(), targets)
    return (errors / torch.tensor(deviations, dtype=errors.dtype, device=errors.device)).mean(dim=1)


def root_mean_square(predictions: np.ndarray, targets: np.ndarray) -> float:
    """RMSE in the target's unit."""
    return float(np.sqrt(np.mean((predictions - targets) ** 2)))
