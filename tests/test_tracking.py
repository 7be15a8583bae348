"""MLflow: live and rebuilt, SQLite and HTTP. Everything runs against the real MLflow."""

import base64
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from srcgcnn.data.elements import element_table
from srcgcnn.data.graph import GraphSettings
from srcgcnn.models.cgcnn import CrystalGraphNetwork
from srcgcnn.models.config import ModelConfig
from srcgcnn.records import RecordError
from srcgcnn.sweep.paths import RunPaths
from srcgcnn.sweep.results import write_result
from srcgcnn.tracking import fields, ui
from srcgcnn.training.model_file import ModelCard, save_model
from srcgcnn.training.trial import (
    Cost,
    Curves,
    DataRef,
    Metrics,
    Provenance,
    Seeds,
    SplitConfig,
    TrainingConfig,
    TrialConfig,
    TrialResult,
)
from tests.postgres_server import BINARIES, NO_POSTGRES, postgres

EPOCHS = 5
SWEEP = "depth"


def a_config(seed=1, depth=3, task="regression", **training):
    return TrialConfig(
        model=ModelConfig("srcgcnn", depth, alpha=0.5, task=task),
        training=TrainingConfig(epochs=EPOCHS, **training),
        seeds=Seeds(seed, seed, 7),
        data=DataRef("d" * 64, "toy", "e_form", "eV/atom"),
    )


def a_result(config, finished_at="2026-05-01T12:00:00+00:00", val_mae=0.25):
    errors = tuple(val_mae + 0.1 * abs(epoch - 3) for epoch in range(EPOCHS))
    return TrialResult(
        key=config.key,
        config=config,
        metrics=Metrics(best_epoch=3, train_loss=0.1, val_mae=val_mae, val_rmse=0.4, test_mae=0.27, test_rmse=0.5),
        curves=Curves((1.0, 0.8, 0.6, 0.4, 0.2), errors, (1e-3,) * EPOCHS),
        conv_parameters=22912,
        total_parameters=37000,
        target_mean=0.0,
        target_std=1.0,
        rows=(60, 20, 20),
        alphas=(0.5,) * config.model.depth,
        cost=Cost(seconds=30.0, peak_memory_mb=100.0, structures_per_second=10.0, group_size=1, resumes=0),
        provenance=Provenance(finished_at, "abc123", {"torch": "2.6"}, "cpu", "node1", 1),
    )


def finish(paths, config, **changes):
    """Leave what a worker leaves: predictions, weights, and at last the result."""
    paths.predictions(config.key).parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"id": ["a"], "prediction": [1.0]}).to_parquet(paths.predictions(config.key))
    save_untrained(paths.model(config.key), config)
    result = a_result(config, **changes)
    write_result(paths, result)
    return result


def save_untrained(path, config):
    features = torch.from_numpy(np.array(element_table()))
    network = CrystalGraphNetwork(config.model, features)
    network.reset_parameters([config.seeds.init])
    data = config.data
    card = ModelCard(config.key, config.model, data.target, data.unit, 0.0, 1.0, data.data_hash, GraphSettings())
    save_model(path, card, network.state_dict(), features)


def rows(*epochs):
    return [SimpleNamespace(epoch=e, train_loss=1.0 - 0.2 * e, val_error=0.3, learning_rate=1e-3) for e in epochs]


def writer(paths, uri=None, **kwargs):
    from srcgcnn.tracking.writer import MlflowWriter

    return MlflowWriter(paths, SWEEP, uri, **kwargs)


def client_of(paths, uri=None):
    from mlflow.tracking import MlflowClient

    return MlflowClient(uri or paths.default_tracking_uri)


def all_runs(client):
    experiment = client.get_experiment_by_name(f"srcgcnn/{SWEEP}")
    return client.search_runs([experiment.experiment_id])


def family(client):
    """Return the one parent and its children by trial key."""
    runs = all_runs(client)
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    assert len(children) == len(runs) - 1
    by_key = {run.data.tags["srcgcnn.trial_key"]: run for run in children}
    assert len(by_key) == len(children)
    return parents[0], by_key


def steps(client, run, name="epoch/val_mae"):
    return sorted(point.step for point in client.get_metric_history(run.info.run_id, name))


def everything(client):
    """Return all that a store tells about its runs, artifacts and whole metric histories included."""
    seen = {}
    for run in all_runs(client):
        run_id = run.info.run_id
        histories = {
            name: [(p.step, p.value, p.timestamp) for p in client.get_metric_history(run_id, name)]
            for name in run.data.metrics
        }
        info = (run.info.status, run.info.start_time, run.info.end_time, run.info.run_name)
        models = [output.model_id for output in run.outputs.model_outputs] if run.outputs else []
        inputs = [(i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs]
        seen[run_id] = (info, run.data.params, run.data.tags, histories, models, inputs, files(client, run_id))
    return seen


def files(client, run_id, folder=None):
    found = []
    for item in client.list_artifacts(run_id, folder):
        found += files(client, run_id, item.path) if item.is_dir else [(item.path, item.file_size)]
    return sorted(found)


def live_sweep(paths, uri=None):
    """Run the sequence of one trial as the driver does."""
    config = a_config()
    sweep = writer(paths, uri)
    sweep.trial_started(config)
    sweep.trial_progress(config.key, rows(0, 1))
    sweep.trial_progress(config.key, rows(1, 2))
    running = family(client_of(paths, uri))[1][config.key]
    assert running.info.status == "RUNNING"
    assert running.data.metrics["conv_params"] > 0
    sweep.trial_finished(finish(paths, config))
    sweep.sweep_finished("| model | MAE |\n|---|---|\n", "model,MAE\n")
    return config


def check_live_sweep(paths, uri=None):
    client = client_of(paths, uri)
    config = live_sweep(paths, uri)
    parent, children = family(client)
    child = children[config.key]
    assert (parent.info.status, child.info.status) == ("FINISHED", "FINISHED")
    assert steps(client, child) == list(range(EPOCHS))
    assert child.data.metrics["val_mae"] == 0.25
    assert child.data.metrics["depth"] == 3
    assert child.data.params["depth"] == "3"
    assert child.data.params["alpha"] == "0.5"
    assert child.data.params["seed_init"] == "1"
    assert child.data.tags["srcgcnn.git_commit"] == "abc123"
    assert child.inputs.dataset_inputs[0].dataset.digest == "d" * 36
    names = [name for name, _ in files(client, child.info.run_id)]
    assert names == [f"predictions/{config.key}.parquet", "result.json"]
    assert parent.data.metrics == {
        "trials_finished": 1,
        "trials_failed": 0,
        "best_val_mae": 0.25,
        "best_val_of_sr-cgcnn": 0.25,
        "test_of_best_sr-cgcnn": 0.27,
    }
    assert "| model | MAE |" in parent.data.tags["mlflow.note.content"]
    assert "Best SR-CGCNN with T = 3" in parent.data.tags["mlflow.note.content"]
    assert {"tradeoff.md", "tradeoff.csv"} == {name for name, _ in files(client, parent.info.run_id)}


@pytest.fixture
def paths(tmp_path, fresh_store):
    run_paths = RunPaths(tmp_path / "out")
    run_paths.out.mkdir()
    shutil.copy(fresh_store, run_paths.mlflow_db)  # creating the tables takes seconds; once is enough
    return run_paths


@pytest.fixture(scope="module")
def fresh_store(tmp_path_factory):
    store = tmp_path_factory.mktemp("store") / "mlflow.db"
    from mlflow.tracking import MlflowClient

    MlflowClient(f"sqlite:///{store}").search_experiments()
    return store


def test_live_sweep_gives_one_parent_and_one_child_with_curves(paths):
    check_live_sweep(paths)


def test_store_is_created_where_there_is_none(tmp_path):
    paths = RunPaths(tmp_path / "new" / "out")
    writer(paths).trial_started(a_config())
    assert paths.mlflow_db.exists()
    assert len(family(client_of(paths))[1]) == 1


def test_rebuild_twice_changes_nothing(paths):
    from srcgcnn.tracking.writer import rebuild

    for seed in (1, 2):
        finish(paths, a_config(seed))
    assert rebuild(paths, SWEEP, None, "| t |", "t") == 2
    before = everything(client_of(paths))
    rebuild(paths, SWEEP, None, "| t |", "t")
    assert everything(client_of(paths)) == before
    child = family(client_of(paths))[1][a_config(1).key]
    assert child.info.end_time - child.info.start_time == 30_000
    assert steps(client_of(paths), child) == list(range(EPOCHS))


def test_rebuild_adds_nothing_to_a_finished_live_sweep(paths):
    from srcgcnn.tracking.writer import rebuild

    live_sweep(paths)
    before = everything(client_of(paths))
    rebuild(paths, SWEEP, None)
    assert everything(client_of(paths)) == before


def test_second_driver_continues_the_runs_of_the_first(paths):
    config, other = a_config(1), a_config(2)
    first = writer(paths)
    first.trial_started(config)
    first.trial_started(other)
    first.trial_progress(config.key, rows(0, 1, 2))

    second = writer(paths)  # the first was killed
    second.trial_started(config)
    parent, children = family(client_of(paths))
    assert parent.info.status == "RUNNING"
    assert children[config.key].info.status == "RUNNING"
    assert children[other.key].info.status == "KILLED"

    second.trial_progress(config.key, rows(1, 2, 3))
    second.trial_finished(finish(paths, config))
    second.sweep_finished("", "", stopped=True)
    parent, children = family(client_of(paths))
    assert steps(client_of(paths), children[config.key]) == list(range(EPOCHS))
    assert parent.info.status == "KILLED"
    assert not [run for run in all_runs(client_of(paths)) if run.info.status == "RUNNING"]


def test_results_that_no_driver_saw_are_logged_at_the_end(paths):
    finish(paths, a_config(1))
    sweep = writer(paths)
    sweep.sweep_finished("", "")
    assert family(client_of(paths))[1][a_config(1).key].info.status == "FINISHED"


def test_a_trial_that_was_trained_anew_gets_a_new_run(paths):
    live_sweep(paths)
    old = family(client_of(paths))[1][a_config().key]
    writer(paths).trial_finished(finish(paths, a_config(), val_mae=0.125))
    new = family(client_of(paths))[1][a_config().key]
    assert new.info.run_id != old.info.run_id
    assert new.data.metrics["val_mae"] == 0.125


def test_failed_trial_says_why_and_may_succeed_later(paths):
    config = a_config()
    sweep = writer(paths)
    sweep.trial_started(config)
    sweep.trial_failed(config.key, "out of memory")
    child = family(client_of(paths))[1][config.key]
    assert (child.info.status, child.data.tags["srcgcnn.failure"]) == ("FAILED", "out of memory")
    sweep.trial_started(config)
    sweep.trial_finished(finish(paths, config))
    child = family(client_of(paths))[1][config.key]
    assert child.info.status == "FINISHED"
    assert "srcgcnn.failure" not in child.data.tags


def test_failure_files_are_rebuilt(paths):
    import json

    from srcgcnn.tracking.writer import rebuild

    finish(paths, a_config(1))
    failed = a_config(2)
    paths.failures.mkdir()
    text = json.dumps({"config": dataclasses.asdict(failed), "reason": "NaN loss"})
    paths.failure(failed.key).write_text(text)
    rebuild(paths, SWEEP, None)
    parent, children = family(client_of(paths))
    assert children[failed.key].data.tags["srcgcnn.failure"] == "NaN loss"
    assert parent.data.metrics["trials_failed"] == 1


def test_unreachable_server_warns_once_and_raises_only_in_a_rebuild(paths, monkeypatch):
    from srcgcnn.tracking.writer import rebuild

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = f"http://127.0.0.1:{ui.free_port('127.0.0.1')}"
    sweep = writer(paths, uri)
    with pytest.warns(RuntimeWarning, match=f"srcgcnn track .* --tracking-uri {uri}"):
        sweep.trial_started(a_config(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        sweep.trial_started(a_config(2))
    with pytest.warns(RuntimeWarning, match="missed trial_finished"):
        sweep.trial_finished(finish(paths, a_config(1)))
    with pytest.raises(Exception, match="Max retries"):
        rebuild(paths, SWEEP, uri)


def test_rebuild_without_results_says_so(paths):
    from srcgcnn.tracking.writer import rebuild

    with pytest.raises(RecordError, match="no results yet"):
        rebuild(paths, SWEEP, None)


def test_moved_folder_keeps_its_artifacts(paths, tmp_path):
    live_sweep(paths)
    moved = RunPaths(tmp_path / "elsewhere" / "out 2")
    moved.out.parent.mkdir()
    paths.out.rename(moved.out)
    writer(moved).trial_started(a_config(2))
    client = client_of(moved)
    child = family(client)[1][a_config().key]
    assert child.info.artifact_uri.startswith(moved.mlflow_artifacts.as_uri())
    assert "result.json" in [name for name, _ in files(client, child.info.run_id)]


def test_model_loads_and_predicts(paths, monkeypatch):
    import mlflow

    live_sweep(paths)
    child = family(client_of(paths))[1][a_config().key]
    monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", paths.default_tracking_uri)
    model = mlflow.pyfunc.load_model(f"runs:/{child.info.run_id}/model")
    predicted = model.predict(model.input_example)
    assert list(predicted.columns) == ["prediction", "unit", "warning"]
    assert np.isfinite(predicted["prediction"]).tolist() == [True]
    assert predicted["unit"].tolist() == ["eV/atom"]
    with pytest.raises(Exception, match=r"row 0.*cannot parse the cif"):
        model.predict(pd.DataFrame({"cif": ["nonsense"]}))


def test_long_values_are_shortened():
    ids = tuple(f"mp-{number}" for number in range(3000))
    config = a_config(split=SplitConfig("lists", lists=(ids, ("a",), ("b",))))
    values = {param.key: param.value for param in fields.params(config)}
    assert all(len(value) <= fields.PARAM_CHARACTERS for value in values.values())
    assert len(values["split.lists"]) == 16
    assert len(fields.shorten("x" * 1000)) == fields.PARAM_CHARACTERS
    table = "\n".join(["| row |"] * 3000)
    assert len(fields.note("words", table)) < 8000
    assert "tradeoff.md" in fields.note("words", table)


def test_classification_curves_have_their_own_name():
    names = {metric.key for metric in fields.epoch_metrics(rows(0), "classification", 0)}
    assert names == {"epoch/train_loss", "epoch/val_error_rate", "epoch/learning_rate"}


def test_tunnel_line_names_the_port_the_user_connected_to(monkeypatch):
    monkeypatch.setattr(ui.getpass, "getuser", lambda: "ada")
    environment = {"SSH_CONNECTION": "10.0.0.1 51000 10.0.0.2 22"}
    assert ui.tunnel_command(environment, "127.0.0.1", 5001) == "ssh -N -L 5001:127.0.0.1:5001 ada@10.0.0.2"
    environment = {"SSH_CONNECTION": "10.0.0.1 51000 10.0.0.2 2222"}
    assert ui.tunnel_command(environment, "127.0.0.1", 5001).endswith("-p 2222 ada@10.0.0.2")
    assert ui.tunnel_command({}, "127.0.0.1", 5001) is None


def test_ui_without_a_store_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="srcgcnn track"):
        ui.open_ui(RunPaths(tmp_path))


@pytest.mark.parametrize("port", [0, -1, 80000])
def test_ui_refuses_a_port_that_is_none(paths, port):
    with pytest.raises(ValueError, match=f"{port}: ports are 1 to 65535"):
        ui.open_ui(paths, port=port)


def test_a_store_that_was_deleted_leaves_no_files_behind_after_a_rebuild(paths):
    live_sweep(paths)
    before = sorted(path.name for path in paths.mlflow_artifacts.rglob("result.json"))
    runs = {path.name for path in paths.mlflow_artifacts.iterdir()}
    paths.mlflow_db.unlink()
    command = [sys.executable, "-m", "srcgcnn", "track", str(paths.out)]  # this process has the old store open
    subprocess.run(command, check=True, cwd=Path(ui.__file__).parents[2])
    assert sorted(path.name for path in paths.mlflow_artifacts.rglob("result.json")) == before
    assert not runs & {path.name for path in paths.mlflow_artifacts.iterdir()} - {"models"}


def test_a_report_and_early_stops_are_on_the_pages(paths):
    from srcgcnn.sweep.stopped import Stopped

    config = live_sweep(paths)
    stopped = a_config(2)
    (paths.out / "report").mkdir()
    (paths.out / "report" / "index.html").write_text("<p>report</p>")
    sweep = writer(paths)
    sweep.trial_started(stopped)
    sweep.trial_stopped(Stopped(stopped, 2, 0.3, (0.4, 0.3), "asha"))
    sweep.sweep_finished("", "")
    client = client_of(paths)
    parent, children = family(client)
    assert "report/index.html" in [name for name, _ in files(client, parent.info.run_id)]
    assert children[stopped.key].info.status == "KILLED"
    assert children[stopped.key].data.tags["srcgcnn.stopped_early"] == "by asha after 2 epochs"
    assert children[config.key].info.status == "FINISHED"


def test_a_server_with_login_refuses_who_has_none(tmp_path):
    """`mlflow/server.sh` with login on a real server: nobody without a password, nobody with a wrong one."""
    with group_server(tmp_path, "sqlite:///mlflow.db") as (uri, process):
        assert "correct-horse" not in " ".join(psutil.Process(process.pid).cmdline())
        listed = f"{uri}/api/2.0/mlflow/experiments/search?max_results=5"
        assert status_of(listed) == 401
        assert status_of(f"{uri}/") == 401
        assert status_of(listed, "admin:password1234") == 401
        assert status_of(listed, f"admin:{ADMIN_PASSWORD}") == 200
        assert status_of(listed, f"admin:{ADMIN_PASSWORD}", host="evil.example.org") == 403


@pytest.mark.skipif(BINARIES is None, reason=NO_POSTGRES)
def test_a_group_server_on_postgresql_takes_a_sweep(tmp_path, paths, monkeypatch):
    """The database as `mlflow/group.env` names it: its driver, its password from ~/.pgpass."""
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed: pip install '.[server]'")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", ADMIN_PASSWORD)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pgpass"))
    port = ui.free_port("127.0.0.1")
    group = (Path(ui.__file__).parents[2] / "mlflow" / "group.env").read_text()
    (database,) = re.findall(r"^MLFLOW_BACKEND_STORE_URI=(\S+)", group, re.MULTILINE)
    with postgres(port) as line:
        (tmp_path / "pgpass").write_text(line + "\n")
        (tmp_path / "pgpass").chmod(0o600)
        with group_server(tmp_path, database.replace("database.example.org:5432", f"127.0.0.1:{port}")) as (uri, _):
            check_live_sweep(paths, uri)


ADMIN_PASSWORD = "correct-horse-battery"


@contextmanager
def group_server(folder, database):
    """Start `mlflow/server.sh` as the admin of a group does; yields its address and its process."""
    pytest.importorskip("flask_wtf", reason="Flask-WTF is not installed: pip install '.[server]'")
    port = ui.free_port("127.0.0.1")
    settings = folder / "group.env"
    settings.write_text(
        f"SERVER_FOLDER={folder / 'server'}\nSERVER_LOGIN=yes\nMLFLOW_BACKEND_STORE_URI={database}\n"
        f"MLFLOW_ARTIFACTS_DESTINATION=./artifacts\nMLFLOW_HOST=127.0.0.1\nMLFLOW_PORT={port}\n"
        f"MLFLOW_AUTH_ADMIN_PASSWORD={ADMIN_PASSWORD}\n"
    )
    settings.chmod(0o644)
    script = str(Path(ui.__file__).parents[2] / "mlflow" / "server.sh")
    environment = {**os.environ, "PYTHON": sys.executable}
    refused = subprocess.run([script, settings], env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "chmod 600" in refused.stderr
    settings.chmod(0o600)
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen([script, settings], env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}", process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def status_of(url, login="", host=""):
    headers = {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()} if login else {}
    headers |= {"Host": host} if host else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


OPEN_UI = """
import pathlib, sys
from srcgcnn.sweep.paths import RunPaths
from srcgcnn.tracking.ui import open_ui
sys.exit(open_ui(RunPaths(pathlib.Path(sys.argv[1])), port=int(sys.argv[2])))
"""


@pytest.fixture
def server(tmp_path, paths):
    """Open the page of an empty sweep as a user does, in a process group of its own; end it with Ctrl-C."""
    served = RunPaths(tmp_path / "server")
    served.out.mkdir()
    shutil.copy(paths.mlflow_db, served.mlflow_db)
    port = ui.free_port("127.0.0.1")
    command = [sys.executable, "-c", OPEN_UI, str(served.out), str(port)]
    environment = {**os.environ, "PYTHONPATH": str(Path(ui.__file__).parents[2])}
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=environment)
    uri = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{uri}/health", process)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGINT)
        status = process.wait(30)
    assert status == 0
    assert uri in (tmp_path / "server.log").read_text()


def wait_for(url, process, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                assert answer.status == 200
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"{url} did not answer in {seconds} s")


def test_live_sweep_and_rebuild_over_http(paths, server):
    from srcgcnn.tracking.writer import rebuild

    check_live_sweep(paths, server)
    before = everything(client_of(paths, server))
    rebuild(paths, SWEEP, server)
    assert everything(client_of(paths, server)) == before
