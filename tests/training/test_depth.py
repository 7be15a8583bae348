"""Training that depth asks for: limit cases, where it is the usual training bit for bit, resuming, groups."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from srcgcnn.models.config import ModelConfig
from srcgcnn.run.training_config import DepthRecipe, TrainingConfig
from srcgcnn.training.denoising import Denoiser, denoising_loss, draw_noise
from srcgcnn.training.depth import DepthTraining, step_weights
from srcgcnn.training.outcome import conclude
from srcgcnn.training.streams import stream
from srcgcnn.training.trainer import GroupTrainer, InterruptedGroupError

SR3 = ModelConfig("srcgcnn", 3)
RECIPES = [
    {"depth": DepthRecipe(supervision="uniform")},
    {"depth": DepthRecipe(supervision="rising", sampling="uniform:2:3")},
    {"depth": DepthRecipe(step_dropout=0.3)},
    {"depth": DepthRecipe(noise_angstrom=0.05, denoising=0.5)},
    {"average_decay": 0.9, "warmup_epochs": 2},
]


def run(configs, store, **options):
    trainer = GroupTrainer(configs, store, **options)
    trainer.train()
    return trainer, conclude(trainer)


def numbers(outcome):
    return outcome.result.metrics, outcome.result.curves, outcome.test.predictions.tolist()


@pytest.mark.parametrize(
    "depth", [DepthRecipe(sampling="uniform:3:3"), DepthRecipe(sampling="uniform:3:3", noise_angstrom=1e-30)]
)
def test_at_its_limits_training_is_the_usual_one_bit_for_bit(depth, demo_store, trial_of):
    usual = numbers(run([trial_of(SR3)], demo_store)[1][0])
    assert numbers(run([trial_of(SR3, depth=depth)], demo_store)[1][0]) == usual


def test_one_step_has_one_loss_however_losses_are_weighted(demo_store, trial_of):
    one = ModelConfig("cgcnn", 1)
    usual = numbers(run([trial_of(one)], demo_store)[1][0])
    for supervision in ("uniform", "rising"):
        assert numbers(run([trial_of(one, depth=DepthRecipe(supervision=supervision))], demo_store)[1][0]) == usual


@pytest.mark.full
@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_every_recipe_trains_to_other_numbers_that_repeat(recipe, demo_store, trial_of):
    usual, first, again = (numbers(run([trial_of(SR3, **given)], demo_store)[1][0]) for given in ({}, recipe, recipe))
    assert first == again
    assert first[2] != usual[2]
    assert np.isfinite(first[2]).all()


@pytest.mark.full
@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_interrupted_at_every_batch_it_ends_with_the_same_numbers(recipe, demo_store, trial_of, tmp_path):
    config = trial_of(SR3, 1, **recipe)
    undisturbed = numbers(run([config], demo_store)[1][0])
    while True:
        trainer = GroupTrainer([config], demo_store, checkpoint=tmp_path / "group.pt")
        try:
            trainer.train(should_stop=lambda: True)
            break
        except InterruptedGroupError:
            pass
    assert trainer.progress.resumes > 3
    assert numbers(conclude(trainer)[0]) == undisturbed


@pytest.mark.full
@pytest.mark.parametrize("model", [SR3, ModelConfig("schnet", 2)], ids=lambda model: model.family)
@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_a_grouped_trial_gives_the_numbers_of_the_trial_alone(recipe, model, demo_store, trial_of):
    recipe = dict(recipe)
    if "depth" in recipe and recipe["depth"].sampling != "none":
        recipe["depth"] = replace(recipe["depth"], sampling="uniform")
    configs = [trial_of(model, seed, **recipe) for seed in (0, 1)]
    _, grouped = run(configs, demo_store)
    for config, outcome in zip(configs, grouped, strict=True):
        _, (alone,) = run([config], demo_store)
        np.testing.assert_allclose(outcome.test.predictions, alone.test.predictions, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("model", [SR3, replace(SR3, alpha=0.3), ModelConfig("eggc", 2)], ids=lambda model: model.label)
def test_a_step_that_is_dropped_leaves_the_states_as_they_are(model, demo_store, trial_of):
    trainer = GroupTrainer([trial_of(model)], demo_store, backend="plain")
    batch = trainer.crystals.batch(trainer.rows_of("val"))
    shares = torch.ones(1, model.depth)
    shares[0, 1] = 0.0
    first = trainer.network.initial_state(batch)
    one, two, *_ = trainer.network.steps(first, batch, shares)
    assert torch.equal(one.atoms, two.atoms)
    trainer.network.eval()
    usual, shared = (list(trainer.network.steps(first, batch, share)) for share in (None, torch.ones_like(shares)))
    for mine, its in zip(usual, shared, strict=True):
        torch.testing.assert_close(mine.atoms, its.atoms)


def test_losses_of_steps_add_up_to_one():
    for recipe, steps in [
        (DepthRecipe(), 4),
        (DepthRecipe(supervision="uniform"), 3),
        (DepthRecipe(supervision="rising"), 5),
    ]:
        weights = step_weights(recipe, steps)
        assert len(weights) == steps
        assert sum(weights) == pytest.approx(1)
    assert step_weights(DepthRecipe(supervision="rising"), 3) == pytest.approx([1 / 6, 2 / 6, 3 / 6])


def test_steps_are_drawn_from_their_range_and_all_of_it(trial_of):
    training = DepthTraining(
        [trial_of(ModelConfig("srcgcnn", 8), depth=DepthRecipe(sampling="uniform:2:5"))], torch.device("cpu")
    )
    assert {training.steps_of(epoch, number) for epoch in range(20) for number in range(1, 5)} == {2, 3, 4, 5}


def test_dropped_steps_are_as_frequent_as_asked_and_unbiased(trial_of):
    configs = [trial_of(ModelConfig("srcgcnn", 10), seed, depth=DepthRecipe(step_dropout=0.25)) for seed in range(4)]
    training = DepthTraining(configs, torch.device("cpu"))
    shares = torch.stack([training.shares_of(epoch, 1) for epoch in range(300)])
    assert shares.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float(shares.mean()) == pytest.approx(1, abs=0.02)


def test_noise_has_its_deviation_and_padding_has_none(demo_store, trial_of):
    configs = [trial_of(SR3, seed, depth=DepthRecipe(noise_angstrom=0.1)) for seed in (0, 1)]
    trainer = GroupTrainer(configs, demo_store)
    batch = trainer.crystals.batch(trainer.rows_of("train"))
    noise = draw_noise(batch, [stream(seed) for seed in (0, 1)])
    assert noise.shape == batch.distances.shape
    real = torch.ones(noise.shape[:2], dtype=torch.bool) if batch.atom_mask is None else batch.atom_mask
    assert float(noise[real].std()) == pytest.approx(1, abs=0.02)
    assert not noise[~real].any()


def test_the_denoiser_is_the_plain_network_on_both_atoms_and_the_edge(demo_store, trial_of):
    trainer = GroupTrainer([trial_of(SR3)], demo_store, backend="plain")
    batch = trainer.crystals.batch(trainer.rows_of("val"))
    denoiser = Denoiser(1, 64)
    denoiser.reset_parameters([stream(0)])
    states = torch.randn(1, batch.atomic_numbers.shape[1], 64, generator=stream(1))
    graph = batch.flat(0)
    centres = torch.arange(41) * 0.2
    edges = torch.exp(-((graph.distances[:, None] - centres) ** 2) / 0.2**2)
    rows = torch.cat([states[0, graph.centres], states[0, graph.sources], edges], dim=1)
    hidden = torch.nn.functional.softplus(rows @ denoiser.inner.weight[0] + denoiser.inner.bias[0])
    plain = (hidden @ denoiser.outer.weight[0] + denoiser.outer.bias[0]).squeeze(1)
    found = denoiser(states, batch)
    slots = found.flatten() if graph.places is None else found[0, : len(graph.atomic_numbers)].flatten()[graph.places]
    torch.testing.assert_close(slots, plain, rtol=1e-4, atol=1e-5)
    noise = torch.randn(batch.distances.shape, generator=stream(2))
    kept = noise.flatten() if graph.places is None else noise[0, : len(graph.atomic_numbers)].flatten()[graph.places]
    torch.testing.assert_close(denoising_loss(found, noise, batch)[0], ((plain - kept) ** 2).mean())


@pytest.mark.full
def test_denoising_lowers_the_error_of_what_it_tells(demo_store, trial_of):
    recipe = DepthRecipe(noise_angstrom=0.3, denoising=1.0)
    trainer = GroupTrainer([trial_of(SR3, epochs=25, depth=recipe, milestones=(100,))], demo_store)
    trainer.train()
    losses = trainer.progress.members[0].train_loss
    assert losses[-1] < 0.6 * losses[0]
    assert not any("denoiser" in name for name in trainer.best_weights)  # never part of the model


def test_warm_up_raises_the_learning_rate_step_by_step(demo_store, trial_of):
    _, (outcome,) = run([trial_of(SR3, warmup_epochs=2, milestones=(100,))], demo_store)
    assert outcome.result.curves.learning_rate == pytest.approx((4 / 6 * 1e-3, 1e-3, 1e-3))  # 3 batches an epoch


def test_averaged_weights_lie_between_those_of_the_steps(demo_store, trial_of):
    config = trial_of(SR3, average_decay=0.999999)
    trainer = GroupTrainer([config], demo_store)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.train()
    name = "head.output.weight"
    assert not torch.equal(trainer.network.state_dict()[name], before[name])
    distance = (trainer.best_weights[name] - before[name]).abs().max()
    assert 0 < float(distance) < 0.01


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"sampling": "uniform:3:2"}, "uniform:LEAST:MOST"),
        ({"sampling": "normal"}, "uniform:LEAST:MOST"),
        ({"step_dropout": 1.0}, "step_dropout=1.0"),
        ({"denoising": 0.1}, "noise_angstrom"),
        ({"noise_angstrom": -1}, "noise_angstrom=-1.0"),
    ],
)
def test_impossible_recipes_are_refused_by_name(wrong, reason):
    with pytest.raises(ValueError, match=reason):
        DepthRecipe(**wrong)


def test_more_steps_than_the_network_has_are_refused(trial_of):
    with pytest.raises(ValueError, match="up to 8 steps, but the network has 3"):
        trial_of(SR3, depth=DepthRecipe(sampling="uniform:1:8"))


def test_steps_that_are_never_trained_are_named(trial_of):
    (caution,) = trial_of(ModelConfig("srcgcnn", 8), depth=DepthRecipe(sampling="uniform:2:3")).cautions
    assert "trains at most 3 steps" in caution
    for sampling in ("none", "uniform", "uniform:2:8"):
        assert trial_of(ModelConfig("srcgcnn", 8), depth=DepthRecipe(sampling=sampling)).cautions == ()


def test_the_defaults_change_no_key_and_every_setting_does(trial_of):
    usual = trial_of(SR3)
    same = replace(usual, training=replace(usual.training, depth=DepthRecipe(), warmup_epochs=0, average_decay=None))
    assert same.key == usual.key
    keys = {usual.key, *(trial_of(SR3, **recipe).key for recipe in RECIPES)}
    assert len(keys) == 1 + len(RECIPES)


def test_one_over_root_depth_and_the_start_of_learned_damping(demo_store, trial_of):
    scaled = GroupTrainer([trial_of(ModelConfig("srcgcnn", 4, alpha="1/sqrt(T)"))], demo_store).network
    assert scaled.alphas().tolist() == [[0.5] * 4]
    assert ModelConfig("srcgcnn", 1, alpha="1/sqrt(T)").canonical() == ModelConfig("cgcnn", 1)
    learned = ModelConfig("srcgcnn", 3, alpha="learned", alpha_start=0.1)
    assert GroupTrainer([trial_of(learned)], demo_store).network.alphas()[0].tolist() == pytest.approx([0.1] * 3)
    assert learned.label == "SR-CGCNN T=3 step-norm alpha=learned from 0.1"
    assert replace(learned, alpha=0.5).canonical().alpha_start is None
    with pytest.raises(ValueError, match="alpha_start"):
        ModelConfig("srcgcnn", 3, alpha="learned", alpha_start=1.5)


def test_warm_up_needs_a_schedule_without_one():
    with pytest.raises(ValueError, match="onecycle"):
        TrainingConfig(schedule="onecycle", warmup_epochs=3)
