"""Every network by its name, from the same commands: sweep, results, report, predict, register, profile, MLflow."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pymatgen.io.cif import CifWriter

from srcgcnn.cli.main import main
from srcgcnn.data.alloys import alloys_source
from srcgcnn.models.config import ModelConfig
from srcgcnn.models.counts import count_parameters
from srcgcnn.models.published import NAMES, settings_of
from srcgcnn.run.folder import open_run
from srcgcnn.run.paths import RunPaths

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
SITE = "dashboard = false\n"
NETWORKS = {config.label: config for name in NAMES for config in [ModelConfig(**settings_of(name), depth=2)]}


def command(folder, *words):
    """Run a command in a folder, as a user does, and return what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "srcgcnn", *map(str, words)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """One sweep over all names, two steps and one epoch each."""
    folder = tmp_path_factory.mktemp("networks")
    (folder / "site.toml").write_text(SITE)
    flags = ("--cluster", "site.toml", "--out", "all", "--models", *NAMES, "--depths", 2, "--seeds", 1)
    said = command(folder, "sweep", *flags, "--epochs", 1, "--batch-size", 64)
    assert all(f"done  {label} seed 0" in said for label in NETWORKS)
    again = command(folder, "sweep", *flags, "--epochs", 1, "--batch-size", 64)
    assert f"{len(NETWORKS)} finished before, 0 to train" in again
    return RunPaths(folder / "all")


def test_results_hold_every_network_with_its_own_counts_and_probes(paths, capsys):
    run = open_run(paths)
    found = {result.config.model.label: result for result in run.results}
    assert found.keys() == NETWORKS.keys()
    for label, config in NETWORKS.items():
        assert found[label].total_parameters == count_parameters(config).total
        assert len(found[label].probes.change) == 2
    assert main(["results", str(paths.out), "--format", "json"]) == 0
    rows = {row["variant"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows.keys() == NETWORKS.keys()
    for label, result in found.items():
        assert rows[label]["test"] == pytest.approx(result.test_error)


def test_the_report_names_them_all_and_draws_their_probes(paths):
    assert main(["report", str(paths.out)]) == 0
    page = (paths.report / "index.html").read_text()
    assert 'id="probes"' in page
    assert all(label in page for label in NETWORKS)
    probes = pd.read_csv(paths.report / "data" / "probes.csv")
    assert set(probes["variant"]) == NETWORKS.keys()


def test_each_predicts_crystals_from_files_as_its_trial_did(paths, tmp_path):
    rows = list(alloys_source(12).rows())
    for row in rows:
        CifWriter(row.content, significant_figures=12).write_file(tmp_path / f"{row.row_id}.cif")
    for result in open_run(paths).results:
        out = tmp_path / "found.csv"
        arguments = ["predict", str(paths.model(result.key)), str(tmp_path), "--out", str(out)]
        assert main(arguments) == 0, result.config.label
        found = pd.read_csv(out).set_index("id")["prediction"]
        kept = pd.read_parquet(paths.predictions(result.key)).set_index("id")["prediction"]
        common = found.index.intersection(kept.index)
        assert len(common)
        np.testing.assert_allclose(found[common], kept[common], atol=1e-4, rtol=1e-4, err_msg=result.config.label)


def test_mlflow_has_a_run_and_a_model_that_serves_for_each(paths):
    import mlflow

    uri = paths.default_tracking_uri
    client = mlflow.MlflowClient(uri)
    (experiment,) = [one for one in client.search_experiments() if one.name.startswith("srcgcnn/")]
    runs = client.search_runs([experiment.experiment_id])
    keys = {run.data.tags["srcgcnn.trial_key"]: run for run in runs if "mlflow.parentRunId" in run.data.tags}
    assert keys.keys() == {result.key for result in open_run(paths).results}
    assert {run.info.status for run in keys.values()} == {"FINISHED"}
    mlflow.set_tracking_uri(uri)
    row = next(alloys_source().rows())
    cif = pd.DataFrame({"cif": [str(CifWriter(row.content, significant_figures=12))]})
    for result in open_run(paths).results:
        if result.config.model.label not in ("ALIGNN-2", "DeeperMEGNet-2", "DeeperGATGNN-2"):
            continue  # each takes a second, and these have all there is: angles, three states, attention
        model = mlflow.pyfunc.load_model(f"runs:/{keys[result.key].info.run_id}/model")
        assert np.isfinite(model.predict(cif)["prediction"]).all()


def test_one_with_angles_is_registered_profiled_and_compared(paths, capsys):
    assert main(["register", str(paths.out), "--name", "angles", "--variant", "ALIGNN-2"]) == 0
    assert "angles version 1 is ALIGNN-2 seed 0" in capsys.readouterr().out
    assert main(["compare", str(paths.out), "ALIGNN-2", "EGGC-2"]) == 0
    assert "ALIGNN-2 minus EGGC-2" in capsys.readouterr().out
    (manifest,) = (paths.out.parent / "stores").glob("*/manifest.json")
    assert main(["profile", str(manifest.parent), "--model", "deeperschnet", "--depth", "2", "--epochs", "2"]) == 0
    assert "training steps of" in capsys.readouterr().out
