"""Optimiser, learning-rate schedule and gradient clipping of a group: PyTorch's own, on stacked parameters.

Adam, AdamW and SGD act on every number by itself, so a stack of M models moves exactly as M models would.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import lr_scheduler

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

    from srcgcnn.training.trial import TrainingConfig


def make_optimizer(config: TrainingConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Build the optimiser."""
    shared: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=config.momentum, **shared)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, **shared)


class Schedule:
    """A learning-rate schedule that knows whether it steps by batch or by epoch."""

    def __init__(self, config: TrainingConfig, optimizer: torch.optim.Optimizer, batches_per_epoch: int) -> None:
        self._kind = config.schedule
        self._scheduler: Any = _make_scheduler(config, optimizer, batches_per_epoch)

    def after_batch(self) -> None:
        """Step a per-batch schedule."""
        if self._kind == "onecycle":
            self._scheduler.step()

    def after_epoch(self, val_error: float) -> None:
        """Step a per-epoch schedule; `plateau` looks at the validation error."""
        if self._kind == "plateau":
            self._scheduler.step(val_error)
        elif self._kind in ("multistep", "cosine"):
            with warnings.catch_warnings():  # right after a resume PyTorch misses the optimiser's first step
                warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step", category=UserWarning)
                self._scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the schedule's state without functions, so that it loads with `weights_only=True`."""
        if self._scheduler is None:
            return {}
        state = self._scheduler.state_dict()
        return {name: value for name, value in state.items() if not callable(value) and name != "_anneal_func_type"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        if self._scheduler is not None:
            self._scheduler.load_state_dict(state)


def _make_scheduler(config: TrainingConfig, optimizer: torch.optim.Optimizer, batches_per_epoch: int) -> Any:
    if config.schedule == "multistep":
        return lr_scheduler.MultiStepLR(optimizer, list(config.milestones), config.gamma)
    if config.schedule == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, config.epochs)
    if config.schedule == "onecycle":
        steps = config.epochs * batches_per_epoch
        return lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=steps)
    if config.schedule == "plateau":
        return lr_scheduler.ReduceLROnPlateau(optimizer, factor=config.gamma, patience=config.plateau_patience_epochs)
    return None


def clip_per_model(parameters: Iterable[nn.Parameter], largest: float) -> None:
    """Scale the gradients of each model [M, ...] to a norm of at most `largest`."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    squares: Tensor = torch.stack([gradient.flatten(1).square().sum(dim=1) for gradient in gradients]).sum(dim=0)
    scale = (largest / (squares.sqrt() + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grad_norm_ does
    for gradient in gradients:
        gradient.mul_(scale.view(-1, *[1] * (gradient.dim() - 1)))
