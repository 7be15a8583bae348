"""Training for depth: a loss after several steps, a random number of steps, dropped steps, denoising.

Every draw is a function of seed, epoch and batch. With the defaults of `DepthRecipe` none of this runs.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import torch

from srcgcnn.run.training_config import DepthRecipe
from srcgcnn.training.denoising import Denoiser, denoising_loss, draw_noise
from srcgcnn.training.objective import loss_per_model
from srcgcnn.training.streams import stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from srcgcnn.models.batch import GraphBatch
    from srcgcnn.models.network import StepwiseNetwork
    from srcgcnn.run.trial import TrialConfig

SHARES, NOISE, WEIGHTS = 1, 2, 3  # streams of a seed, in addition to that of the batches
STEPS_SEED = 20_260  # of the number of steps: the same for all trials, which may train as one group


class DepthTraining:
    """The losses of a group whose recipe has more than the error after the last step.

    Attributes:
        denoiser: predicts the noise, if its loss has a weight; else None.
    """

    def __init__(self, configs: Sequence[TrialConfig], device: torch.device) -> None:
        """Prepare for trials of one shape."""
        first = configs[0]
        self._orders = [config.seeds.order for config in configs]
        self._training, self._model, self._recipe = first.training, first.model, first.training.depth
        self._least, self._most = self._recipe.sampled_steps(self._model.depth)
        self.denoiser: Denoiser | None = None
        if self._recipe.denoising:
            self.denoiser = Denoiser(len(configs), self._model.hidden_channels)
            self.denoiser.reset_parameters([stream(config.seeds.init, WEIGHTS) for config in configs])
            self.denoiser.to(device)

    @property
    def samples(self) -> bool:
        """Whether batches differ in their number of steps."""
        return self._least < self._most

    def steps_of(self, epoch: int, number: int) -> int:
        """Draw how many steps a batch takes."""
        return int(torch.randint(self._least, self._most + 1, (), generator=stream(STEPS_SEED, epoch, number)))

    def shares_of(self, epoch: int, number: int) -> Tensor | None:
        """Draw the factor of each step's update, 0 or 1 / (1 - step_dropout): [M, T]; None if no step is dropped."""
        dropped = self._recipe.step_dropout
        if not dropped:
            return None
        draws = [
            torch.rand(self._model.depth, generator=stream(order, epoch, number, SHARES)) for order in self._orders
        ]
        return (torch.stack(draws) >= dropped).float() / (1 - dropped)

    def noise_of(self, batch: GraphBatch, epoch: int, number: int) -> Tensor | None:
        """Draw noise in units of its deviation, [M, N, K] on the host; None if there is none."""
        if not self._recipe.noise_angstrom:
            return None
        return draw_noise(batch, [stream(order, epoch, number, NOISE) for order in self._orders])

    def losses(
        self,
        network: StepwiseNetwork,
        batch: GraphBatch,
        targets: Tensor,
        dropout: Tensor | None,
        steps: int,
        shares: Tensor | None,
        noise: Tensor | None,
    ) -> Tensor:
        """Return the loss of each model [M]: the weighted losses of the outputs, and that of denoising.

        Args:
            network: the M models.
            batch: clean crystals.
            targets: standardised targets [M, B] or [M, B, P].
            dropout: mask of the readout.
            steps: how many steps this batch takes.
            shares: from `shares_of`.
            noise: from `noise_of`.
        """
        if noise is not None:
            batch = replace(batch, distances=batch.distances + self._recipe.noise_angstrom * noise)
        states = list(islice(network.steps(network.initial_state(batch), batch, shares), steps))
        total = targets.new_zeros(len(targets))
        for state, weight in zip(states, step_weights(self._recipe, steps), strict=True):
            if weight:
                outputs = network.readout(state, batch, dropout)
                total = total + weight * loss_per_model(self._training, self._model.task, outputs, targets)
        if self.denoiser is None or noise is None:
            return total
        return total + self._recipe.denoising * denoising_loss(self.denoiser(states[-1].atoms, batch), noise, batch)


def depth_training(configs: Sequence[TrialConfig], device: torch.device) -> DepthTraining | None:
    """Return the losses of a group; None if only the error after the last step counts."""
    return None if configs[0].training.depth == DepthRecipe() else DepthTraining(configs, device)


def step_weights(recipe: DepthRecipe, steps: int) -> list[float]:
    """Return the weight of the loss after each step; they add up to 1."""
    if recipe.supervision == "last":
        return [0.0] * (steps - 1) + [1.0]
    weights = [1.0 if recipe.supervision == "uniform" else float(step) for step in range(1, steps + 1)]
    return [weight / sum(weights) for weight in weights]
