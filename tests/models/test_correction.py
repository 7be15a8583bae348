"""What steps change about the block that they share: limit cases, equations, counts, groups."""

import numpy as np
import pytest
import torch

from srcgcnn.models.config import ModelConfig
from srcgcnn.models.correction import Film, LowRank
from srcgcnn.models.counts import count_parameters
from srcgcnn.training.outcome import conclude
from srcgcnn.training.trainer import GroupTrainer

CORRECTIONS = ["film", "lowrank:1", "lowrank:3"]
TIED = {"srcgcnn": {}, "schnet": {"blocks": 1}, "cgconv": {"blocks": 2}}


def model(family, depth=3, **settings):
    return ModelConfig(family, depth, **{**TIED[family], **settings})


def trained(config, store, **options):
    trainer = GroupTrainer([config], store, **options)
    trainer.train()
    return trainer


@pytest.mark.parametrize("family", TIED)
@pytest.mark.parametrize("correction", CORRECTIONS)
def test_it_begins_as_the_network_without_it(family, correction, demo_store, trial_of):
    plain, corrected = (
        GroupTrainer([trial_of(model(family, correction=name))], demo_store) for name in ("none", correction)
    )
    rows = plain.rows_of("val")
    assert torch.equal(plain.predict(rows), corrected.predict(rows))


@pytest.mark.parametrize("family", TIED)
@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_counts_are_those_of_the_network(family, correction, depth, demo_store, trial_of):
    config = model(family, depth, correction=correction).canonical()
    network = GroupTrainer([trial_of(config)], demo_store).network
    assert count_parameters(config).total == sum(parameter.numel() for parameter in network.parameters())


def test_a_low_rank_correction_is_a_product_and_a_sum():
    torch.manual_seed(0)
    atoms, rank = torch.randn(2, 7, 5, dtype=torch.float64), LowRank(2, 3, 5, 2).double()
    film = Film(2, 3, 5).double()
    for values in (*rank.parameters(), *film.parameters()):
        torch.nn.init.normal_(values)
    for member in range(2):
        matrix = torch.eye(5, dtype=torch.float64) + rank.down[member, 1] @ rank.up[member, 1]
        torch.testing.assert_close(rank(atoms, 1)[member], atoms[member] @ matrix)
        torch.testing.assert_close(rank.of_member(atoms[member], 1, member), atoms[member] @ matrix)
        scaled = atoms[member] * film.scale[member, 2] + film.shift[member, 2]
        torch.testing.assert_close(film(atoms, 2)[member], scaled)
        torch.testing.assert_close(film.of_member(atoms[member], 2, member), scaled)


@pytest.mark.full
@pytest.mark.parametrize("correction", ["film", "lowrank:2"])
@pytest.mark.parametrize("family", ["srcgcnn", "schnet"])
def test_every_step_learns_its_own_in_a_group_as_alone(family, correction, demo_store, trial_of):
    configs = [trial_of(model(family, 2, correction=correction), seed) for seed in (0, 1)]
    group = GroupTrainer(configs, demo_store)
    group.train()
    for name, values in group.network.correction.named_parameters():
        start = 1.0 if name == "scale" else 0.0
        assert (values - start).abs().flatten(2).amax(dim=2).min() > 0, name  # of every model and step
    for config, outcome in zip(configs, conclude(group), strict=True):
        (alone,) = conclude(trained(config, demo_store))
        np.testing.assert_allclose(outcome.test.predictions, alone.test.predictions, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("wrong", ["lowrank", "lowrank:0", "lora:3", ""])
def test_unknown_corrections_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match="must be none, film, or lowrank:R"):
        ModelConfig("srcgcnn", 2, correction=wrong)


def test_the_label_tells_the_correction():
    assert ModelConfig("srcgcnn", 3, correction="film").label == "SR-CGCNN T=3 step-norm correction=film"
