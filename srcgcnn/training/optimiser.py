"""Optimiser, learning-rate schedule and gradient clipping of a group: PyTorch's own, on stacked parameters.

Adam, AdamW and SGD act on every number by itself, so a stack of M models moves exactly as M models would.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import lr_scheduler

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor, nn

    from srcgcnn.run.training_config import TrainingConfig


def make_optimizer(config: TrainingConfig, parameters: Sequence[Tensor]) -> torch.optim.Optimizer:
    """Build the optimiser; on a GPU one kernel steps all parameters."""
    shared: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if parameters[0].is_cuda:
        shared["fused"] = True
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=config.momentum, **shared)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, **shared)


class GroupOptimizer:
    """One optimiser for all members, each with its own learning rate and schedule.

    The steps of Adam, AdamW and SGD are proportional to the learning rate. So the optimiser steps with the largest
    rate of all, and each member goes its share of that way, the one with the largest rate all of it.
    """

    def __init__(
        self, configs: Sequence[TrainingConfig], parameters: Sequence[nn.Parameter], batches_per_epoch: int
    ) -> None:
        """Prepare for stacked parameters [M, ...] and one configuration per member."""
        self._parameters = list(parameters)
        self._optimizer = make_optimizer(configs[0], self._parameters)
        self._schedules = [Schedule(config, batches_per_epoch) for config in configs]
        self._apply_rates()

    @property
    def rates(self) -> list[float]:
        """Learning rate of each member."""
        return [schedule.rate for schedule in self._schedules]

    def zero_grad(self) -> None:
        """Clear the gradients."""
        self._optimizer.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Move all members, then the schedules that step by batch."""
        rates = self.rates
        if len(set(rates)) == 1:
            self._optimizer.step()
        else:
            self._step_each(rates)
        for schedule in self._schedules:
            schedule.after_batch()
        self._apply_rates()

    @torch.no_grad()
    def _step_each(self, rates: list[float]) -> None:
        before = [parameter.clone() for parameter in self._parameters]
        self._optimizer.step()
        # one asynchronous copy; a tensor made on the device from numbers would wait
        shares = torch.tensor([rate / max(rates) for rate in rates]).to(before[0].device, non_blocking=True)
        for parameter, old in zip(self._parameters, before, strict=True):
            weight = shares.view(-1, *[1] * (parameter.dim() - 1))
            parameter.copy_(torch.lerp(old, parameter, weight))

    def after_epoch(self, val_errors: Sequence[float]) -> None:
        """Step the schedules that step by epoch; `plateau` looks at the member's validation error."""
        for schedule, error in zip(self._schedules, val_errors, strict=True):
            schedule.after_epoch(error)
        self._apply_rates()

    def _apply_rates(self) -> None:
        for group in self._optimizer.param_groups:
            group.update(self._schedules[0].settings)
            group["lr"] = max(self.rates)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        schedules = [schedule.state_dict() for schedule in self._schedules]
        return {"optimizer": self._optimizer.state_dict(), "schedules": schedules}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self._optimizer.load_state_dict(state["optimizer"])
        for schedule, saved in zip(self._schedules, state["schedules"], strict=True):
            schedule.load_state_dict(saved)


class Schedule:
    """A learning-rate schedule of one member: PyTorch's own, on an optimiser that moves nothing.

    It knows whether it steps by batch or by epoch.
    """

    def __init__(self, config: TrainingConfig, batches_per_epoch: int) -> None:
        self._kind = config.schedule
        self._optimizer = make_optimizer(config, [torch.zeros(1)])
        self._warmup_steps, self._steps = config.warmup_epochs * batches_per_epoch, 0
        self._scheduler: Any = _make_scheduler(config, self._optimizer, batches_per_epoch)

    @property
    def rate(self) -> float:
        """Learning rate now."""
        warmth = min(1.0, (self._steps + 1) / self._warmup_steps) if self._warmup_steps else 1.0
        return float(self._optimizer.param_groups[0]["lr"]) * warmth

    @property
    def settings(self) -> dict[str, Any]:
        """What else a schedule changes: `onecycle` the momentum. The same for all members."""
        group = self._optimizer.param_groups[0]
        return {name: group[name] for name in ("betas", "momentum") if name in group}

    def after_batch(self) -> None:
        """Step a per-batch schedule."""
        self._steps += 1
        if self._kind == "onecycle":
            self._step()

    def after_epoch(self, val_error: float) -> None:
        """Step a per-epoch schedule."""
        if self._kind == "plateau":
            self._scheduler.step(val_error)
        elif self._kind in ("multistep", "cosine"):
            self._step()

    def _step(self) -> None:
        with warnings.catch_warnings():  # PyTorch misses the optimiser's step
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step", category=UserWarning)
            self._scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the schedule's state without functions, so that it loads with `weights_only=True`."""
        state = {} if self._scheduler is None else self._scheduler.state_dict()
        kept = {name: value for name, value in state.items() if not callable(value) and name != "_anneal_func_type"}
        return {"scheduler": kept, "optimizer": self._optimizer.state_dict(), "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self._optimizer.load_state_dict(state["optimizer"])
        self._steps = state.get("steps", 0)
        if self._scheduler is not None:
            self._scheduler.load_state_dict(state["scheduler"])


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
