"""What a running group has reached: everything that a checkpoint must hold besides weights and optimiser."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class MemberProgress:
    """One trial of a group.

    Attributes:
        best_epoch: epoch of the lowest validation error so far, -1 before the first.
        stopped: no longer trained, for patience or a fault.
        fault: why the trial failed, "" while it has not.
        gradients: of the loss by the states after every step, at the start of each of the first epochs.
    """

    train_loss: list[float] = field(default_factory=list)
    val_error: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    best_error: float = math.inf
    best_epoch: int = -1
    stopped: bool = False
    fault: str = ""
    gradients: list[list[float]] = field(default_factory=list)

    def record(self, epoch: int, train_loss: float, val_error: float, rate: float, patience: int | None) -> bool:
        """Take in one epoch; returns True when it is the best so far."""
        if not (math.isfinite(train_loss) and math.isfinite(val_error)):
            self.stopped = True
            self.fault = (
                f"loss={train_loss}, validation error={val_error} in epoch {epoch} at learning rate {rate:g}: the "
                "training diverged; lower the learning rate or set clip_norm"
            )
            return False
        self.train_loss.append(train_loss)
        self.val_error.append(val_error)
        self.learning_rate.append(rate)
        improved = val_error < self.best_error
        if improved:
            self.best_error, self.best_epoch = val_error, epoch
        if patience is not None and epoch - self.best_epoch >= patience:
            self.stopped = True
        return improved


@dataclass
class GroupProgress:
    """A group of trials.

    Attributes:
        epoch: current epoch.
        batches_done: batches of this epoch that were trained.
        loss_sums: sum over this epoch's crystals of each member's loss.
        seconds: time spent in earlier attempts and up to the checkpoint.
        resumes: how often the group started from a checkpoint.
    """

    members: list[MemberProgress]
    loss_sums: list[float]
    epoch: int = 0
    batches_done: int = 0
    seconds: float = 0.0
    resumes: int = 0

    @classmethod
    def start(cls, models: int) -> GroupProgress:
        """Begin at epoch 0."""
        return cls([MemberProgress() for _ in range(models)], [0.0] * models)

    @property
    def all_stopped(self) -> bool:
        """Whether no member trains any more."""
        return all(member.stopped for member in self.members)

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists and numbers."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> GroupProgress:
        """Build from `to_dict`."""
        return cls(**{**data, "members": [MemberProgress(**member) for member in data["members"]]})
