"""The Python API: what it imports, and the notebook that documents it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import srcgcnn
from srcgcnn.driver.worker import run_group
from srcgcnn.models.config import ModelConfig
from srcgcnn.run.paths import RunPaths
from srcgcnn.sweep.plan import TrialGroup

ROOT = Path(__file__).resolve().parent.parent
ONE_LAYER, SR2 = ModelConfig("cgcnn", 1), ModelConfig("srcgcnn", 2)


@pytest.fixture(scope="module")
def run(demo_store, trial_of, tmp_path_factory):
    paths = RunPaths(tmp_path_factory.mktemp("api") / "out")
    for model in (ONE_LAYER, SR2):
        group = TrialGroup(tuple(trial_of(model, seed) for seed in range(2)))
        run_group(group, demo_store.folder, paths, checkpoint_interval_s=60)
    return srcgcnn.open_run(paths.out)


@pytest.mark.full
def test_the_import_loads_nothing_heavy_and_offers_what_it_lists():
    code = (
        "import sys, srcgcnn\n"
        "heavy = {'torch','ray','mlflow','pandas','numpy','pymatgen'} & set(sys.modules); assert not heavy, heavy\n"
        "assert all(getattr(srcgcnn, name) is not None for name in srcgcnn.__all__) and callable(srcgcnn.sweep)\n"
        "import srcgcnn.sweep.spec\n"
        "assert callable(srcgcnn.sweep) and srcgcnn.sweep.spec.read_spec\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'Ensembel'"):
        _ = srcgcnn.Ensembel


def test_an_open_run_is_tables_that_agree_with_each_other(run):
    trials, curves, tradeoff = run.trials(), run.curves(), run.tradeoff()
    assert sorted(trials["key"]) == sorted(result.key for result in run.results())
    assert list(trials.groupby("variant")["seed"].nunique()) == [2, 2]
    assert (trials["val_error"] == trials["val_mae"]).all()
    assert (trials["unit"] == "eV/atom").all()
    best = curves.groupby("key")["val_error"].min()
    assert trials.set_index("key")["val_error"].to_dict() == pytest.approx(best.to_dict())
    assert curves["epoch"].min() == 1
    means = trials.groupby("conv_params")["test_error"].mean()
    found = dict(zip(tradeoff["conv_parameters"], tradeoff["test"], strict=True))
    assert found == pytest.approx(means.to_dict(), rel=1e-4)


def test_predictions_are_those_that_the_errors_were_computed_from(run):
    trials = run.trials().set_index("key")
    table = run.predictions(SR2.label)
    test = table[table["set"] == "test"]
    errors = (test["prediction"] - test["target"]).abs().groupby(test["key"]).mean()
    assert errors.to_dict() == pytest.approx(trials.loc[errors.index, "test_mae"].to_dict(), rel=1e-4)
    assert len(run.ensemble(SR2.label).members) == 2


def test_a_folder_without_a_sweep_and_an_unknown_setting_are_errors(run, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "sweep.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"is a folder of sweeps, not a sweep; in it: .*other"):
        srcgcnn.open_run(tmp_path)
    with pytest.raises(ValueError, match=r"unknown key 'training.learning'; known keys: .*learning_rate"):
        srcgcnn.sweep("depth", settings={"training": {"learning": 1e-3}}, out=tmp_path / "out")
    with pytest.raises(ValueError, match="model 'gcn' is unknown"):
        srcgcnn.sweep("depth", models=["gcn"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.full
def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    import nbformat
    from nbclient import NotebookClient

    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "local.toml").write_text('kind = "local"\ndashboard = false\ncpus = 2\n')
    notebook = nbformat.read(ROOT / "docs" / "python.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit the notebook without outputs"
    NotebookClient(notebook, timeout=280, resources={"metadata": {"path": str(tmp_path)}}).execute()
    texts = [
        output.get("data", {}).get("text/plain", "") for cell in notebook.cells for output in cell.get("outputs", [])
    ]
    assert any("SR-CGCNN T=2 step-norm" in text for text in texts)
    assert (tmp_path / "runs" / "notebook" / "report" / "index.html").exists()
    page = (ROOT / "docs" / "python.md").read_text()
    described = set(re.findall(r"^\| `(\w+)", page, re.MULTILINE))
    assert described == {name for name in vars(srcgcnn.OpenRun) if not name.startswith("_")} | {"paths"}
