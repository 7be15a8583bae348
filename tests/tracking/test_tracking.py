"""MLflow: live and rebuilt. Everything runs against the real MLflow, on its SQLite store."""

import dataclasses
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tracked_sweep import (
    EPOCHS,
    SWEEP,
    a_config,
    a_result,
    all_runs,
    check_live_sweep,
    client_of,
    everything,
    family,
    files,
    finish,
    live_sweep,
    rows,
    steps,
    writer,
)
from web import free_port

from srcgcnn.cli.main import main
from srcgcnn.records import RecordError
from srcgcnn.run.failures import write_failure
from srcgcnn.run.folder import open_run
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import write_result
from srcgcnn.run.stopped import Stopped, write_stopped
from srcgcnn.run.training_config import SplitConfig
from srcgcnn.run.trial import Seeds
from srcgcnn.tracking import fields, ui
from srcgcnn.tracking.summary import summarise

pytestmark = pytest.mark.full  # MLflow's import alone takes seconds


def test_live_sweep_gives_one_parent_and_one_child_with_curves(paths):
    check_live_sweep(paths)


def test_the_seed_comes_first_in_the_name_of_a_run(paths):
    writer(paths).trial_started(a_config(3))
    (child,) = family(client_of(paths))[1].values()
    assert child.info.run_name.startswith("seed 3 split 7: SR-CGCNN T=3")


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


def test_failures_and_stops_that_no_store_heard_of_are_marked_at_the_end(paths):
    failed, stopped = a_config(1), a_config(2)
    sweep = writer(paths)
    sweep.trial_started(failed)
    sweep.trial_started(stopped)
    write_failure(paths, failed, "NaN loss")
    write_stopped(paths, Stopped(stopped, 3, 0.1, (0.1,), "asha"))
    assert sweep.sweep_finished("", "")
    children = family(client_of(paths))[1]
    assert children[failed.key].info.status == "FAILED"
    assert children[stopped.key].data.tags["srcgcnn.stopped_early"] == "by asha after 3 epochs"


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


def test_unreachable_server_warns_once_and_raises_only_in_a_rebuild(paths, monkeypatch, capsys):
    from srcgcnn.tracking.writer import rebuild

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = f"http://127.0.0.1:{free_port()}"
    sweep = writer(paths, uri)
    with pytest.warns(RuntimeWarning, match=f"{uri} does not answer.*srcgcnn track .* --tracking-uri {uri}"):
        sweep.trial_started(a_config(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        sweep.trial_started(a_config(2))
        sweep.trial_finished(finish(paths, a_config(1)))
        assert not sweep.sweep_finished("", "")
    with pytest.raises(Exception, match="Max retries"):
        rebuild(paths, SWEEP, uri)
    assert main(["track", str(paths.out), "--tracking-uri", uri]) == 2
    assert capsys.readouterr().err == f"srcgcnn: MLflow at {uri} does not answer\n"


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
    assert list(predicted.columns) == model.metadata.get_output_schema().input_names()
    assert np.isfinite(predicted["prediction"]).tolist() == [True]
    assert predicted["unit"].tolist() == ["eV/atom"]
    cifs = [*model.input_example["cif"], "nonsense", None]
    mixed = model.predict(pd.DataFrame({"cif": cifs}, index=[7, 8, 9]))
    assert mixed["prediction"].tolist() == [pytest.approx(predicted["prediction"][0], abs=1e-4), None, None]
    assert mixed["error"].str.contains("cannot parse|no CIF").tolist() == [False, True, True]
    assert list(mixed.index) == [7, 8, 9]


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


@pytest.mark.full
def test_a_store_that_was_deleted_leaves_no_files_behind_after_a_rebuild(paths):
    live_sweep(paths)
    before = sorted(path.name for path in paths.mlflow_artifacts.rglob("result.json"))
    runs = {path.name for path in paths.mlflow_artifacts.iterdir()}
    paths.mlflow_db.unlink()
    command = [sys.executable, "-m", "srcgcnn", "track", str(paths.out)]  # this process has the old store open
    subprocess.run(command, check=True, cwd=Path(ui.__file__).parents[2])
    assert sorted(path.name for path in paths.mlflow_artifacts.rglob("result.json")) == before
    assert not runs & {path.name for path in paths.mlflow_artifacts.iterdir()} - {"models"}


@pytest.mark.full
def test_a_report_and_early_stops_are_on_the_pages(paths):
    from srcgcnn.run.stopped import Stopped

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


def test_stopped_trials_are_rebuilt_and_no_longer_called_so_when_they_finish(paths):
    from srcgcnn.run.stopped import Stopped, write_stopped
    from srcgcnn.tracking.writer import rebuild

    finish(paths, a_config(1))
    write_stopped(paths, Stopped(a_config(2), 2, 0.3, (0.4, 0.3), "asha"))
    for _ in range(2):
        rebuild(paths, SWEEP, None)
        child = family(client_of(paths))[1][a_config(2).key]
        assert (child.info.status, child.data.tags["srcgcnn.stopped_early"]) == ("KILLED", "by asha after 2 epochs")
    finish(paths, a_config(2))
    rebuild(paths, SWEEP, None)
    child = family(client_of(paths))[1][a_config(2).key]
    assert child.info.status == "FINISHED"
    assert "srcgcnn.stopped_early" not in child.data.tags


@pytest.mark.full
def test_the_sweeps_own_store_leaves_the_artifacts_of_another_one_alone(paths, empty_mlflow_db, tmp_path):
    from srcgcnn.tracking.writer import rebuild

    finish(paths, a_config())
    other = f"sqlite:///{shutil.copy(empty_mlflow_db, tmp_path / 'shared.db')}"
    rebuild(paths, SWEEP, other)
    before = everything(client_of(paths, other))
    paths.mlflow_db.unlink()
    rebuild(paths, SWEEP, None)
    assert everything(client_of(paths, other)) == before
    assert any("result.json" in str(run) for run in before.values())


@pytest.mark.parametrize("new_driver", [False, True])
def test_epochs_that_an_update_lost_are_there_at_the_end(paths, new_driver):
    """A store that is locked for a while misses updates in the middle of a trial."""
    config = a_config()
    sweep = writer(paths)
    sweep.trial_started(config)
    sweep.trial_progress(config.key, rows(0))
    sweep.trial_progress(config.key, rows(3))
    if new_driver:
        sweep = writer(paths)
        sweep.trial_started(config)
    sweep.trial_finished(finish(paths, config))
    client = client_of(paths)
    assert steps(client, family(client)[1][config.key]) == list(range(EPOCHS))


def test_a_damaged_store_is_named_with_what_to_do(paths, capsys):
    finish(paths, a_config())
    paths.mlflow_db.write_bytes(b"no database at all" * 100)
    for command in ("ui", "track"):
        assert main([command, str(paths.out)]) == 2
        assert "mlflow.db is damaged (file is not a database); delete it and run" in capsys.readouterr().err


def test_the_summary_counts_trials_that_are_no_product_of_seeds_and_splits(tmp_path):
    configs = [
        dataclasses.replace(a_config(), seeds=Seeds(seed, seed, split)) for seed, split in ((0, 0), (1, 0), (0, 1))
    ]
    for config in configs:
        write_result(RunPaths(tmp_path), a_result(config))
    assert summarise(open_run(tmp_path)).words.startswith("3 trials of 1 variant have finished.")
