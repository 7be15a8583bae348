"""Training: seeds, resume, groups, faults. Real data of the demonstration set, real training."""

import random
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from backends import BACKENDS, COMPILER

from srcgcnn.data.build import build_store
from srcgcnn.data.demo import demo_source
from srcgcnn.data.graph import GraphSettings
from srcgcnn.data.store import GraphStore
from srcgcnn.models.config import ModelConfig
from srcgcnn.models.registry import BLOCKS
from srcgcnn.run.training_config import SplitConfig, TrainingConfig
from srcgcnn.training.outcome import conclude, save_member
from srcgcnn.training.predictor import Predictor
from srcgcnn.training.split import Crystals, split_rows
from srcgcnn.training.trainer import GroupTrainer, InterruptedGroupError

SR2 = ModelConfig("srcgcnn", 2)


def run(configs, store, **options):
    trainer = GroupTrainer(configs, store, **options)
    trainer.train()
    return trainer, conclude(trainer)


def numbers(outcome):
    """Everything that must be equal between two runs of one trial: metrics, curves, weights' predictions."""
    return outcome.result.metrics, outcome.result.curves, outcome.test.predictions.tolist()


@pytest.mark.full
def test_training_learns_the_demonstration_target(demo_store, trial_of):
    config = trial_of(SR2, epochs=60, batch_size=8, schedule="onecycle", learning_rate=5e-3)
    trainer, (outcome,) = run([config], demo_store)
    spread = trainer.targets.normalisers[0][0].std
    assert outcome.result.metrics.val_mae < 0.5 * spread
    assert outcome.result.curves.train_loss[-1] < 0.1


def test_the_same_trial_twice_is_bit_identical(demo_store, trial_of):
    first, second = (numbers(run([trial_of(SR2, 4)], demo_store)[1][0]) for _ in range(2))
    assert first == second


def test_seeds_change_weights_and_order(demo_store, trial_of):
    zero, one = (run([trial_of(SR2, seed)], demo_store)[1][0] for seed in (0, 1))
    assert zero.result.metrics.val_mae != one.result.metrics.val_mae
    config = trial_of(SR2, 0)
    reordered = replace(config, seeds=replace(config.seeds, order=1))
    assert run([reordered], demo_store)[1][0].result.metrics.val_mae != zero.result.metrics.val_mae


RESUMED = [
    {"schedule": "multistep"},
    {"schedule": "onecycle"},
    {"schedule": "cosine", "optimizer": "adamw", "weight_decay": 0.01, "loss": "huber"},
    {"schedule": "plateau", "plateau_patience_epochs": 1, "loss": "l1"},
    {"schedule": "none", "optimizer": "sgd", "clip_norm": 1.0, "learning_rate": 0.01},
]


@pytest.mark.full
@pytest.mark.parametrize("training", RESUMED, ids=lambda training: training["schedule"])
def test_interrupted_at_every_batch_it_ends_with_the_same_numbers(training, demo_store, trial_of, tmp_path):
    config = trial_of(ModelConfig("srcgcnn", 2, alpha="learned"), 1, **training)
    undisturbed = numbers(run([config], demo_store)[1][0])
    checkpoint, attempts = tmp_path / "group.pt", 0
    while True:
        trainer = GroupTrainer([config], demo_store, checkpoint=checkpoint)
        try:
            trainer.train(should_stop=lambda: True)  # one batch per attempt
            break
        except InterruptedGroupError:
            attempts += 1
    assert attempts == 3 * 3  # 48 training rows, batches of 16, 3 epochs
    (outcome,) = conclude(trainer)
    assert numbers(outcome) == undisturbed
    assert outcome.result.cost.resumes == attempts


def test_an_old_checkpoint_repeats_the_epochs_after_it(demo_store, trial_of, tmp_path):
    """A kill loses what came after the last checkpoint; the repeated epochs give the same numbers."""
    config, checkpoint = trial_of(SR2, 2, epochs=4), tmp_path / "group.pt"
    undisturbed = numbers(run([config], demo_store)[1][0])
    stops = iter([False] * 4 + [True])
    with pytest.raises(InterruptedGroupError):
        GroupTrainer([config], demo_store, checkpoint=checkpoint).train(should_stop=lambda: next(stops))
    saved = checkpoint.read_bytes()
    GroupTrainer([config], demo_store, checkpoint=checkpoint).train()  # goes on, then is lost
    checkpoint.write_bytes(saved)
    assert numbers(run([config], demo_store, checkpoint=checkpoint)[1][0]) == undisturbed


def test_waiting_for_a_listener_is_no_cost_of_the_trial(demo_store, trial_of):
    trainer, began = GroupTrainer([trial_of(SR2, epochs=2)], demo_store), time.monotonic()
    trainer.train(on_epoch=lambda reports: time.sleep(0.5))
    seconds = conclude(trainer)[0].result.cost.seconds
    assert 0 < seconds <= time.monotonic() - began - 2 * 0.5  # two epochs, two pauses


GROUPED = [
    ModelConfig("cgcnn", 2),
    ModelConfig("srcgcnn", 2, "step"),
    ModelConfig("srcgcnn", 2, "shared"),
    ModelConfig("srcgcnn", 2, alpha=0.5),
    ModelConfig("srcgcnn", 2, alpha="learned"),
    ModelConfig("srcgcnn", 2, "shared", "learned-scalar", layer_norm=True),
]


@pytest.mark.full
@pytest.mark.parametrize("model", GROUPED, ids=lambda model: model.label.replace(" ", "_"))
def test_a_grouped_trial_gives_the_numbers_of_the_trial_alone(model, demo_store, trial_of):
    """Tolerance: 1 % of the deviation of the target after 3 epochs; sums of float32 in another order drift apart."""
    alphas = [0.3, 0.5, 0.8] if isinstance(model.alpha, float) else [model.alpha] * 3
    configs = [trial_of(replace(model, alpha=alpha), seed) for seed, alpha in enumerate(alphas)]
    trainer, together = run(configs, demo_store)
    for config, grouped in zip(configs, together, strict=True):
        (alone,) = run([config], demo_store)[1]
        np.testing.assert_allclose(grouped.result.curves.train_loss, alone.result.curves.train_loss, rtol=5e-3)
        difference = abs(grouped.result.metrics.test_mae - alone.result.metrics.test_mae)
        assert difference < 0.01 * trainer.targets.normalisers[0][0].std
        assert grouped.result.cost.group_size == 3


RATES = [
    {"schedule": "multistep"},
    {"schedule": "cosine", "optimizer": "adamw", "weight_decay": 0.1},
    {"schedule": "onecycle", "clip_norm": 1.0},
    {"schedule": "plateau", "plateau_patience_epochs": 0, "gamma": 0.5},
    {"schedule": "none", "optimizer": "sgd"},
]


@pytest.mark.full
@pytest.mark.parametrize("training", RATES, ids=lambda training: training["schedule"])
def test_members_with_different_learning_rates_train_as_they_would_alone(training, demo_store, trial_of):
    rates = [3e-3, 1e-3, 1e-4]
    configs = [trial_of(SR2, seed, learning_rate=rate, **training) for seed, rate in enumerate(rates)]
    trainer, together = run(configs, demo_store)
    for config, grouped in zip(configs, together, strict=True):
        (alone,) = run([config], demo_store)[1]
        np.testing.assert_allclose(grouped.result.curves.learning_rate, alone.result.curves.learning_rate, rtol=1e-12)
        np.testing.assert_allclose(grouped.result.curves.train_loss, alone.result.curves.train_loss, rtol=5e-3)
        difference = abs(grouped.result.metrics.test_mae - alone.result.metrics.test_mae)
        assert difference < 0.01 * trainer.targets.normalisers[0][0].std


@pytest.mark.full
@BACKENDS
def test_a_resumed_trial_keeps_the_backend_it_began_with(backend, demo_store, trial_of, tmp_path):
    config, checkpoint = trial_of(SR2, 4), tmp_path / "group.pt"

    def begin(**where):
        return GroupTrainer([config], demo_store, backend=backend, **where)

    undisturbed = begin()
    undisturbed.train()
    stops = iter([False] * 3 + [True])
    with pytest.raises(InterruptedGroupError):
        begin(checkpoint=checkpoint).train(should_stop=lambda: next(stops))
    resumed = GroupTrainer([config], demo_store, checkpoint=checkpoint)
    resumed.train()
    (expected,), (found,) = conclude(undisturbed), conclude(resumed)
    assert numbers(found) == numbers(expected)
    assert found.result.provenance.path == backend


def test_bf16_trains_close_to_float32_and_only_its_products_are_rounded(demo_store, trial_of):
    full, rounded = (run([trial_of(SR2, precision=name)], demo_store) for name in ("float32", "bf16"))
    (exact, *_), (close, *_) = full[1], rounded[1]
    assert numbers(exact) != numbers(close)
    np.testing.assert_allclose(close.result.curves.train_loss, exact.result.curves.train_loss, rtol=0.1)
    assert {value.dtype for value in rounded[0].network.state_dict().values()} == {torch.float32}
    assert close.result.config.key != exact.result.config.key


def test_tf32_is_refused_where_there_is_none(demo_store, trial_of):
    with pytest.raises(ValueError, match="NVIDIA GPUs only"):
        GroupTrainer([trial_of(SR2, precision="tf32")], demo_store, device=torch.device("cpu"))


@pytest.mark.full
def test_early_stopping_of_one_member_leaves_the_others_alone(demo_store, trial_of):
    configs = [trial_of(SR2, seed, epochs=12, patience_epochs=1, learning_rate=0.02) for seed in range(4)]
    _, outcomes = run(configs, demo_store)
    lengths = [len(outcome.result.curves.val_error) for outcome in outcomes]
    assert len(set(lengths)) > 1, "all stopped together: nothing was left alone"
    assert min(lengths) < 12
    for outcome, length in zip(outcomes, lengths, strict=True):
        metrics, curve = outcome.result.metrics, outcome.result.curves.val_error
        assert metrics.best_epoch == int(np.argmin(curve))
        assert metrics.val_mae == pytest.approx(min(curve), rel=1e-6)
        assert length in (12, metrics.best_epoch + 2)  # to the end, or one epoch of patience after the best


def test_divergence_ends_the_trial_with_a_reason_and_not_the_group(demo_store, trial_of):
    config = trial_of(SR2, optimizer="sgd", learning_rate=1e30, schedule="none", epochs=4)
    (outcome,) = run([config], demo_store)[1]
    assert outcome.result is None
    assert "diverged" in outcome.fault
    assert "1e+30" in outcome.fault


@pytest.mark.full
def test_classification_with_dropout_trains_resumes_and_predicts_probabilities(tmp_path, demo_source_classes, trial_of):
    store = demo_source_classes
    config = trial_of(replace(SR2, task="classification"), 3)
    config = replace(config, data=replace(config.data, data_hash=store.manifest.data_hash, target="is_deep"))
    undisturbed = numbers(run([config], store)[1][0])
    checkpoint = tmp_path / "group.pt"
    stops = iter([False, False, True])
    with pytest.raises(InterruptedGroupError):
        GroupTrainer([config], store, checkpoint=checkpoint).train(should_stop=lambda: next(stops))
    _, (outcome,) = run([config], store, checkpoint=checkpoint)
    assert numbers(outcome) == undisturbed
    assert 0 <= outcome.test.predictions.min() <= outcome.test.predictions.max() <= 1
    assert outcome.result.metrics.test_accuracy is not None


@pytest.fixture(scope="module")
def demo_source_classes(tmp_path_factory):
    """The demonstration set with a yes/no target: is the energy below its median?"""
    from srcgcnn.data.build import build_store
    from srcgcnn.data.demo import demo_source

    source = demo_source(60)
    energies = [row.targets["electrostatic_energy"] for row in source.rows()]
    median = float(np.median(energies))

    def rows():
        for row in source.rows():
            yield replace(row, targets={"is_deep": float(row.targets["electrostatic_energy"] < median)})

    classes = replace(source, targets=("is_deep",), units=("",), content_hash="classes", rows=rows)
    return build_store(classes, tmp_path_factory.mktemp("classes") / "store", processes=1).store


def test_other_data_than_planned_is_refused(demo_store, trial_of):
    config = trial_of(SR2)
    wrong = replace(config, data=replace(config.data, data_hash="0" * 16))
    with pytest.raises(ValueError, match="planned for data 0000"):
        GroupTrainer([wrong], demo_store)


def test_trials_of_different_shape_are_not_stacked(demo_store, trial_of):
    with pytest.raises(ValueError, match="differ in more than seeds, learning rates"):
        GroupTrainer([trial_of(SR2), trial_of(ModelConfig("srcgcnn", 3))], demo_store)


def test_splits_of_different_sizes_are_not_stacked(demo_store, trial_of):
    """How many rows a split by formula has depends on its seed wherever formulas repeat."""
    formulas = [formula for index, formula in enumerate("ABCDEFGHIJKLMNOP") for _ in range(1 + index % 4)]
    by_formula = SplitConfig(kind="formula")
    sizes = {
        len(split_rows(by_formula, seed, Crystals(formulas, formulas, np.ones(len(formulas), int))).train)
        for seed in range(4)
    }
    assert len(sizes) > 1
    config = trial_of(SR2, split=by_formula)
    other = replace(config, seeds=replace(config.seeds, split=1))
    assert config.shape != other.shape
    assert trial_of(SR2).shape == replace(trial_of(SR2), seeds=other.seeds).shape
    with pytest.raises(ValueError, match="differ in more than seeds"):
        GroupTrainer([config, other], demo_store)


def test_a_saved_model_predicts_what_the_trial_reported(demo_store, trial_of, tmp_path):
    trainer, (outcome,) = run([trial_of(ModelConfig("srcgcnn", 2, alpha=0.5))], demo_store)
    save_member(trainer, 0, tmp_path / "model.safetensors")
    predictor = Predictor.load(tmp_path / "model.safetensors")
    graphs = [demo_store.graph(row) for row in outcome.test.rows]
    np.testing.assert_allclose(predictor.predict_graphs(graphs), outcome.test.predictions, rtol=1e-5, atol=1e-5)
    assert predictor.card.unit == "eV/atom"


def test_the_normaliser_sees_training_rows_only(demo_store, trial_of):
    trainer = GroupTrainer([trial_of(SR2)], demo_store)
    train = demo_store.target("electrostatic_energy")[trainer.splits[0].train]
    assert trainer.targets.normalisers[0][0].mean == pytest.approx(train.mean())
    assert trainer.targets.normalisers[0][0].std == pytest.approx(train.std(ddof=1))
    paper = GroupTrainer([trial_of(SR2, normaliser="paper")], demo_store)
    assert paper.targets.normalisers[0][0].mean == pytest.approx(demo_store.target("electrostatic_energy").mean())


def test_a_last_batch_of_one_crystal_joins_the_one_before(demo_store, trial_of):
    trainer = GroupTrainer([trial_of(SR2, batch_size=47)], demo_store)  # 48 training rows
    assert trainer.batch_sizes == [48]


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"learning_rate": -1.0}, {"batch_size": 0}, {"patience_epochs": 0}])
def test_impossible_recipes_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrainingConfig(**wrong)


@pytest.mark.full
def test_several_shards_train_like_one(demo_store, trial_of, tmp_path):
    from srcgcnn.data.build import build_store
    from srcgcnn.data.demo import demo_source

    sharded = build_store(demo_source(80), tmp_path / "sharded", processes=1, shard_bytes=10_000).store
    assert len(sharded.manifest.shards) > 2
    one = run([trial_of(SR2)], GraphStore(demo_store.folder))[1][0]
    config = trial_of(SR2)
    config = replace(config, data=replace(config.data, data_hash=sharded.manifest.data_hash))
    many = run([config], sharded)[1][0]
    assert numbers(one) == numbers(many)


def test_random_choice_of_python_is_left_alone(demo_store, trial_of):
    """Training must not draw from, or reset, the global generators of the process that calls it."""
    random.seed(1)
    torch.manual_seed(1)
    expected = random.random(), torch.rand(1).item()
    random.seed(1)
    torch.manual_seed(1)
    run([trial_of(SR2, epochs=1)], demo_store)
    assert (random.random(), torch.rand(1).item()) == expected


@pytest.mark.full
@COMPILER
def test_graphs_of_different_degrees_train_alike_on_every_backend(trial_of, tmp_path):
    graph = GraphSettings(cutoff_angstrom=4.0, neighbours="all")
    store = build_store(demo_source(40), tmp_path / "store", settings=graph, processes=1).store
    data = replace(trial_of(ModelConfig("srcgcnn", 2)).data, data_hash=store.manifest.data_hash)
    configs = [replace(trial_of(ModelConfig("srcgcnn", 2), seed, epochs=2), data=data) for seed in (0, 1)]
    plain, native = (run(configs, store, backend=backend)[1] for backend in ("plain", "native"))
    for one, other in zip(plain, native, strict=True):
        assert one.result.curves.train_loss == pytest.approx(other.result.curves.train_loss, rel=1e-3)
        assert one.result.metrics.test_mae == pytest.approx(other.result.metrics.test_mae, rel=1e-3)


def test_a_block_that_needs_vectors_gets_them_in_training_and_prediction(demo_store, trial_of, monkeypatch, tmp_path):
    config = trial_of(ModelConfig("schnet", 2), epochs=2)
    trainer, (without,) = run([config], demo_store)
    monkeypatch.setitem(BLOCKS, "schnet", replace(BLOCKS["schnet"], needs=("vectors",)))
    asked, (outcome,) = run([config], demo_store)
    rows = torch.tensor([[0, 1]])
    assert trainer.crystals.batch(rows).vectors is None
    assert asked.crystals.batch(rows).vectors.shape[-1] == 3
    assert outcome.result.metrics == without.result.metrics  # SchNet looks at distances only
    save_member(asked, 0, tmp_path / "m.safetensors")
    predictor = Predictor.load(tmp_path / "m.safetensors")
    test = outcome.test.rows.tolist()
    graphs = [demo_store.graph(row, vectors=predictor.needs_vectors) for row in test]
    assert predictor.predict_graphs(graphs) == pytest.approx(outcome.test.predictions, abs=1e-5)
    with pytest.raises(ValueError, match="no images"):
        predictor.predict_graphs([demo_store.graph(0)])
