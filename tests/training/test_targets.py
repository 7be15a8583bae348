"""Several targets in one network: gaps, scales, the common error; and one target as before."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from two_targets import VOLUME, with_volumes

from srcgcnn.data.build import build_store
from srcgcnn.data.demo import demo_source
from srcgcnn.data.manifest import StoreError
from srcgcnn.models.config import ModelConfig
from srcgcnn.run.training_config import DepthRecipe, SplitConfig, TrainingConfig
from srcgcnn.run.trial import DataRef, Target
from srcgcnn.training.objective import errors_per_model, loss_per_model
from srcgcnn.training.outcome import conclude, save_member
from srcgcnn.training.predictor import Predictor
from srcgcnn.training.trainer import GroupTrainer, InterruptedGroupError

SR2 = ModelConfig("srcgcnn", 2)
ENERGY = "electrostatic_energy"


def run(configs, store, **options):
    trainer = GroupTrainer(configs, store, **options)
    trainer.train()
    return trainer, conclude(trainer)


@settings(deadline=None)
@given(
    st.sampled_from(["mse", "l1", "huber"]),
    st.lists(st.tuples(*[st.floats(-3, 3)] * 2, st.sampled_from([(1, 1), (1, 0), (0, 1)])), min_size=2, max_size=9),
    st.floats(-1e6, 1e6),
)
def test_what_a_network_says_in_a_gap_changes_neither_loss_nor_gradient(loss, rows, nonsense):
    """The loss is the mean over targets of the mean over the crystals that have it; gaps get no gradient."""
    recipe = TrainingConfig(loss=loss)
    known = torch.tensor([[pair[2] for pair in rows]], dtype=torch.bool)
    wanted = torch.tensor([[pair[:2] for pair in rows]]).masked_fill(~known, torch.nan)
    outputs = torch.zeros(wanted.shape).masked_fill(~known, nonsense).requires_grad_()
    found = loss_per_model(recipe, "regression", outputs, wanted)
    found.sum().backward()
    alone = [
        loss_per_model(recipe, "regression", torch.zeros(1, int(has.sum())), wanted[0, has, column][None])
        for column, has in enumerate(known[0].T)
        if has.any()
    ]
    assert found.item() == pytest.approx(sum(one.item() for one in alone) / 2, rel=1e-5)
    assert (outputs.grad[~known] == 0).all()
    errors = errors_per_model("regression", outputs.detach(), wanted, [[1.0, 2.0]])
    assert torch.equal(errors, errors_per_model("regression", outputs.detach() * known, wanted, [[1.0, 2.0]]))


def test_each_target_has_its_errors_and_the_common_one_is_their_mean(gapped_store, two_target_trial_of):
    trainer, (outcome,) = run([two_target_trial_of(SR2, epochs=4)], gapped_store)
    result, (split,) = outcome.result, trainer.splits
    assert [one.name for one in result.targets] == [ENERGY, VOLUME]
    for column, one in enumerate(result.targets):
        values = gapped_store.target(one.name)
        there = [rows[~np.isnan(values[rows])] for rows in (split.train, split.val, split.test)]
        assert one.rows == tuple(map(len, there))
        assert one.mean == pytest.approx(values[there[0]].mean())
        assert one.std == one.deviation == pytest.approx(values[there[0]].std(ddof=1))
        errors = np.abs(outcome.test.predictions[:, column] - values[split.test])
        assert one.test_mae == pytest.approx(np.nanmean(errors))
        assert one.test_rmse == pytest.approx(np.sqrt(np.nanmean(errors**2)))
    common = np.mean([one.val_mae / one.deviation for one in result.targets])
    assert result.val_error == pytest.approx(common)
    assert min(result.curves.val_error) == pytest.approx(common)  # the best epoch was chosen by it
    assert result.test_error == pytest.approx(np.mean([one.test_mae / one.deviation for one in result.targets]))
    assert result.of_target(VOLUME).test_error == result.targets[1].test_mae
    assert result.of_target(VOLUME).config.data.unit == "angstrom3"


@pytest.mark.full
def test_both_targets_are_learned(gapped_store, two_target_trial_of):
    recipe = {"epochs": 60, "batch_size": 8, "schedule": "onecycle", "learning_rate": 5e-3}
    _, (outcome,) = run([two_target_trial_of(SR2, **recipe)], gapped_store)
    assert all(one.val_mae < 0.6 * one.std for one in outcome.result.targets)


def test_one_column_twice_is_that_column(tmp_path, trial_of, demo_store):
    """With equal weights of both outputs the two stay one, and the network is that of one target.

    Tolerance: each output gets half of the gradient, which Adam divides by its size, but for its epsilon.
    """
    source = demo_source(80)
    twice = replace(
        with_volumes(source),
        rows=lambda: (
            replace(row, targets={ENERGY: row.targets[ENERGY], VOLUME: row.targets[ENERGY]}) for row in source.rows()
        ),
    )
    store = build_store(twice, tmp_path / "twice", processes=1).store
    data = DataRef.of(store.manifest.data_hash, "demo", [Target(ENERGY, "eV/atom"), Target(VOLUME, "eV/atom")])
    alone = trial_of(SR2)
    both = replace(alone, data=data, model=replace(SR2, outputs=2))
    single, trainer = GroupTrainer([alone], demo_store), GroupTrainer([both], store)
    weights = single.network.state_dict()
    for name, value in trainer.network.state_dict().items():
        value.copy_(weights[name].expand_as(value))
    for one in (single, trainer):
        one.train()
    (expected,), (found,) = conclude(single), conclude(trainer)
    first, second = found.result.targets
    assert first.errors() == second.errors()
    assert np.array_equal(found.test.predictions[:, 0], found.test.predictions[:, 1])
    np.testing.assert_allclose(found.result.curves.train_loss, expected.result.curves.train_loss, rtol=1e-3)
    assert first.test_mae == pytest.approx(expected.result.test_error, rel=1e-2)


def test_a_grouped_trial_gives_the_numbers_of_the_trial_alone(gapped_store, two_target_trial_of):
    configs = [two_target_trial_of(SR2, seed) for seed in range(3)]
    trainer, together = run(configs, gapped_store)
    for config, grouped in zip(configs, together, strict=True):
        (alone,) = run([config], gapped_store)[1]
        np.testing.assert_allclose(grouped.result.curves.train_loss, alone.result.curves.train_loss, rtol=5e-3)
        assert grouped.result.test_error == pytest.approx(alone.result.test_error, abs=0.01)
        assert grouped.result.targets[0].rows == alone.result.targets[0].rows
    assert trainer.targets.scales.shape == (3, 2, 2)


def test_interrupted_it_ends_with_the_same_numbers(gapped_store, two_target_trial_of, tmp_path):
    recipe = DepthRecipe(supervision="rising", noise_angstrom=0.02, denoising=0.1)
    config = two_target_trial_of(SR2, 1, depth=recipe, loss="huber", normaliser="paper")
    _, (undisturbed,) = run([config], gapped_store)
    stops = iter([False] * 4 + [True])
    with pytest.raises(InterruptedGroupError):
        GroupTrainer([config], gapped_store, checkpoint=tmp_path / "c.pt").train(should_stop=lambda: next(stops))
    _, (resumed,) = run([config], gapped_store, checkpoint=tmp_path / "c.pt")
    assert resumed.result.targets == undisturbed.result.targets
    assert resumed.result.curves == undisturbed.result.curves
    assert all(one.std != one.deviation for one in resumed.result.targets)  # the paper's scale is not the error's unit


def test_the_model_file_predicts_what_was_tested(gapped_store, two_target_trial_of, tmp_path):
    trainer, (outcome,) = run([two_target_trial_of(SR2)], gapped_store)
    save_member(trainer, 0, tmp_path / "m.safetensors")
    predictor = Predictor.load(tmp_path / "m.safetensors")
    assert [(one.name, one.unit) for one in predictor.card.each] == [(ENERGY, "eV/atom"), (VOLUME, "angstrom3")]
    found = predictor.predict_graphs([gapped_store.graph(row) for row in outcome.test.rows.tolist()])
    np.testing.assert_allclose(found, outcome.test.predictions, rtol=1e-4)


def test_errors_of_all_training_sizes_are_in_one_unit(gapped_store, two_target_trial_of):
    small, whole = (
        GroupTrainer([two_target_trial_of(SR2, split=SplitConfig(train_size=size))], gapped_store)
        for size in (20, None)
    )
    assert small.targets.deviations == whole.targets.deviations
    assert small.targets.normalisers != whole.targets.normalisers


def test_a_list_of_one_target_is_that_target(trial_of):
    data = trial_of(SR2).data
    listed = replace(trial_of(SR2), data=DataRef.of(data.data_hash, data.name, [Target(data.target, data.unit)]))
    assert listed == trial_of(SR2)
    assert listed.key == trial_of(SR2).key


def test_a_column_with_a_plus_in_its_name_is_not_two_targets(two_target_trial_of):
    two = two_target_trial_of(SR2)
    one = replace(two, data=replace(two.data, targets=()))
    assert one.data.target == two.data.target
    assert one.key != two.key


def test_what_cannot_be_trained_is_refused(gapped_store, two_target_trial_of):
    both = two_target_trial_of(SR2)
    energy = both.data.targets[0]
    alone = replace(both, model=SR2, data=DataRef.of(both.data.data_hash, "demo", [energy]))
    with pytest.raises(StoreError, match=r"10 of 80 crystals.*no value of electrostatic_energy: name the source"):
        GroupTrainer([alone], gapped_store)
    with pytest.raises(ValueError, match="2 targets for a network with outputs=1"):
        GroupTrainer([replace(both, model=SR2)], gapped_store)
    with pytest.raises(ValueError, match="outputs=2: a classification has one target"):
        replace(both.model, task="classification")
    lacking = [gapped_store.ids[row] for row in np.flatnonzero(np.isnan(gapped_store.target(VOLUME)))]
    others = [one for one in gapped_store.ids if one not in lacking]
    lists = SplitConfig(kind="lists", lists=(tuple(others[:40]), tuple(others[40:]), tuple(lacking)))
    with pytest.raises(ValueError, match="target 'volume': none of the 20 test rows has a value"):
        GroupTrainer([two_target_trial_of(SR2, split=lists)], gapped_store)
