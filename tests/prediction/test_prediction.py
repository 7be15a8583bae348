"""Predicting for new crystals: which models answer, intervals, warnings, bad input, the served model."""

import json
import os
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.cif import CifWriter
from web import free_port, wait_for

from srcgcnn.cli.main import main
from srcgcnn.data.demo import demo_source
from srcgcnn.driver.worker import run_group
from srcgcnn.models.config import ModelConfig
from srcgcnn.prediction.calibration import calibrate, spread_of
from srcgcnn.prediction.ensemble import Ensemble
from srcgcnn.run.folder import open_run
from srcgcnn.run.paths import RunPaths
from srcgcnn.sweep.plan import TrialGroup
from srcgcnn.sweep.record import SweepRecord, write_record
from srcgcnn.sweep.spec import SweepSpec
from srcgcnn.tracking import ui
from srcgcnn.training.model_file import load_model, save_model

SR2, ONE_LAYER = ModelConfig("srcgcnn", 2), ModelConfig("cgcnn", 1)
SEEDS = 3


@pytest.fixture(scope="module")
def run(demo_store, trial_of, tmp_path_factory) -> RunPaths:
    """A finished sweep: SR-CGCNN T=2, trained a little, and CGCNN-1, hardly trained; three seeds each."""
    paths = RunPaths(tmp_path_factory.mktemp("runs") / "sweep")
    trials = [trial_of(SR2, seed, epochs=12, learning_rate=5e-3) for seed in range(SEEDS)]
    trials += [trial_of(ONE_LAYER, seed, epochs=1, learning_rate=1e-6) for seed in range(SEEDS)]
    for trial in trials:
        run_group(TrialGroup((trial,)), demo_store.folder, paths, checkpoint_interval_s=60)
    spec = SweepSpec(name="sweep")
    write_record(paths, SweepRecord(spec, trials[0].data, str(demo_store.folder), "test"))
    return paths


@pytest.fixture(scope="module")
def crystals():
    """Structures of the demonstration data by id."""
    return {row.row_id: row.content for row in demo_source(80).rows()}


def keys_of(run, label):
    return [result.key for result in open_run(run).results if result.config.model.label == label]


def recorded(run, label, part):
    tables = [pd.read_parquet(run.predictions(key)).set_index("id") for key in keys_of(run, label)]
    columns = [table[table["set"] == part]["prediction"] for table in tables]
    return pd.concat(columns, axis=1)


def test_the_best_variant_answers_with_the_mean_and_spread_of_its_seeds(run, crystals):
    expected = recorded(run, SR2.label, "test")
    ensemble = Ensemble.load(run.out)
    assert (
        f"{SR2.label} epochs=12 learning_rate=0.005, seeds 0, 1, 2 (lowest mean validation error of 2 variants"
        in ensemble.description
    )
    table = ensemble.predict([crystals[name] for name in expected.index])
    assert list(ensemble.predict("nothing.cif")["file"]) == ["nothing.cif"]  # one name is one crystal
    assert len(ensemble.predict(crystals[expected.index[0]])) == 1  # and so is one structure, not its sites
    np.testing.assert_allclose(table["prediction"], expected.mean(axis=1), atol=1e-4)
    np.testing.assert_allclose(table["spread"], expected.std(axis=1), atol=1e-4)
    assert (table["unit"] == "eV/atom").all()
    assert (table["lower_90"] < table["prediction"]).all()
    assert (table["prediction"] < table["upper_90"]).all()


def test_crystals_of_memory_answer_as_their_files_do(run, crystals):
    """Structures, ASE atoms and data frames of either, of their dicts and of the text of their CIFs."""
    ensemble = Ensemble.load(run.out)
    structures = list(crystals.values())[:3]
    expected = ensemble.predict(structures)["prediction"].to_numpy()
    atoms = [AseAtomsAdaptor.get_atoms(structure) for structure in structures]
    assert ensemble.predict(atoms)["prediction"].to_numpy() == pytest.approx(expected, rel=1e-5)
    assert ensemble.predict(atoms[0])["prediction"].to_numpy() == pytest.approx(expected[:1], rel=1e-5)
    frame = pd.DataFrame({"material_id": ["a", "b", "c"], "structure": structures, "gap": [1.0, 2.0, 3.0]})
    answer = ensemble.predict(frame)
    assert list(answer["id"]) == ["a", "b", "c"]
    assert answer["prediction"].to_numpy() == pytest.approx(expected)
    dicts = pd.DataFrame({"structure": [structure.as_dict() for structure in structures]}, index=["x", "y", "z"])
    assert list(ensemble.predict(dicts)["id"]) == ["x", "y", "z"]
    texts = pd.DataFrame({"cif": [structures[0].to(fmt="cif"), None, structures[2].to(fmt="cif")]})
    answer = ensemble.predict(texts)
    assert answer["prediction"].to_numpy()[[0, 2]] == pytest.approx(expected[[0, 2]], rel=1e-5)
    assert list(answer["error"]) == ["", "column 'cif' is empty", ""]
    with pytest.raises(ValueError, match="needs a column structure, atoms or cif; it has formula"):
        ensemble.predict(pd.DataFrame({"formula": ["NaCl"]}))
    with pytest.raises(TypeError, match="int is not a crystal; give the path"):
        ensemble.predict([3])


def test_a_variant_a_trial_or_a_key_can_be_asked_for(run):
    key = keys_of(run, ONE_LAYER.label)[0]
    assert len(Ensemble.load(run.out, ONE_LAYER.label).members) == SEEDS
    (seed,) = Ensemble.load(run.out, f"{ONE_LAYER.label} seed 1").members
    assert seed.card.model == ONE_LAYER
    (member,) = Ensemble.load(run.out, key[:8]).members
    assert member.card.key == key
    with pytest.raises(ValueError, match=r"no variant 'CGCNN-7'; known: CGCNN-1 epochs=1 .*, SR-CGCNN T=2 step-norm"):
        Ensemble.load(run.out, "CGCNN-7")
    with pytest.raises(ValueError, match="is one model"):
        Ensemble.load(run.model(key), "CGCNN-1")


def test_trials_of_different_splits_never_answer_together(run, demo_store, trial_of, tmp_path):
    paths = RunPaths(tmp_path / "splits")
    for split in (0, 1):
        trial = trial_of(ONE_LAYER, epochs=1)
        trial = replace(trial, seeds=replace(trial.seeds, split=split))
        run_group(TrialGroup((trial,)), demo_store.folder, paths, checkpoint_interval_s=60)
    assert len(Ensemble.load(paths.out).members) == 1


def test_intervals_rest_on_the_validation_set_and_old_results_get_theirs_from_the_store(run, tmp_path):
    expected = Ensemble.load(run.out).calibration
    validation = recorded(run, SR2.label, "validation")
    table = pd.read_parquet(run.predictions(keys_of(run, SR2.label)[0])).set_index("id")
    assert expected == calibrate(table.loc[validation.index, "target"].to_numpy(), validation.to_numpy().T)
    assert expected.crystals == 16
    old = RunPaths(tmp_path / "old")
    subprocess.run(["cp", "-r", str(run.out), str(old.out)], check=True)
    for path in (old.out / "predictions").iterdir():
        frame = pd.read_parquet(path)
        frame[frame["set"] == "test"].drop(columns="set").to_parquet(path)
    again = Ensemble.load(old.out).calibration
    assert again.factor == pytest.approx(expected.factor, rel=1e-3)
    old.spec.unlink()  # nobody knows where the store is
    assert Ensemble.load(old.out).calibration is None


@settings(max_examples=30, deadline=None)
@given(st.integers(9, 200), st.integers(1, 4), st.floats(0.01, 100), st.integers(0, 2**32 - 1))
def test_at_least_the_stated_share_of_the_validation_set_lies_inside(count, members, unit, seed):
    generator = np.random.default_rng(seed)
    targets = generator.normal(size=count)
    predictions = targets + generator.standard_t(2, size=count) + 0.1 * generator.normal(size=(members, count))
    found = calibrate(targets, predictions)
    inside = np.abs(targets - predictions.mean(axis=0)) <= found.half_width(spread_of(predictions)) * (1 + 1e-9)
    assert inside.sum() >= 0.9 * (count + 1) - 1e-9 or inside.all()
    scaled = calibrate(unit * targets, unit * predictions)  # other units, the same intervals
    half_widths = [
        one.half_width(spread_of(data)) for one, data in ((found, predictions), (scaled, unit * predictions))
    ]
    np.testing.assert_allclose(half_widths[1], unit * half_widths[0], rtol=1e-6)


def test_new_crystals_are_covered_as_often_as_stated():
    """Mean coverage over 400 repetitions, errors that depend on the crystal: 0.9 to 0.9 + 1 / (n + 1), n = 50."""
    generator = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        noise = generator.lognormal(size=70)
        targets = generator.normal(size=70)
        predictions = targets + noise * (0.7 * generator.normal(size=70) + 0.7 * generator.normal(size=(3, 70)))
        found = calibrate(targets[:50], predictions[:, :50])
        error = np.abs(targets - predictions.mean(axis=0))[50:]
        covered.append(np.mean(error <= found.half_width(spread_of(predictions[:, 50:]))))
    assert 0.88 < np.mean(covered) < 0.94
    assert calibrate(np.zeros(8), np.zeros((2, 8))) is None  # 90 % of so few cannot be promised


def test_crystals_outside_of_the_training_set_get_a_warning(run, crystals, demo_store):
    trained = [crystals[demo_store.ids[row]] for row in range(5)]
    ensemble = Ensemble.load(run.out)
    domain = ensemble.card.domain
    assert domain.crystals == 48
    strange = trained[0].copy()
    strange.replace(0, "Pu")
    dilute, crushed = trained[0].copy(), trained[0].copy()
    dilute.scale_lattice(trained[0].volume * 8)
    crushed.scale_lattice(trained[0].volume / 8)
    large = trained[0] * (4, 4, 4)
    warnings = ensemble.predict([strange, dilute, crushed, large])["warning"]
    assert "not in the training set: Pu" in warnings[0]
    assert "density" in warnings[1]
    assert "shortest distance" in warnings[2]
    assert f"{len(large)} atoms" in warnings[3]


def test_training_crystals_get_no_warning(run, crystals, demo_store):
    held_out = set(pd.read_parquet(run.predictions(keys_of(run, SR2.label)[0]))["id"])
    trained = [crystals[name] for name in demo_store.ids if name not in held_out]
    assert len(trained) == 48
    assert (Ensemble.load(run.out).predict(trained)["warning"] == "").all()


def test_crystals_of_the_training_set_are_marked_however_they_are_written(run, crystals, demo_store, tmp_path, capsys):
    table = pd.read_parquet(run.predictions(keys_of(run, SR2.label)[0])).set_index("id")
    validated, tested = (list(table.index[table["set"] == part]) for part in ("validation", "test"))
    trained = next(name for name in demo_store.ids if name not in table.index)
    order = np.random.default_rng(0).permutation(len(crystals[trained]))
    shuffled = Structure.from_sites([crystals[trained][site] for site in order]).translate_sites(order, [0.1, 0.2, 0.3])
    (tmp_path / "mine.cif").write_text(str(CifWriter(shuffled, significant_figures=6)))
    stretched = crystals[trained].copy().apply_strain(0.01)
    ensemble = Ensemble.load(run.out)
    asked = [tmp_path / "mine.cif", crystals[trained], stretched, crystals[validated[0]]]
    seen = ensemble.predict([*asked, *[crystals[name] for name in tested], tmp_path / "missing.cif"])["seen"]
    expected = [f"training set: {trained}"] * 2 + ["", f"validation set: {validated[0]}"]
    assert seen.tolist() == [*expected, *[""] * (len(tested) + 1)]
    assert main(["predict", str(run.out), str(tmp_path / "mine.cif")]) == 0
    assert (
        f"seen in training, so not a test of the model: 1 of 1\n  mine: training set: {trained}"
        in capsys.readouterr().out
    )


def test_a_model_alone_does_not_mark_training_crystals_and_says_so(run, files, capsys):
    model = run.model(keys_of(run, SR2.label)[0])
    assert "seen" not in Ensemble.load(model).predict(files / "cifs")
    assert main(["predict", str(model), str(files / "table.csv.gz")]) == 0
    assert "training crystals are not marked" in capsys.readouterr().out


def test_a_model_file_without_a_domain_still_predicts(run, crystals, tmp_path):
    card, network = load_model(run.model(keys_of(run, SR2.label)[0]))
    save_model(tmp_path / "old.safetensors", replace(card, domain=None), network.state_dict(), network.element_features)
    table = Ensemble.load(tmp_path / "old.safetensors").predict([next(iter(crystals.values()))])
    assert np.isfinite(table["prediction"]).all()
    assert list(table["warning"]) == [""]


@pytest.fixture
def files(crystals, tmp_path) -> Path:
    """A folder with two crystals and a broken file, and a table without any target."""
    folder = tmp_path / "cifs"
    folder.mkdir()
    texts = {name: str(CifWriter(structure)) for name, structure in list(crystals.items())[:2]}
    for name, text in texts.items():
        (folder / f"{name}.cif").write_text(text)
    (folder / "broken.cif").write_text("data_broken\nnothing")
    pd.DataFrame({"id": list(texts), "cif": list(texts.values())}).to_csv(tmp_path / "table.csv.gz", index=False)
    return tmp_path


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json"])
def test_bad_files_are_listed_and_do_not_stop_the_rest(suffix, run, files, capsys):
    out = files / f"predictions{suffix}"
    status = main(
        ["predict", str(run.out), str(files / "cifs"), str(files / "table.csv.gz"), "missing.cif", "--out", str(out)]
    )
    assert status == 1
    printed = capsys.readouterr().out
    assert "electrostatic_energy [eV/atom] by SR-CGCNN T=2" in printed
    assert "not predicted: 2 of 6" in printed
    assert "broken: cannot parse the cif" in printed
    readers = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".json": pd.read_json}
    table = readers[suffix](out)
    assert len(table) == 6
    assert table["prediction"].notna().sum() == 4
    good = table[table["prediction"].notna()].groupby("id")["prediction"]
    assert (good.count() == 2).all()  # from the CIF file and from the table
    assert good.std().max() < 1e-6


def test_nothing_predicted_or_nowhere_to_write_is_an_error(run, files, capsys):
    assert main(["predict", str(run.out), str(files / "cifs" / "broken.cif")]) == 2
    assert "no crystal could be predicted: cannot parse" in capsys.readouterr().err
    assert main(["predict", str(run.out), str(files / "cifs"), "--out", "table.xlsx"]) == 2
    assert ".parquet" in capsys.readouterr().err
    assert main(["predict", str(files / "table.csv.gz"), str(files / "cifs")]) == 2
    assert "not a safetensors file" in capsys.readouterr().err


def ask(url, payload):
    request = urllib.request.Request(url, json.dumps(payload).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read(), parse_constant=pytest.fail)  # NaN is no JSON, though Python reads it


@pytest.mark.full
def test_the_registered_model_is_served_and_answers_a_cif(run, crystals, tmp_path, capfd):
    assert main(["register", str(run.out), "--name", "energy"]) == 2  # nothing is in MLflow yet
    assert "srcgcnn track" in capfd.readouterr().err
    assert main(["track", str(run.out)]) == 0
    assert main(["register", str(run.out), "--name", "energy"]) == 0
    from mlflow import MlflowClient

    version = MlflowClient(run.default_tracking_uri).get_model_version("energy", "1")
    assert (version.tags["model"], version.tags["unit"]) == (SR2.label, "eV/atom")
    assert version.tags["conv_params"] == "22528"
    best = Ensemble.load(run.out, version.tags["srcgcnn.trial_key"])
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/energy/1", "--env-manager", "local"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": run.default_tracking_uri}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment |= {"PYTHONPATH": str(Path(ui.__file__).parents[2])}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", server)
        structure = next(iter(crystals.values()))
        strange = structure.copy()
        strange.replace(0, "Pu")
        records = [{"cif": str(CifWriter(one, significant_figures=12))} for one in (structure, strange)]
        answer = ask(f"http://127.0.0.1:{port}/invocations", {"dataframe_records": records})["predictions"]
        assert answer[0]["prediction"] == pytest.approx(best.predict([structure])["prediction"][0], abs=1e-4)
        assert (answer[0]["unit"], answer[0]["warning"], answer[0]["error"]) == ("eV/atom", "", "")
        assert "Pu" in answer[1]["warning"]
        url = f"http://127.0.0.1:{port}/invocations"
        mixed = ask(url, {"dataframe_records": [{"cif": "nonsense"}, records[0], {"cif": ""}]})["predictions"]
        assert mixed[1]["prediction"] == pytest.approx(answer[0]["prediction"], abs=1e-4)  # another batch
        assert [mixed[row]["prediction"] for row in (0, 2)] == [None, None]
        assert [row["error"].split(":")[0] for row in mixed] == ["cannot parse the cif", "", "no CIF"]
        (bad,) = ask(url, {"dataframe_records": [{"cif": "nonsense"}]})["predictions"]
        assert (bad["prediction"], bad["warning"], bad["unit"]) == (None, "", "eV/atom")
        assert "\n" not in bad["error"]
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)
