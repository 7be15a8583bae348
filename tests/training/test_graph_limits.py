"""Fewer neighbours as an axis: each trial trains, predicts and is named as one on a store built for its graph."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from srcgcnn.cli.main import main
from srcgcnn.data.build import build_store
from srcgcnn.data.demo import demo_source
from srcgcnn.data.graph import GraphSettings
from srcgcnn.data.limited_store import GraphLimits
from srcgcnn.data.store import GraphStore
from srcgcnn.models.config import ModelConfig
from srcgcnn.prediction.seen import open_training_store
from srcgcnn.training.model_card import read_card
from srcgcnn.training.outcome import conclude, save_member
from srcgcnn.training.trainer import GroupTrainer

SMALL = GraphSettings(neighbours=6, cutoff_angstrom=5.0)
LIMITS = GraphLimits(neighbours=6, cutoff_angstrom=5.0)


@pytest.fixture(scope="module")
def small_store(shared):
    """The crystals of `demo_store` with 6 neighbours within 5 angstrom."""
    return GraphStore(shared("six", lambda path: build_store(demo_source(80), path, settings=SMALL, processes=1)))


@pytest.mark.parametrize("model", [ModelConfig("srcgcnn", 2), ModelConfig("alignn", 1)], ids=["distances", "angles"])
def test_a_limited_trial_has_the_numbers_of_one_on_a_store_built_for_it(
    model, demo_store, small_store, trial_of, tmp_path
):
    limited = trial_of(model, epochs=2, graph=LIMITS)
    built = trial_of(model, epochs=2)
    built = replace(built, data=replace(built.data, data_hash=small_store.manifest.data_hash))
    outcomes = []
    for trial, store in ((limited, demo_store), (built, small_store)):
        trainer = GroupTrainer([trial], store, device=torch.device("cpu"))
        trainer.train()
        outcomes.append(conclude(trainer)[0].result)
        save_member(trainer, 0, tmp_path / f"{trial.key}.safetensors")
    mine, theirs = outcomes
    assert mine.curves.val_error == pytest.approx(theirs.curves.val_error, rel=1e-5)
    assert mine.metrics.test_mae == pytest.approx(theirs.metrics.test_mae, rel=1e-5)
    cards = [read_card(tmp_path / f"{trial.key}.safetensors") for trial in (limited, built)]
    assert cards[0].graph == cards[1].graph == SMALL
    assert cards[0].domain == cards[1].domain


def test_trials_without_limits_keep_their_keys(trial_of):
    trial = trial_of(ModelConfig("srcgcnn", 2))
    assert trial_of(ModelConfig("srcgcnn", 2), graph=GraphLimits()).key == trial.key
    assert trial_of(ModelConfig("srcgcnn", 2), graph=LIMITS).key != trial.key
    assert trial_of(ModelConfig("srcgcnn", 2), graph=LIMITS).shape != trial.shape


def test_crystals_are_found_again_among_the_limited_graphs(finished_sweep, trial_of):
    paths = finished_sweep([ModelConfig("srcgcnn", 1)])
    store = open_training_store(paths, trial_of(ModelConfig("srcgcnn", 1), graph=LIMITS))
    assert store.graph(0).distances.shape[1] == 6
    assert np.nanmax(np.where(np.isinf(store.graph(0).distances), np.nan, store.graph(0).distances)) <= 5.0


def test_the_axis_is_planned_named_and_refused_beyond_the_store(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    axis = ("--axis", "training.graph.neighbours")
    dry = ("sweep", "--data", "demo", "--models", "srcgcnn", "--depths", "2", "--seeds", "1", "--dry-run")
    assert main([*dry, *axis, "6", "12"]) == 0
    plan = capsys.readouterr().out
    assert "SR-CGCNN T=2 step-norm graph.neighbours=6" in plan
    assert "SR-CGCNN T=2 step-norm graph.neighbours=12" in plan
    assert main([*dry, *axis, "6", "16"]) == 2
    assert "training.graph.neighbours=16: the graphs of the store have neighbours=12" in capsys.readouterr().err
