"""Predictions of networks for several targets: a column, an interval and a unit for each."""

from dataclasses import replace

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from mlflow.models import Model
from pymatgen.io.cif import CifWriter
from two_targets import VOLUME

from srcgcnn.cli.main import main
from srcgcnn.data.demo import demo_source
from srcgcnn.data.store import sha256_of
from srcgcnn.prediction.calibration import calibrate
from srcgcnn.prediction.choice import choose
from srcgcnn.prediction.ensemble import Ensemble
from srcgcnn.prediction.start import find_start
from srcgcnn.run.folder import open_run
from srcgcnn.run.training_config import SplitConfig, StartConfig
from srcgcnn.run.trial import DataRef
from srcgcnn.sweep.axes import Axes
from srcgcnn.sweep.spec import DataSpec, StartSpec, SweepSpec
from srcgcnn.tracking.fields import result_metrics
from srcgcnn.tracking.pyfunc import save_crystal_model
from srcgcnn.training.trainer import GroupTrainer

ENERGY = "electrostatic_energy"


@pytest.fixture(scope="module")
def crystals():
    return {row.row_id: row.content for row in demo_source(80).rows()}


def test_every_target_has_its_mean_and_its_interval(two_target_sweep, crystals):
    ensemble = Ensemble.load(two_target_sweep.out)
    members = choose(two_target_sweep).members
    tables = [open_run(two_target_sweep).predictions(one.key).set_index("id") for one in members]
    test = tables[0].index[tables[0]["set"] == "test"]
    found = ensemble.predict([crystals[name] for name in test])
    units = {ENERGY: "eV/atom", VOLUME: "angstrom3"}
    for name, calibration in zip(units, ensemble.calibrations, strict=True):
        recorded = np.stack([table[f"prediction_{name}"] for table in tables])
        there = (tables[0]["set"] == "validation") & tables[0][f"target_{name}"].notna()
        expected = calibrate(tables[0].loc[there, f"target_{name}"].to_numpy(), recorded[:, there])
        assert calibration == expected
        mean = recorded[:, tables[0]["set"] == "test"].mean(axis=0)
        np.testing.assert_allclose(found[f"prediction_{name}"], mean, rtol=1e-3)
        width = found[f"upper_90_{name}"] - found[f"lower_90_{name}"]
        np.testing.assert_allclose(width, 2 * calibration.half_width(found[f"spread_{name}"].to_numpy()), rtol=1e-6)
        assert (found[f"unit_{name}"] == units[name]).all()
    assert "prediction" not in found


def test_predict_writes_a_column_for_each(two_target_sweep, crystals, tmp_path, capsys):
    CifWriter(next(iter(crystals.values()))).write_file(tmp_path / "new.cif")
    out = tmp_path / "p.csv"
    assert main(["predict", str(two_target_sweep.out), str(tmp_path / "new.cif"), "--out", str(out)]) == 0
    assert f"{ENERGY} [eV/atom] + {VOLUME} [angstrom3]" in capsys.readouterr().out
    assert {f"prediction_{ENERGY}", f"prediction_{VOLUME}"} <= set(pd.read_csv(out))
    (tmp_path / "none.cif").write_text("nothing")
    assert main(["predict", str(two_target_sweep.out), str(tmp_path / "none.cif")]) != 0


def test_the_model_for_mlflow_answers_for_each(two_target_sweep, crystals, tmp_path):
    key = choose(two_target_sweep).best_member().key
    save_crystal_model(two_target_sweep.model(key), tmp_path / "model", Model())
    texts = [str(CifWriter(structure)) for structure in list(crystals.values())[:2]]
    found = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(pd.DataFrame({"cif": [*texts, "nothing"]}))
    expected = Ensemble.load(two_target_sweep.model(key)).predict(list(crystals.values())[:2])
    for name in (ENERGY, VOLUME):
        column = f"prediction_{name}"
        np.testing.assert_allclose(found[column][:2].astype(float), expected[column], rtol=1e-3)
        assert found[column][2] is None
    assert list(found[f"unit_{VOLUME}"]) == ["angstrom3"] * 3


def test_mlflow_gets_the_errors_of_each(two_target_sweep):
    result = open_run(two_target_sweep).results[0]
    found = {metric.key: metric.value for metric in result_metrics(result, None)}
    assert found["test_mae"] == result.test_error
    assert found[f"test_mae/{VOLUME}"] == result.targets[1].test_mae


def test_a_sweep_for_two_targets_starts_from_both_heads_or_from_none(two_target_sweep):
    start = StartSpec(str(two_target_sweep.out), "SR-CGCNN T=2 step-norm", head="keep")
    axes = (Axes(models=("srcgcnn",), depths=(2,)),)
    assert find_start(SweepSpec("x", data=DataSpec(target=(ENERGY, VOLUME)), axes=axes, start=start)).weights
    with pytest.raises(ValueError, match="outputs 2 there, 1 here"):
        find_start(SweepSpec("x", data=DataSpec(target=ENERGY), axes=axes, start=start))


def test_a_kept_head_keeps_its_scales_and_its_order(two_target_sweep, gapped_store, two_target_trial_of):
    member = choose(two_target_sweep, "SR-CGCNN T=2 step-norm").best_member()
    weights = two_target_sweep.model(member.key)
    start = StartConfig(sha256_of(weights), "keep")
    config = two_target_trial_of(member.config.model, 5, start=start, split=SplitConfig(train_size=20))
    trainer = GroupTrainer([config], gapped_store, start_weights=weights)
    assert [one.mean for one in trainer.targets.normalisers[0]] == [one.mean for one in member.targets]
    other = DataRef.of(config.data.data_hash, config.data.name, config.data.targets[::-1])
    with pytest.raises(ValueError, match="the kept head predicts electrostatic_energy, volume, in this order"):
        GroupTrainer([replace(config, data=other)], gapped_store, start_weights=weights)
