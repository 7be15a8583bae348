"""A sweep as its driver and its workers leave it, without training, and what an MLflow store tells of it."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from made_results import result_of

from srcgcnn.data.elements import element_table
from srcgcnn.data.graph import GraphSettings
from srcgcnn.models.config import ModelConfig
from srcgcnn.models.network import CrystalGraphNetwork
from srcgcnn.run.results import write_result
from srcgcnn.run.training_config import TrainingConfig
from srcgcnn.run.trial import DataRef, Seeds, TrialConfig
from srcgcnn.run.trial_result import Cost, Curves, Metrics, Provenance
from srcgcnn.training.model_file import ModelCard, save_model

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
    return result_of(
        config,
        metrics=Metrics(best_epoch=3, train_loss=0.1, val_mae=val_mae, val_rmse=0.4, test_mae=0.27, test_rmse=0.5),
        curves=Curves((1.0, 0.8, 0.6, 0.4, 0.2), errors, (1e-3,) * EPOCHS),
        conv_parameters=22912,
        total_parameters=37000,
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
    assert "Best SR-CGCNN: SR-CGCNN T=3" in parent.data.tags["mlflow.note.content"]
    assert {"tradeoff.md", "tradeoff.csv"} == {name for name, _ in files(client, parent.info.run_id)}
