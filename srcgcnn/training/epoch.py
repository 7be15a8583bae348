"""One epoch of one trial, as the worker reports it to the driver."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EpochReport:
    """What one epoch of one trial reached.

    Attributes:
        key: the trial.
        epoch: from 0.
        train_loss: mean loss over the epoch's training crystals, on the standardised target.
        val_error: validation MAE in the target's unit, or 1 - accuracy.
        learning_rate: at the end of the epoch.
    """

    key: str
    epoch: int
    train_loss: float
    val_error: float
    learning_rate: float
