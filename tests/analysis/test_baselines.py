"""Baselines: fitted to training rows, by plain equations, kept in the folder; scores by their definitions."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_results import result_of

from srcgcnn.analysis.baselines import LINEAR, MEAN, baselines_of, fit_baselines, fit_ridge
from srcgcnn.analysis.report import write_report
from srcgcnn.analysis.scores import roc_auc, scores_of
from srcgcnn.analysis.studies import studies_of
from srcgcnn.cli.main import main
from srcgcnn.models.config import ModelConfig
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import write_result
from srcgcnn.run.trial import Seeds
from srcgcnn.sweep.axes import Axes
from srcgcnn.sweep.record import SweepRecord, write_record
from srcgcnn.sweep.spec import DataSpec, SweepSpec
from srcgcnn.training.split import Crystals, Split, element_fractions, split_rows


@pytest.fixture
def sweep(demo_store, trial_of, tmp_path):
    """A sweep of three seeds on a copy of a real store, with made results."""
    store = shutil.copytree(demo_store.folder, tmp_path / "store")
    paths = RunPaths(tmp_path / "out")
    for seed in range(3):
        trial = trial_of(ModelConfig("cgcnn", 1), seed)
        write_result(paths, result_of(trial, val_mae=0.5 + 0.01 * seed, rows=(48, 16, 16)))
    axes = (Axes(models=("cgcnn",), depths=(1,), seeds=(0, 1, 2)),)
    spec = SweepSpec("based", "", DataSpec(source="demo"), axes, training=trial.training)
    write_record(paths, SweepRecord(spec, trial.data, str(store), "again"))
    return paths


def test_the_mean_is_that_of_the_training_rows(demo_store, trial_of):
    trial = trial_of(ModelConfig("cgcnn", 1))
    mean, linear = fit_baselines(demo_store, trial)
    targets = demo_store.target(trial.data.target)
    split = split_rows(trial.training.split, 0, Crystals.of(demo_store))
    assert mean.test.error == pytest.approx(np.abs(targets[split.test] - targets[split.train].mean()).mean())
    assert (mean.name, linear.name) == (MEAN, LINEAR)
    assert linear.train.error < mean.train.error
    other = fit_baselines(demo_store, replace(trial, seeds=Seeds(0, 0, 1)))
    assert other[0].test.error != mean.test.error  # of another split


def test_ridge_is_the_minimum_and_sees_no_test_row():
    rng = np.random.default_rng(0)
    features, targets = rng.random((60, 5)), rng.normal(size=60)
    split = Split(np.arange(40), np.arange(40, 50), np.arange(50, 60))
    predicted = fit_ridge(features, targets, split)
    centred = features[:40] - features[:40].mean(axis=0)
    below = []
    for penalty in (10.0**power for power in range(-6, 4)):
        rows = np.vstack([centred, np.sqrt(40 * penalty) * np.eye(5)])  # ridge as least squares
        weights = np.linalg.lstsq(rows, np.append(targets[:40] - targets[:40].mean(), np.zeros(5)), rcond=None)[0]
        below.append((features - features[:40].mean(axis=0)) @ weights + targets[:40].mean())
    errors = [np.abs(each[40:50] - targets[40:50]).mean() for each in below]
    np.testing.assert_allclose(predicted, below[int(np.argmin(errors))], rtol=1e-8)
    targets[50:] = 1e6
    np.testing.assert_allclose(fit_ridge(features, targets, split), predicted)


def test_fractions_of_elements_add_up():
    fractions = element_fractions(["NaCl", "Fe2O3", "O2"])
    np.testing.assert_allclose(fractions.sum(axis=1), 1)
    assert fractions.shape == (3, 4)
    assert sorted(fractions[1]) == [0, 0, 0.4, 0.6]


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=30))
def test_roc_auc_counts_pairs(rows):
    targets, predictions = np.array([one for one, _ in rows], dtype=float), np.array([p / 4 for _, p in rows])
    ones, zeros = predictions[targets == 1], predictions[targets == 0]
    pairs = [(a > b) + 0.5 * (a == b) for a in ones for b in zeros]
    found = roc_auc(targets, predictions)
    assert found is None if not pairs else found == pytest.approx(np.mean(pairs))


def test_scores_are_their_definitions():
    targets, predictions = np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 4.0])
    scores = scores_of(targets, predictions, "regression")
    assert scores.error == pytest.approx(1 / 3)
    assert scores.rmse == pytest.approx(np.sqrt(1 / 3))
    assert scores.r2 == pytest.approx(1 - 1 / np.sum((targets - 7 / 3) ** 2))
    assert scores_of(np.full(3, 0.1), predictions, "regression").r2 is None  # the mean of these is not 0.1
    classes = scores_of(np.array([0.0, 1.0, 1.0]), np.array([0.2, 0.9, 0.4]), "classification")
    assert (classes.error, classes.roc_auc, classes.base_rate) == (pytest.approx(1 / 3), 1.0, pytest.approx(2 / 3))


@pytest.mark.full
def test_baselines_stay_where_the_store_goes(sweep, tmp_path):
    page = write_report(sweep).read_text()
    assert "a linear model on composition has" in page
    assert "Baselines are fitted to the training rows" in page
    kept = baselines_of(*studies_of(sweep))
    shutil.rmtree(tmp_path / "store")
    assert baselines_of(*studies_of(sweep)) == kept != []
    assert write_report(sweep).read_text() == page
    assert main(["archive", str(sweep.out), str(tmp_path / "archive")]) == 0
    assert baselines_of(*studies_of(RunPaths(tmp_path / "archive"))) == kept
    table = pd.read_csv(sweep.report / "tables" / "baselines.csv")
    assert table["test"].tolist() == [one.test.mean for one in kept]
    shutil.rmtree(sweep.baselines)
    assert "Baselines are not shown" in write_report(sweep).read_text()


def test_a_store_of_other_numbers_gives_no_baseline(sweep, tmp_path, demo_store):
    from srcgcnn.data.build import build_store
    from srcgcnn.data.demo import demo_source

    other = build_store(demo_source(40), tmp_path / "other", processes=1).store
    shutil.rmtree(tmp_path / "store")
    shutil.copytree(other.folder, tmp_path / "store")
    assert baselines_of(*studies_of(sweep)) == []
    assert not sweep.baselines.exists()


def test_a_damaged_file_is_computed_again(sweep, capsys):
    kept = baselines_of(*studies_of(sweep))
    (path,) = sweep.baselines.glob("*.json")
    path.write_text("{")
    assert baselines_of(*studies_of(sweep)) == kept
    assert "damaged" in capsys.readouterr().err
