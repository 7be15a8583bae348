"""Train one group of trials: M networks of one shape, stacked, each with its own seeds.

A trial trains alone as a group of one through the same code. Killed at any point and started again, a group continues
from its checkpoint and ends with the same numbers (bit for bit on one kind of CPU and thread count): the order of
batches is a function of seed and epoch, and a checkpoint holds everything else.
"""

from __future__ import annotations

import time
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.profiler import record_function

from srcgcnn.data.limited_store import limited_store
from srcgcnn.models.making import make_network
from srcgcnn.models.network import StepwiseNetwork
from srcgcnn.models.parts import current_name
from srcgcnn.training.allocator import keep_freed_memory
from srcgcnn.training.backend import choose_backend, earlier_backend
from srcgcnn.training.checkpoint import CheckpointFile
from srcgcnn.training.epoch import EpochReport
from srcgcnn.training.gradient_probes import PROBED_EPOCHS, probe_gradients
from srcgcnn.training.graphset import GraphSet
from srcgcnn.training.model_card import read_card
from srcgcnn.training.objective import loss_per_model
from srcgcnn.training.precision import check_precision
from srcgcnn.training.predictor import predict_rows
from srcgcnn.training.progress import GroupProgress
from srcgcnn.training.provenance import reset_peak_memory
from srcgcnn.training.split import Crystals, split_rows
from srcgcnn.training.start import check_weights, start_from, train_mode
from srcgcnn.training.step import BATCH, TrainingStep
from srcgcnn.training.streams import stream
from srcgcnn.training.targets import GroupTargets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from srcgcnn.data.store import GraphStore
    from srcgcnn.models.backend import Backend
    from srcgcnn.models.network import Network
    from srcgcnn.run.training_config import TrainingConfig
    from srcgcnn.run.trial import TrialConfig
    from srcgcnn.training.model_card import ModelCard
    from srcgcnn.training.replay import Recorder

CHECKPOINT_INTERVAL_S = 30.0
EVALUATION = "evaluation"  # a phase of a profile


class InterruptedGroupError(RuntimeError):
    """Training stopped on request, after writing a checkpoint."""


class GroupTrainer:
    """The state of a group and its loop.

    Attributes:
        configs: the trials, all of one shape.
        progress: what was reached.
        store: the crystals, with the neighbours that the trials use.
        network: the M networks.
        targets: what they are trained on and judged by.
    """

    def __init__(
        self,
        configs: Sequence[TrialConfig],
        store: GraphStore,
        *,
        device: torch.device | None = None,
        checkpoint: Path | None = None,
        checkpoint_interval_s: float = CHECKPOINT_INTERVAL_S,
        start_weights: Path | None = None,
        backend: Backend | None = None,
    ) -> None:
        """Prepare a group, from its checkpoint where there is one.

        `start_weights` is the model file of `TrainingConfig.start`, for trials that have one; `backend` is chosen by
        what is fastest, unless it is given or the group began with another.

        Raises:
            ValueError: the trials do not share a shape, the data is not what they were planned for, or its graphs hold
                fewer neighbours than they use.
        """
        check_group(configs, store)
        self.configs = list(configs)
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._training, self._model = configs[0].training, configs[0].model
        self._checkpoint = None if checkpoint is None else CheckpointFile(checkpoint)
        self._interval_s = checkpoint_interval_s
        check_precision(self._training, self.device)
        self._start_weights = _start_weights(self._training, start_weights)
        if self.device.type == "cpu":
            keep_freed_memory()
            torch.use_deterministic_algorithms(mode=True)
            # PyTorch would also write NaN into every new tensor, which costs time and guards nothing here
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        reset_peak_memory(self.device)
        self.store = limited_store(store, self._training.graph)
        self._load_data()
        saved, batches = self._read_checkpoint(), len(self.batch_sizes)
        backend = backend or choose_backend(self._model, self._training, self.device, batches * len(configs))
        if saved is not None:
            backend = earlier_backend(saved["path"], self.device)  # to end with the same bits
        self.network = self._make_network(torch.from_numpy(np.array(self.store.element_features)), backend)
        self._step = TrainingStep(self.network, configs, batches, self.device)
        self.crystals.static_shapes = self._step.repeats
        self.best_weights = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.progress = GroupProgress.start(len(configs))
        self._started = self._saved = time.monotonic()
        if saved is not None:
            self._resume(saved)

    def _make_network(self, element_features: Tensor, backend: Backend) -> Network:
        network = make_network(self._model, element_features, [one.model.alpha for one in self.configs], backend)
        network.reset_parameters([config.seeds.init for config in self.configs])
        if self._training.start and self._start_weights:
            start_from(network, self._training.start, self._start_weights)
        return network.to(self.device)

    def repeat_with(self, recorder: Recorder | None) -> None:
        """Repeat recordings of the steps, on batches of few sizes; None launches every step kernel by kernel."""
        self._step.repeat_with(recorder)
        self.crystals.static_shapes = self._step.repeats

    @property
    def recordings(self) -> int:
        """Number of recorded steps and predictions, one per size of batch."""
        return self._step.recordings

    def _load_data(self) -> None:
        vectors = "vectors" in self._model.block.needs
        padding = self._training.exact_padding
        self.crystals = GraphSet.of_store(self.store, self.device, exact_padding=padding, vectors=vectors)
        crystals = Crystals.of(self.store)
        self.splits = [split_rows(self._training.split, trial.seeds.split, crystals) for trial in self.configs]
        self.targets = GroupTargets(self.configs, self.store, self.splits, self.device, self._kept_head())
        self._train_rows, self._val_rows = self.rows_of("train"), self.rows_of("val")

    def _kept_head(self) -> ModelCard | None:
        """Return the card of the model whose head, and so scale, is kept."""
        start = self._training.start
        if start is None or start.head == "new" or self._start_weights is None:
            return None
        return read_card(self._start_weights)

    def rows_of(self, part: str) -> Tensor:
        """Return the rows of one set for every member: int64 [M, R] on the host."""
        return torch.from_numpy(np.stack([getattr(split, part) for split in self.splits]))

    def predict(self, rows: Tensor) -> Tensor:
        """Predict with the current weights: float64 [M, R] in the target's unit, or [M, R, P] in those of several."""
        networks, size = self._step.evaluated, self.batch_size
        return predict_rows(networks, self.crystals, rows, self.targets.scales, size, self._step.outputs)

    @property
    def batch_size(self) -> int:
        """Crystals of one step."""
        return self._training.batch_size

    @property
    def seconds(self) -> float:
        """Time spent so far, all attempts counted."""
        return self.progress.seconds + time.monotonic() - self._started

    def train(
        self,
        on_epoch: Callable[[list[EpochReport]], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        """Train to the end of the recipe.

        Args:
            on_epoch: called after every epoch with the reports of all members that still train.
            should_stop: called after every batch; True writes a checkpoint and raises InterruptedGroupError.
        """
        while self.progress.epoch < self._training.epochs and not self.progress.all_stopped:
            self._train_epoch(should_stop)
            reports = self._finish_epoch()
            self._save_if_due()
            if on_epoch and reports:
                self._report(on_epoch, reports)

    def _report(self, on_epoch: Callable[[list[EpochReport]], None], reports: list[EpochReport]) -> None:
        """Tell the caller. This time (a driver may wait for a tracking server) is not charged to the trial."""
        before = time.monotonic()
        on_epoch(reports)
        self._started += time.monotonic() - before

    @property
    def batch_sizes(self) -> list[int]:
        """Sizes of an epoch's batches. A last batch of one crystal joins its neighbour: BatchNorm needs two rows."""
        rows, size = self._train_rows.shape[1], self._training.batch_size
        sizes = [size] * (rows // size) + ([rows % size] if rows % size else [])
        if len(sizes) > 1 and sizes[-1] == 1:
            sizes[-2:] = [size + 1]
        return sizes

    def _epoch_order(self) -> Tensor:
        """Training rows of this epoch in each member's own order: a function of order seed and epoch."""
        orders = []
        for member, config in enumerate(self.configs):
            generator = stream(config.seeds.order, self.progress.epoch)
            shuffled = torch.randperm(self._train_rows.shape[1], generator=generator)
            orders.append(self._train_rows[member, shuffled])
        return torch.stack(orders)

    def _train_epoch(self, should_stop: Callable[[], bool] | None) -> None:
        train_mode(self.network)
        batches = self._epoch_order().split(self.batch_sizes, dim=1)
        if self.progress.batches_done == 0 and self.progress.epoch < PROBED_EPOCHS:
            self._probe_gradients(batches[0])
        loss_sums = torch.tensor(self.progress.loss_sums, dtype=torch.float64, device=self.device)
        for number in range(self.progress.batches_done, len(batches)):
            loss_sums += self._train_batch(batches[number], number) * batches[number].shape[1]
            self.progress.batches_done = number + 1
            stopping = should_stop is not None and should_stop()
            if stopping or self._due():
                self.progress.loss_sums = loss_sums.tolist()
                self.save()
            if stopping:
                raise InterruptedGroupError(f"stopped in epoch {self.progress.epoch}, batch {number}, as requested")
        self.progress.loss_sums = loss_sums.tolist()

    def _probe_gradients(self, rows: Tensor) -> None:
        """Record how much of the gradient reaches each step. This time is not charged to the trial."""
        if not isinstance(self.network, StepwiseNetwork):
            return
        before = time.monotonic()
        targets = self.targets.standardised(rows)
        losses = partial(loss_per_model, self._training, self._model.task, targets=targets)
        norms = probe_gradients(self.network, self.crystals.batch(rows), losses)
        for member, gradients in zip(self.progress.members, norms.T.tolist(), strict=True):
            member.gradients[self.progress.epoch :] = [gradients]
        self._started += time.monotonic() - before

    def _train_batch(self, rows: Tensor, number: int) -> Tensor:
        """Take one step; returns the loss of each member [M]."""
        with record_function(BATCH):
            batch = self.crystals.batch(rows)
            targets = self.targets.standardised(rows)
        return self._step.take(batch, targets, self.progress.epoch, number + 1)

    def _finish_epoch(self) -> list[EpochReport]:
        """Validate, keep the best weights, step the schedule, move to the next epoch."""
        with record_function(EVALUATION):
            predictions = self.predict(self._val_rows)
        errors = self.targets.errors(predictions, self._val_rows).tolist()
        rates, crystals = self._step.optimizer.rates, self._train_rows.shape[1]
        reports, improved = [], []
        for member, config in enumerate(self.configs):
            state = self.progress.members[member]
            if state.stopped:
                continue
            loss = self.progress.loss_sums[member] / crystals
            if state.record(self.progress.epoch, loss, errors[member], rates[member], self._training.patience_epochs):
                improved.append(member)
            if not state.fault:
                reports.append(EpochReport(config.key, self.progress.epoch, loss, errors[member], rates[member]))
        self._keep_weights(improved)
        self._step.optimizer.after_epoch(errors)
        self.progress.epoch += 1
        self.progress.batches_done = 0
        self.progress.loss_sums = [0.0] * len(self.configs)
        return reports

    def _keep_weights(self, members: list[int]) -> None:
        if not members:
            return
        index = torch.tensor(members, device=self.device)
        for name, value in self._step.evaluated.state_dict().items():
            self.best_weights[name].index_copy_(0, index, value.index_select(0, index))

    def load_best_weights(self) -> None:
        """Put every member's best weights back into the network."""
        self._step.end_average()
        self.network.load_state_dict(self.best_weights)

    def _due(self) -> bool:
        return self._checkpoint is not None and time.monotonic() - self._saved >= self._interval_s

    def _save_if_due(self) -> None:
        if self._due():
            self.save()

    def save(self) -> None:
        """Write the checkpoint, if this group has one."""
        if self._checkpoint is None:
            return
        progress = {**self.progress.to_dict(), "seconds": self.seconds}
        state = {
            "keys": [config.key for config in self.configs],
            "progress": progress,
            "network": self.network.state_dict(),
            "best_weights": self.best_weights,
            "path": self.network.backend,
            **self._step.state_dict(),
        }
        self._saved = time.monotonic()
        try:
            self._checkpoint.write(state)
        except OSError as error:  # training continues; the previous checkpoint is still valid
            warnings.warn(f"checkpoint {self._checkpoint.path} not written: {error}", stacklevel=2)

    def _read_checkpoint(self) -> dict[str, Any] | None:
        state = None if self._checkpoint is None else self._checkpoint.read()
        if self._checkpoint and state and state["keys"] != [config.key for config in self.configs]:
            raise ValueError(
                f"{self._checkpoint.path} belongs to other trials ({state['keys']}); delete it to start over"
            )
        return state

    def _resume(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        best = {current_name(name): value for name, value in state["best_weights"].items()}
        self.best_weights = {name: value.to(self.device) for name, value in best.items()}
        self._step.load_state_dict(state)
        self.progress = GroupProgress.from_dict(state["progress"])
        self.progress.resumes += 1


def _start_weights(training: TrainingConfig, path: Path | None) -> Path | None:
    if training.start is None:
        return None
    if path is None:
        raise ValueError(f"start={training.start.label}: the trainer needs the file of these weights")
    check_weights(training.start, path)
    return path


def check_group(configs: Sequence[TrialConfig], store: GraphStore) -> None:
    """Refuse trials that cannot be stacked, or that were planned for other data."""
    if len({config.shape for config in configs}) != 1:
        names = [config.label for config in configs]
        raise ValueError(
            "these trials differ in more than seeds, learning rates and fixed alphas, or in the seed of a split by "
            f"formula: {names}"
        )
    targets, outputs = len(configs[0].data.each), configs[0].model.outputs
    if targets != outputs:
        raise ValueError(f"{configs[0].data.target}: {targets} targets for a network with outputs={outputs}")
    planned, found = configs[0].data.data_hash, store.manifest.data_hash
    if planned != found:
        raise ValueError(f"planned for data {planned}, but {store.folder} holds {found}; plan the sweep again")
