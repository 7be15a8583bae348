"""Recorded steps, as far as that can be proven without a GPU: bookkeeping, shapes, waits. CUDA itself is not here."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from srcgcnn.models.config import ModelConfig
from srcgcnn.training.outcome import conclude
from srcgcnn.training.trainer import GroupTrainer

SR2 = ModelConfig("srcgcnn", 2)


class Repeater:
    """Stands for CUDA graphs on the CPU: calls the function again and writes into the outputs of the recording.

    As a CUDA graph it computes nothing while it records, sets no attribute of a parameter when it repeats, and
    destroys the outputs of other recordings, with which it shares memory.
    """

    def __init__(self, network):
        self.network, self.recorded, self.repeated = network, [], 0

    def run(self, function):
        return function()

    def record(self, function):
        before = {name: value.clone() for name, value in self.network.state_dict().items()}
        outputs = tuple(one.clone().fill_(torch.nan) for one in function())
        self.network.load_state_dict(before)
        self.recorded.append(outputs)

        def repeat():
            self.repeated += 1
            for other in self.recorded:
                for one in other:
                    one.fill_(torch.nan)
            for place, one in zip(outputs, function(), strict=True):
                place.copy_(one)
            for parameter in self.network.parameters():
                parameter.grad = None

        return outputs, repeat


class Refuser:
    """A device on which nothing can be recorded."""

    def run(self, function):
        return function()

    def record(self, function):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")


def trained(configs, store, recorder, **where):
    trainer = GroupTrainer(configs, store, backend="plain", **where)
    made = recorder(trainer.network) if recorder is Repeater else recorder and recorder()
    trainer.repeat_with(made)
    trainer.train()
    return trainer, made, [(found.result.metrics, found.result.curves) for found in conclude(trainer)]


class Bound(Repeater):
    """Reads the weights that it read when it recorded, as a CUDA graph does, whoever is evaluated now."""

    def __init__(self, step):
        super().__init__(step.network)
        self.step = step

    def record(self, function):
        average = self.step._average

        def then():
            now, self.step._average = self.step._average, average
            try:
                return function()
            finally:
                self.step._average = now

        return super().record(then)


@pytest.mark.full
def test_what_was_recorded_of_the_average_is_not_repeated_for_the_best_weights(demo_store, trial_of):
    config = trial_of(SR2, epochs=6, batch_size=8, average_decay=0.9, learning_rate=0.05)
    trainer = GroupTrainer([config], demo_store, backend="plain")
    trainer.repeat_with(Bound(trainer._step))
    trainer.train()
    assert trainer._step.repeats
    (found,) = conclude(trainer)
    best = found.result.metrics.best_epoch
    assert best < 5
    assert found.result.metrics.val_mae == pytest.approx(found.result.curves.val_error[best], rel=1e-6)


VARIANTS = [
    {},
    {"clip_norm": 0.5, "schedule": "onecycle"},
    {"optimizer": "sgd", "schedule": "plateau", "loss": "l1"},
]


@pytest.mark.full
@pytest.mark.parametrize("training", VARIANTS, ids=lambda one: one.get("optimizer", one.get("schedule", "default")))
@pytest.mark.parametrize("members", [1, 3])
def test_repeated_recordings_train_as_plain_calls_do(training, members, demo_store, trial_of):
    configs = [
        trial_of(
            replace(SR2, alpha="learned"), seed, epochs=4, batch_size=8, learning_rate=1e-3 * (1 + seed), **training
        )
        for seed in range(members)
    ]
    _, repeater, repeated = trained(configs, demo_store, Repeater)
    _, _, refused = trained(configs, demo_store, Refuser)
    assert repeater.repeated > 10
    assert repeated == refused  # bit for bit: the same padded batches
    _, _, unpadded = trained(configs, demo_store, None)
    for (metrics, _), (expected, _) in zip(repeated, unpadded, strict=True):
        assert metrics.test_mae == pytest.approx(expected.test_mae, rel=1e-2)


def test_shapes_that_come_once_are_not_recorded(demo_store, trial_of):
    _, repeater, _ = trained([trial_of(SR2, epochs=1)], demo_store, Repeater)
    trainer, _, _ = trained([trial_of(SR2, epochs=1)], demo_store, Refuser)
    steps = len(trainer.batch_sizes)
    assert len(repeater.recorded) < steps + 2  # training, validation, test


def test_where_nothing_can_be_recorded_one_line_says_so(demo_store, trial_of, caplog):
    with caplog.at_level(logging.WARNING):
        trained([trial_of(SR2)], demo_store, Refuser)
    assert caplog.text.count("kernel by kernel") == 1
    assert "more" not in caplog.messages[0]


def test_a_resumed_trial_is_recorded_again(demo_store, trial_of, tmp_path):
    config, checkpoint = trial_of(SR2, epochs=4), tmp_path / "group.pt"
    _, _, expected = trained([config], demo_store, Repeater)
    first = GroupTrainer([config], demo_store, checkpoint=checkpoint, backend="plain")
    first.repeat_with(Repeater(first.network))
    first.train(on_epoch=lambda reports: first.save() if reports[0].epoch == 1 else None)
    _, _, found = trained([config], demo_store, Repeater, checkpoint=checkpoint)
    np.testing.assert_array_equal(found[0][1].train_loss, expected[0][1].train_loss)
    assert found == expected


WAITLESS = [
    (SR2, {}),
    (ModelConfig("cgcnn", 2), {"optimizer": "sgd", "clip_norm": 1.0}),
    (ModelConfig("srcgcnn", 2, "shared", "learned-scalar", layer_norm=True), {"schedule": "onecycle", "loss": "huber"}),
    (ModelConfig("srcgcnn", 2, alpha=0.5), {"optimizer": "adamw"}),
]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize(("model", "training"), WAITLESS)
def test_a_step_neither_waits_for_its_device_nor_leaves_tensors_on_the_host(
    model, training, members, padded, demo_store, trial_of
):
    """Trains on PyTorch's device without data, on which reading a number, or mixing with the host's tensors, fails.

    It proves that no step asks its device for a number or a size, so that a GPU can be given work in advance and the
    step can be recorded. It does not prove that CUDA has every kernel, nor that every one may be captured; copies from
    the host that PyTorch makes by itself are not seen.
    """
    configs = [trial_of(model, seed, learning_rate=1e-3 * (1 + seed), **training) for seed in range(members)]
    trainer = GroupTrainer(configs, demo_store, device=torch.device("meta"))
    trainer.crystals.static_shapes = padded
    rows = trainer.rows_of("train")[:, :16]
    losses = [trainer._train_batch(rows, number) for number in range(2)]
    assert [(loss.shape, loss.device.type) for loss in losses] == [((members,), "meta")] * 2
    assert trainer.predict(rows).shape == rows.shape
