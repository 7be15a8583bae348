"""One step of training for M networks: losses, gradients, optimiser, average of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.profiler import record_function

from srcgcnn.models.batch import GraphBatch
from srcgcnn.models.readout import dropout_masks
from srcgcnn.training.backend import records
from srcgcnn.training.depth import depth_training
from srcgcnn.training.objective import loss_per_model
from srcgcnn.training.optimiser import GroupOptimizer, clip_per_model
from srcgcnn.training.precision import autocast, tensor_cores
from srcgcnn.training.replay import CudaRecorder, Replay
from srcgcnn.training.streams import stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from srcgcnn.models.network import Network, StepwiseNetwork
    from srcgcnn.run.trial import TrialConfig
    from srcgcnn.training.depth import DepthTraining
    from srcgcnn.training.replay import Recorder

BATCH, FORWARD, BACKWARD, OPTIMISER = "batch", "forward", "backward", "optimiser"  # phases of a profile


class TrainingStep:
    """Trains the networks of a group by one batch at a time. Random numbers are functions of seed, epoch and batch.

    Attributes:
        network: the M networks that are trained.
        optimizer: M optimisers with their schedules.
    """

    def __init__(
        self, network: Network, configs: Sequence[TrialConfig], batches_per_epoch: int, device: torch.device
    ) -> None:
        """Prepare for trials of one shape, whose networks are on the device."""
        self.network = network
        self._orders = [config.seeds.order for config in configs]
        self._training, self._model, self._device = configs[0].training, configs[0].model, device
        self._depth = depth_training(configs, device)
        denoiser = self._depth.denoiser if self._depth else None
        modules = [network] if denoiser is None else [network, denoiser]
        self._trained = [one for one in nn.ModuleList(modules).parameters() if one.requires_grad]
        self.optimizer = GroupOptimizer([config.training for config in configs], self._trained, batches_per_epoch)
        decay = self._training.average_decay
        self._average = None if decay is None else averaged(network, decay)
        recorded = records(self._model, device) and not (self._depth and self._depth.samples)
        self.repeat_with(CudaRecorder(device) if recorded else None)

    def repeat_with(self, recorder: Recorder | None) -> None:
        """Repeat recordings of the steps, on batches of few sizes; None launches every step kernel by kernel."""
        self._replay = Replay(recorder)
        self.repeats = recorder is not None

    @property
    def recordings(self) -> int:
        """Number of recorded steps and predictions, one per size of batch."""
        return self._replay.recordings

    @property
    def evaluated(self) -> Network:
        """The networks that are validated and kept: those that train, or the average of their weights."""
        return self.network if self._average is None else cast("Network", self._average.module)

    @property
    def beside(self) -> dict[str, nn.Module]:
        """What a checkpoint must hold besides the networks."""
        denoiser = self._depth.denoiser if self._depth else None
        modules = {"denoiser": denoiser, "average": self._average}
        return {name: module for name, module in modules.items() if module is not None}

    def end_average(self) -> None:
        """From now on the networks themselves are evaluated."""
        if self._average is not None:
            self._replay = Replay(self._replay.recorder)  # recordings read the weights of the average
        self._average = None

    def outputs(self, batch: GraphBatch) -> Tensor:
        """Return the standardised outputs of the evaluated networks: [M, B] or [M, B, P]."""
        (outputs,) = self._replay(self._outputs, *batch.tensors)
        return outputs.clone()  # the next batch may overwrite it

    def take(self, batch: GraphBatch, targets: Tensor, epoch: int, number: int) -> Tensor:
        """Take the step.

        Args:
            batch: B crystals for each network.
            targets: standardised [M, B] or [M, B, P].
            epoch: of the training, 0-based.
            number: of the batch in its epoch, 1-based: 0 is the stream of the order.

        Returns:
            The loss of each network [M], float64.
        """
        dropout = self._dropout(targets.shape[1], epoch, number)
        with tensor_cores(self._training):
            losses, *gradients = self._losses_and_gradients(batch, targets, dropout, epoch, number)
        for parameter, gradient in zip(self._trained, gradients, strict=True):
            parameter.grad = gradient  # a repeated recording has written it, and sets no attribute
        with record_function(OPTIMISER):
            if self._training.clip_norm is not None:
                clip_per_model(self._trained, self._training.clip_norm)
            self.optimizer.step()
            if self._average is not None:
                self._average.update_parameters(self.network)
        return losses.double()

    def _dropout(self, crystals: int, epoch: int, number: int) -> Tensor | None:
        generators = [stream(order, epoch, number) for order in self._orders]
        with record_function(BATCH):
            masks = dropout_masks(generators, crystals, self._model)
            return None if masks is None else masks.to(self._device, non_blocking=True)

    def _losses_and_gradients(
        self, batch: GraphBatch, targets: Tensor, dropout: Tensor | None, epoch: int, number: int
    ) -> tuple[Tensor, ...]:
        if self._depth is None:
            return self._replay(self._gradients, targets, dropout, *batch.tensors)
        self._steps = self._depth.steps_of(epoch, number)
        draws = (self._depth.shares_of(epoch, number), self._depth.noise_of(batch, epoch, number))
        shares, noise = (None if one is None else one.to(self._device, non_blocking=True) for one in draws)
        return self._replay(self._depth_gradients, targets, dropout, shares, noise, *batch.tensors)

    def _gradients(self, targets: Tensor, dropout: Tensor | None, *batch: Tensor | None) -> tuple[Tensor, ...]:
        """Return the loss of each member [M] and the gradients of all that is trained."""
        self.optimizer.zero_grad()
        with record_function(FORWARD):
            with autocast(self._training, self._device):
                outputs = self.network(GraphBatch.of(batch), dropout)
            losses = loss_per_model(self._training, self._model.task, outputs, targets)
        return self._backward(losses)

    def _depth_gradients(
        self,
        targets: Tensor,
        dropout: Tensor | None,
        shares: Tensor | None,
        noise: Tensor | None,
        *batch: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """Do the same for a recipe whose loss is more than the error after the last step."""
        depth = cast("DepthTraining", self._depth)
        self.optimizer.zero_grad()
        with record_function(FORWARD), autocast(self._training, self._device):
            graph = GraphBatch.of(batch)
            losses = depth.losses(
                cast("StepwiseNetwork", self.network), graph, targets, dropout, self._steps, shares, noise
            )
        return self._backward(losses)

    def _backward(self, losses: Tensor) -> tuple[Tensor, ...]:
        with record_function(BACKWARD):
            losses.sum().backward()  # the members share no parameter: each gets the gradient of its own loss
        # nothing reads some weights, such as the norm of edges in the last step of EGGC: they have none
        gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in self._trained]
        return losses.detach(), *gradients

    def _outputs(self, *batch: Tensor | None) -> tuple[Tensor]:
        return (self.evaluated(GraphBatch.of(batch)),)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs, but for the networks themselves."""
        beside = {name: module.state_dict() for name, module in self.beside.items()}
        return {"optimizer": self.optimizer.state_dict(), "beside": beside}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.optimizer.load_state_dict(state["optimizer"])
        for name, module in self.beside.items():
            module.load_state_dict(state["beside"][name])


def averaged(network: Network, decay: float) -> AveragedModel:
    """Return an exponential moving average of weights and running averages: PyTorch's own. It starts at the first."""
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
