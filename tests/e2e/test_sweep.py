"""The whole command, as a user starts it, on real Ray and real MLflow: run, run again, extend, kill, resume."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from srcgcnn.data.alloys import alloys_source
from srcgcnn.data.demo import demo_source
from srcgcnn.driver.worker import run_group
from srcgcnn.run.folder import open_run
from srcgcnn.run.paths import RunPaths
from srcgcnn.sweep.plan import plan_sweep
from srcgcnn.sweep.record import read_record

pytestmark = pytest.mark.full

ROOT = Path(__file__).resolve().parents[2]
KEY = "a-key-that-is-written-to-no-file"
SITE = "cpus = 1\ndashboard = false\ncheckpoint_interval_s = 0.2\n"
MID_TRAINING_EPOCHS = 120  # about 6 s of training: what is done to a running trial meets it running
ENDLESS_EPOCHS = 20000  # for trials that a test stops and does not finish


class Sweep:
    """One working folder with a store of its own, and the command line in it."""

    def __init__(self, folder):
        self.folder = folder
        self.paths = RunPaths(folder / "runs" / "depth")
        (folder / "site.toml").write_text(SITE)

    def command(self, *flags):
        script = str(ROOT / "sweeps" / "depth_sweep.py")
        base = ["--cluster", "site.toml", "--models", "srcgcnn", "--batch-size", "64"]
        return [sys.executable, script, *base, *map(str, flags)]

    def run(self, *flags, expect=0):
        done = subprocess.run(
            self.command(*flags), cwd=self.folder, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == expect, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + (done.stderr if expect == 2 else "")

    def start(self, *flags):
        log = (self.folder / "killed.log").open("w")
        return subprocess.Popen(self.command(*flags), cwd=self.folder, stdout=log, stderr=log, start_new_session=True)

    def numbers(self):
        """What must be equal between two runs of one sweep."""
        return numbers_in(self.paths)

    def calm_numbers(self):
        """The same of these trials when nothing disturbs them: trained in this process, without Ray."""
        record, calm = read_record(self.paths), RunPaths(self.folder / "calm")
        for group in plan_sweep(record.spec, record.data, calm).groups:
            run_group(group, self.folder / record.store, calm, checkpoint_interval_s=1e9)
        return numbers_in(calm)


def numbers_in(paths):
    return {result.key: (result.metrics, result.curves, result.alphas) for result in open_run(paths).results}


@pytest.fixture
def sweep(tmp_path):
    return Sweep(tmp_path)


def runs_of(sweep):
    import mlflow

    client = mlflow.MlflowClient(sweep.paths.default_tracking_uri)
    (experiment,) = [found for found in client.search_experiments() if found.name.startswith("srcgcnn/")]
    return client.search_runs([experiment.experiment_id])


def test_a_sweep_ends_with_results_predictions_models_and_mlflow_runs_and_is_not_repeated(sweep, monkeypatch):
    monkeypatch.setenv("MP_API_KEY", KEY)
    flags = ("--depths", 1, 2, "--seeds", 1, "--epochs", 2)
    output = sweep.run(*flags)
    results = list(open_run(sweep.paths).results)
    assert {result.config.model.label for result in results} == {"CGCNN-1", "SR-CGCNN T=2 step-norm"}
    for result in results:
        predictions = pd.read_parquet(sweep.paths.predictions(result.key))
        assert list(predictions.columns) == ["id", "formula", "target", "prediction", "set"]
        assert predictions["set"].value_counts().to_dict() == {"validation": 96, "test": 96}
        assert result.rows[1:] == (96, 96)
        errors = (predictions["target"] - predictions["prediction"]).abs().groupby(predictions["set"]).mean()
        assert errors["test"] == pytest.approx(result.metrics.test_mae)
        assert errors["validation"] == pytest.approx(result.metrics.val_mae)
        assert sweep.paths.model(result.key).exists()
        assert result.provenance.versions["torch"]
        assert result.config.label in output
    assert oct(sweep.paths.ray_token.stat().st_mode & 0o777) == "0o600"
    assert list(sweep.paths.checkpoints.glob("*.pt")) == []
    children = [run for run in runs_of(sweep) if "mlflow.parentRunId" in run.data.tags]
    assert {run.info.status for run in children} == {"FINISHED"}
    assert {run.data.tags["srcgcnn.trial_key"] for run in children} == {result.key for result in results}
    assert all(0 <= run.data.metrics["system/cpu_utilization_percentage"] <= 100 for run in children)
    assert all(run.data.metrics["system/system_memory_usage_megabytes"] > 0 for run in children)
    check_served_model(sweep, children[0])
    assert not [path for path in sweep.folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    before = {path: path.stat().st_mtime_ns for path in sweep.paths.results.iterdir()}

    again = sweep.run(*flags)
    assert "2 finished before, 0 to train" in again
    assert {path: path.stat().st_mtime_ns for path in sweep.paths.results.iterdir()} == before
    assert len(runs_of(sweep)) == 3

    extended = sweep.run("--depths", 1, 2, "--seeds", 2, "--epochs", 2)
    assert "2 finished before, 2 to train" in extended
    assert len(list(open_run(sweep.paths).results)) == 4
    assert {path: path.stat().st_mtime_ns for path in before} == before


def check_served_model(sweep, run):
    """The MLflow model of a run predicts, from CIF texts, what the trial predicted for its test crystals."""
    import mlflow
    from pymatgen.io.cif import CifWriter

    mlflow.set_tracking_uri(sweep.paths.default_tracking_uri)
    model = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
    predictions = pd.read_parquet(sweep.paths.predictions(run.data.tags["srcgcnn.trial_key"])).set_index("id")
    rows = [row for row in alloys_source().rows() if row.row_id in predictions.index][:10]
    cifs = pd.DataFrame({"cif": [str(CifWriter(row.content, significant_figures=12)) for row in rows]})
    found = model.predict(cifs)["prediction"]
    expected = predictions.loc[[row.row_id for row in rows], "prediction"]
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)


def wait_for(condition, seconds=400.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"nothing after {seconds} s")


def scratch_of(driver):
    """Ray's folder of one driver, as its watcher knows it."""
    commands = [child.cmdline() for child in descendants(driver)]
    (watcher,) = [command for command in commands if "srcgcnn.launch.reaper" in command]
    return Path(watcher[-1])


def descendants(process):
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def trainers_of(driver):
    """Ray's processes that train."""
    titles = {child: " ".join(child.cmdline() or [child.name()]) for child in descendants(driver)}
    trainers = [child for child, title in titles.items() if "ray::" in title and "ImplicitFunc" in title]
    assert trainers, titles.values()
    return trainers


def test_kill_9_of_a_worker_and_of_the_driver_changes_no_number(tmp_path):
    """Kill a worker process, then the driver, in the middle of training; the same command ends as if undisturbed."""
    flags = ("--depths", 2, 3, "--seeds", 1, "--epochs", MID_TRAINING_EPOCHS)
    rough = Sweep(tmp_path)
    (tmp_path / "site.toml").write_text(SITE.replace("cpus = 1", "cpus = 2"))
    driver = rough.start(*flags)
    wait_for(lambda: list(rough.paths.checkpoints.glob("*.pt")))
    trainers_of(driver)[0].kill()
    time.sleep(1.0)
    saved = wait_for(lambda: list(rough.paths.checkpoints.glob("*.pt")))
    family, scratch = descendants(driver), scratch_of(driver)
    assert scratch.stat().st_mode & 0o077 == 0  # nobody else enters
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []  # nothing of a killed driver stays behind
    wait_for(lambda: not scratch.exists(), seconds=30)

    rough.run(*flags)
    assert rough.numbers() == rough.calm_numbers()
    assert len(rough.numbers()) == 2
    assert sum(result.cost.resumes > 0 for result in open_run(rough.paths).results) >= len(saved)
    children = [run for run in runs_of(rough) if "mlflow.parentRunId" in run.data.tags]
    assert sorted(run.info.status for run in children) == ["FINISHED", "FINISHED"]


def test_a_worker_that_dies_too_often_is_reported_and_the_others_finish(sweep):
    (sweep.folder / "site.toml").write_text(SITE + "max_retries = 0\n")
    driver = sweep.start("--depths", 2, 3, "--seeds", 1, "--epochs", MID_TRAINING_EPOCHS)
    wait_for(lambda: list(sweep.paths.checkpoints.glob("*.pt")))
    trainers_of(driver)[0].kill()
    assert driver.wait(timeout=400) == 1
    (failure,) = sweep.paths.failures.glob("*.json")
    record = json.loads(failure.read_text())
    assert record["log"]
    assert "died" in record["reason"]
    assert (sweep.folder / record["log"]).exists()
    assert "1 trial failed" in (sweep.folder / "killed.log").read_text()
    assert len(sweep.numbers()) == 1


def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(sweep):
    flags = ("--depths", 2, "--seeds", 1, "--epochs", MID_TRAINING_EPOCHS)
    driver = sweep.start(*flags)
    wait_for(lambda: list(sweep.paths.checkpoints.glob("*.pt")))
    os.kill(driver.pid, signal.SIGINT)
    assert driver.wait(timeout=300) == 130
    assert "same command resumes" in (sweep.folder / "killed.log").read_text()
    sweep.run(*flags)
    (result,) = open_run(sweep.paths).results
    assert result.cost.resumes == 1


def test_a_trial_that_diverges_is_named_and_the_others_finish(sweep):
    definition = sweep.folder / "wild.toml"
    axes = '[axes]\n"training.learning_rate"=[1e30, 0.001]\n'
    definition.write_text(f"name='depth'\n{axes}[training]\noptimizer='sgd'\nschedule='none'\nepochs=2\n")
    output = sweep.run("--sweep", definition, "--depths", 2, "--seeds", 1, expect=1)
    assert "diverged" in output
    (failure,) = sweep.paths.failures.glob("*.json")
    assert "learning rate" in json.loads(failure.read_text())["reason"]
    (result,) = open_run(sweep.paths).results
    assert result.config.training.learning_rate == 0.001


def test_data_too_small_to_split_is_refused_before_anything_starts(sweep):
    rows = [f"x{k},{k}\n" for k in range(3)]
    folder = sweep.folder / "tiny"
    folder.mkdir()
    (folder / "id_prop.csv").write_text("".join(rows))
    for k, row in enumerate(demo_source(3).rows()):
        row.content.to(filename=str(folder / f"x{k}.cif"), fmt="cif")
    flags = ("--data", folder, "--target", "e", "--depths", 2, "--seeds", 1, "--split-seeds", 2, "--epochs", 1)
    output = sweep.run(*flags, expect=2)
    assert "validation set is empty" in output
    assert "Traceback" not in output
    assert not sweep.paths.failures.exists()
