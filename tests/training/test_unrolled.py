"""Any-depth reading: limit cases against the trained network, and statistics against their definition."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from srcgcnn.models.config import ModelConfig
from srcgcnn.models.network import CrystalGraphNetwork
from srcgcnn.training.outcome import conclude
from srcgcnn.training.trainer import GroupTrainer
from srcgcnn.training.unrolled import estimate_norms, read_beyond, unrolled

MODELS = {
    "step": ModelConfig("srcgcnn", 3),
    "affine": ModelConfig("srcgcnn", 3, "affine"),
    "shared": ModelConfig("srcgcnn", 3, "shared", 0.4),
    "learned": ModelConfig("srcgcnn", 2, alpha="learned", layer_norm=True),
    "corrected": ModelConfig("srcgcnn", 3, correction="lowrank:2"),
    "two blocks": ModelConfig("srcgcnn", 4, blocks=2),
    "another block": ModelConfig("schnet", 3, blocks=1),
}


def trained(config, store, **options):
    trainer = GroupTrainer([config], store, **options)
    trainer.train()
    return trainer


@pytest.mark.parametrize("name", MODELS)
def test_up_to_the_trained_depth_it_is_the_trained_network(name, demo_store, trial_of):
    trainer = trained(trial_of(MODELS[name], epochs=1), demo_store, backend="plain")
    network, batch = trainer.network.eval(), trainer.crystals.batch(trainer.rows_of("val"))
    longer = unrolled(network, 2 * network.config.depth)
    first = network.initial_state(batch)
    with torch.no_grad():
        mine, its = list(network.steps(first, batch)), list(longer.steps(longer.initial_state(batch), batch))
    assert len(its) == 2 * len(mine)
    for before, after in zip(mine, its, strict=False):
        torch.testing.assert_close(before.atoms, after.atoms)


def test_later_norms_have_the_statistics_of_the_batch_and_others_keep_theirs(demo_store, trial_of):
    trainer = trained(trial_of(MODELS["step"], epochs=1), demo_store, backend="plain")
    batch = trainer.crystals.batch(trainer.rows_of("train"))
    longer = unrolled(trainer.network, 6)
    before = {name: value.clone() for name, value in longer.state_dict().items()}
    estimate_norms(longer, 3, [batch, batch])
    after = longer.state_dict()
    for name, value in after.items():
        assert torch.equal(value, before[name]) == (
            not ("running" in name and name.startswith(("norms.3", "norms.4", "norms.5")))
        )
    longer.train()
    norm = longer.norms[4].atoms
    seen = []
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        list(longer.steps(longer.initial_state(batch), batch))
    torch.testing.assert_close(after["norms.4.atoms.running_mean"][0], seen[0][0].mean(dim=0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after["norms.4.atoms.running_var"][0], seen[0][0].var(dim=0), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["step", "affine", "learned"])
def test_results_carry_errors_beyond_the_trained_depth(name, demo_store, trial_of):
    config = trial_of(MODELS[name])
    trainer = trained(config, demo_store)
    (outcome,) = conclude(trainer)
    probes, depth = outcome.result.probes, config.model.depth
    assert len(probes.exit_error) == depth + 1
    assert len(probes.beyond) == depth
    assert np.isfinite(probes.beyond).all()


def test_reading_beyond_disturbs_no_number_of_the_trained_network(demo_store, trial_of):
    trainer = trained(trial_of(MODELS["step"]), demo_store)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    read_beyond(trainer)
    assert all(torch.equal(value, before[name]) for name, value in trainer.network.state_dict().items())


def test_stacked_networks_have_no_step_beyond(demo_store, trial_of):
    trainer = trained(trial_of(ModelConfig("cgcnn", 2), epochs=1), demo_store)
    assert read_beyond(trainer) == [()]
    with pytest.raises(ValueError, match="CGCNN-2 has a block for every step and none for step 3"):
        unrolled(trainer.network, 3)


def test_a_group_reads_like_its_trials_alone(demo_store, trial_of):
    configs = [trial_of(replace(MODELS["step"], alpha=alpha), seed) for seed, alpha in ((0, 0.3), (1, 0.7))]
    trainer = GroupTrainer(configs, demo_store)
    trainer.train()
    assert isinstance(trainer.network, CrystalGraphNetwork)
    together = read_beyond(trainer)
    for config, found in zip(configs, together, strict=True):
        (alone,) = read_beyond(trained(config, demo_store))
        np.testing.assert_allclose(found, alone, rtol=0.02)


@pytest.mark.parametrize("family", ["megnet", "srcgcnn"])
def test_a_last_crystal_that_joined_its_batch_in_training_joins_it_here(family, demo_store, trial_of):
    """BatchNorm needs two rows; MEGNet has one for each crystal."""
    trainer = trained(trial_of(ModelConfig(family, 2, blocks=1), epochs=1, batch_size=47), demo_store)
    assert trainer.batch_sizes == [48]
    (outcome,) = conclude(trainer)
    assert len(outcome.result.probes.beyond) == 2


def test_a_result_is_worth_more_than_its_probes(demo_store, trial_of, monkeypatch, caplog):
    def broken(_):
        raise RuntimeError("no memory for probes")

    monkeypatch.setattr("srcgcnn.training.outcome.probe_depth", broken)
    (outcome,) = conclude(trained(trial_of(MODELS["step"], epochs=1), demo_store))
    assert outcome.result.probes is None
    assert "no memory for probes" in caplog.text


def test_predictions_that_are_not_finite_are_a_fault_and_no_result(demo_store, trial_of):
    trainer = trained(trial_of(MODELS["step"], epochs=1), demo_store)
    trainer.best_weights["head.output.bias"].fill_(np.inf)
    (outcome,) = conclude(trainer)
    assert outcome.result is None
    assert outcome.fault.startswith("not finite: predictions for train and val and test rows")
