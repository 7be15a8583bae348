"""What is minimised and what is reported: target scaling, loss, error."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from srcgcnn.models.config import Task
    from srcgcnn.run.trial import TrainingConfig

PAPER_SAMPLE = 500  # rows that the released code draws for its normaliser


@dataclass(frozen=True)
class Normaliser:
    """Mean and deviation of the target, in its unit."""

    mean: float
    std: float


def fit_normaliser(config: TrainingConfig, task: Task, targets: np.ndarray, train: np.ndarray, seed: int) -> Normaliser:
    """Fit on training rows only, or on a sample of all rows where the paper's way is asked for.

    Raises:
        ValueError: all those targets are equal, so that there is nothing to learn.
    """
    if task == "classification":
        return Normaliser(0.0, 1.0)
    values = targets[train]
    if config.normaliser == "paper":
        values = np.array(random.Random(seed).sample(targets.tolist(), min(PAPER_SAMPLE, len(targets))))  # noqa: S311
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    if spread == 0:
        raise ValueError(
            f"all {len(values)} training targets equal {values[0]}: nothing to learn; check the target column"
        )
    return Normaliser(float(np.mean(values)), spread)


def loss_per_model(config: TrainingConfig, task: Task, outputs: Tensor, wanted: Tensor) -> Tensor:
    """Mean loss over the batch for each model: outputs [M, B] or [M, B, 2], wanted [M, B], gives [M]."""
    if task == "classification":
        picked = outputs.gather(-1, wanted.long()[..., None]).squeeze(-1)
        return -picked.mean(dim=1)
    losses: dict[str, Callable[..., Tensor]] = {"mse": F.mse_loss, "l1": F.l1_loss, "huber": F.huber_loss}
    return losses[config.loss](outputs, wanted, reduction="none").mean(dim=1)


def errors_per_model(task: Task, predictions: Tensor, wanted: Tensor) -> Tensor:
    """Validation error that picks the best epoch: MAE in the target's unit, or 1 - accuracy. [M, R] gives [M]."""
    if task == "classification":
        return ((predictions > 0.5).to(wanted.dtype) != wanted).to(wanted.dtype).mean(dim=1)
    return (predictions - wanted).abs().mean(dim=1)


def root_mean_square(predictions: np.ndarray, wanted: np.ndarray) -> float:
    """RMSE in the target's unit."""
    return float(np.sqrt(np.mean((predictions - wanted) ** 2)))
