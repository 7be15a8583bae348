"""The runs of one sweep in an MLflow store: one experiment per sweep name, one parent run, one child run per trial.

Every run is found again by its tags, so that a second driver or a rebuild meets the runs of the first.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import warnings
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.models.model import Model
from mlflow.tracking import MlflowClient

from srcgcnn.records import digest
from srcgcnn.tracking.fields import child_tags, now_ms, params, shape_metrics
from srcgcnn.tracking.pyfunc import save_crystal_model
from srcgcnn.tracking.view import VIEW_TAG, runs_view
from srcgcnn.training.model_card import read_card

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow.entities import LoggedModel, Run

    from srcgcnn.run.paths import RunPaths
    from srcgcnn.run.trial import TrialConfig

KEY_TAG = "srcgcnn.trial_key"
SWEEP_TAG = "srcgcnn.sweep_id"
DIGEST_TAG = "srcgcnn.result_digest"
FAILURE_TAG = "srcgcnn.failure"
STOPPED_TAG = "srcgcnn.stopped_early"
MODEL_NAME = "model"  # as in runs:/<run id>/model
PAGE_RUNS = 500
# Tables and columns in which MLflow 3.17 keeps absolute artifact URIs (mlflow.store.tracking.dbmodels).
URI_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)


@dataclass
class Child:
    """The run of one trial. `logged` are the epochs that the store has; None until it was read."""

    run_id: str
    status: str
    task: str
    started_ms: int
    described: bool = False
    result_digest: str | None = None
    failed: bool = False
    stopped: bool = False
    logged: set[int] | None = None


class SweepStore:
    """The open store of one sweep.

    Attributes:
        children: run of each trial, by trial key.
    """

    def __init__(self, paths: RunPaths, sweep_name: str, tracking_uri: str | None, started_ms: int | None) -> None:
        self._own = tracking_uri is None
        if self._own:
            paths.out.mkdir(parents=True, exist_ok=True)
            if not paths.mlflow_db.exists():  # the files of a store that was deleted: nothing leads to them any more
                shutil.rmtree(paths.mlflow_artifacts, ignore_errors=True)
            follow_moved_folder(paths)
        self._uri = tracking_uri or paths.default_tracking_uri
        self._paths = paths
        self.client = MlflowClient(self._uri)
        self.experiment_id = self._experiment(sweep_name)
        self.client.set_experiment_tag(self.experiment_id, VIEW_TAG, runs_view())
        self.parent_id = self._parent(sweep_name, started_ms)
        self.children = {run.data.tags[KEY_TAG]: _known_child(run) for run in self.child_runs()}

    def child_runs(self) -> Iterator[Run]:
        """Yield the runs of all trials as the store has them now."""
        query = f"tags.mlflow.parentRunId = '{self.parent_id}'"
        token: str | None = None
        while token != "":
            page = self.client.search_runs([self.experiment_id], query, max_results=PAGE_RUNS, page_token=token)
            yield from (run for run in page if KEY_TAG in run.data.tags)
            token = page.token or ""

    def child(self, config: TrialConfig, started_ms: int | None = None) -> Child:
        """Find or create the run of a trial and ensure that it is described."""
        if config.key not in self.children:
            self.children[config.key] = self._create_child(config, started_ms or now_ms())
        child = self.children[config.key]
        if not child.described:
            self.client.log_batch(child.run_id, shape_metrics(config, child.started_ms), params(config))
            child.described = True
        return child

    def forget(self, key: str) -> None:
        """Delete the run of a trial (MLflow keeps it in its bin)."""
        self.client.delete_run(self.children.pop(key).run_id)

    def set_status(self, child: Child, status: str, at_ms: int | None = None) -> None:
        """Set the status of a run; an end needs no time if it is now."""
        if status == "RUNNING":
            self.client.update_run(child.run_id, status=status)
        else:
            self.client.set_terminated(child.run_id, status, end_time=at_ms)
        child.status = status

    def log_model(self, key: str) -> str | None:
        """Log the weights of a trial as an MLflow model and return its id; None if there are no weights.

        `mlflow.pyfunc.log_model` would do the same through the process's global tracking URI and active run.
        """
        weights = self._paths.model(key)
        if not weights.exists():
            return None
        try:
            read_card(weights)
        except (OSError, ValueError) as error:  # the numbers of a trial do not depend on its model file
            warnings.warn(f"{error}; the run in MLflow gets no model", RuntimeWarning, stacklevel=2)
            return None
        run_id = self.children[key].run_id
        model = self._logged_model(run_id)
        if model.status != LoggedModelStatus.READY:
            self._upload_model(model, weights, run_id)
        return model.model_id

    def _upload_model(self, model: LoggedModel, weights: Path, run_id: str) -> None:
        # in OUT, where the next start finds what a killed writer left (run/leftovers.py)
        with tempfile.TemporaryDirectory(prefix=".model-", suffix=".tmp", dir=self._paths.out) as folder:
            form = Model(model_id=model.model_id, run_id=run_id, artifact_path=model.artifact_location)
            save_crystal_model(weights, Path(folder, MODEL_NAME), form)
            self.client.log_model_artifacts(model.model_id, str(Path(folder, MODEL_NAME)))
        self.client.finalize_logged_model(model.model_id, "READY")

    def _logged_model(self, run_id: str) -> LoggedModel:
        outputs = self.client.get_run(run_id).outputs
        if outputs and outputs.model_outputs:
            return self.client.get_logged_model(outputs.model_outputs[0].model_id)
        model = self.client.create_logged_model(
            self.experiment_id, MODEL_NAME, source_run_id=run_id, model_type="crystal graph network"
        )
        self.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        return model

    def _experiment(self, sweep_name: str) -> str:
        name = f"srcgcnn/{sweep_name}"
        if found := self.client.get_experiment_by_name(name):
            return found.experiment_id
        served = self._uri.startswith(("http://", "https://"))  # a server knows where its artifacts go
        folder = self._paths.mlflow_artifacts if self._own else self._paths.other_artifacts
        location = None if served else folder.resolve().as_uri()
        kind = {"mlflow.experimentKind": "custom_model_development"}  # opens on runs, not on traces of chat models
        return self.client.create_experiment(name, artifact_location=location, tags=kind)

    def _parent(self, sweep_name: str, started_ms: int | None) -> str:
        # A shared server may hold equal names from several folders; the sweep's own store moves with its folder.
        sweep_id = digest([sweep_name, "" if self._own else str(self._paths.out.resolve())])
        found = self.client.search_runs([self.experiment_id], f"tags.`{SWEEP_TAG}` = '{sweep_id}'", max_results=1)
        if found:
            return found[0].info.run_id
        tags = {SWEEP_TAG: sweep_id, "srcgcnn.sweep": sweep_name}
        return self.client.create_run(self.experiment_id, started_ms, tags, sweep_name).info.run_id

    def _create_child(self, config: TrialConfig, started_ms: int) -> Child:
        tags = {"mlflow.parentRunId": self.parent_id, **child_tags(config)}
        run = self.client.create_run(self.experiment_id, started_ms, tags, run_name(config))
        return Child(run.info.run_id, "RUNNING", config.model.task, started_ms, logged=set())


def run_name(config: TrialConfig) -> str:
    """Name the run of a trial, the seed first: MLflow's page cuts long names at the end."""
    return f"{config.repeat.strip()}: {config.model.label}"


def experiment_of(paths: RunPaths) -> str | None:
    """Return the id of the newest experiment in the sweep's own store; None before there is one."""
    with _own_database(paths) as database:
        if not database.execute("SELECT name FROM sqlite_master WHERE name = 'experiments'").fetchall():
            return None
        query = "SELECT max(experiment_id) FROM experiments WHERE name LIKE 'srcgcnn/%'"
        (found,) = database.execute(query).fetchone()
    return None if found is None else str(found)


def follow_moved_folder(paths: RunPaths) -> None:
    """Let the sweep's own store find its artifacts again after the folder was moved or copied.

    MLflow keeps absolute URIs and has no command for this, yet "train there, copy the folder home, look at it" is what
    people do (mlflow/mlflow#23634).
    """
    if not paths.mlflow_db.exists():
        return
    here = paths.mlflow_artifacts.resolve().as_uri()
    with _own_database(paths) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE name = 'experiments'").fetchall()
        if not tables:  # a driver that died while MLflow created the tables
            return
        query = "SELECT artifact_location FROM experiments WHERE name LIKE 'srcgcnn/%'"
        for (there,) in database.execute(query).fetchall():
            if there.startswith("file:") and there != here:
                _replace_uris(database, there, here)


@contextmanager
def _own_database(paths: RunPaths) -> Iterator[sqlite3.Connection]:
    """Open the sweep's own store without MLflow.

    Raises:
        RuntimeError: it is damaged, or somebody has locked it.
    """
    try:
        with closing(sqlite3.connect(paths.mlflow_db)) as database, database:
            yield database
    except sqlite3.OperationalError as error:
        raise RuntimeError(f"{paths.mlflow_db} cannot be used now ({error})") from None
    except sqlite3.DatabaseError as error:
        what_to_do = f"delete it and run `srcgcnn track {paths.out}`"
        raise RuntimeError(f"{paths.mlflow_db} is damaged ({error}); {what_to_do}") from None


def _replace_uris(database: sqlite3.Connection, there: str, here: str) -> None:
    for table, column in URI_COLUMNS:
        database.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",  # noqa: S608 - constants
            (here, len(there) + 1, len(there), there),
        )


def _known_child(run: Run) -> Child:
    tags = run.data.tags
    return Child(
        run_id=run.info.run_id,
        status=run.info.status,
        task=run.data.params.get("task", "regression"),
        started_ms=run.info.start_time,
        described="depth" in run.data.metrics,  # log_batch writes params first, metrics last
        result_digest=tags.get(DIGEST_TAG),
        failed=FAILURE_TAG in tags,
        stopped=STOPPED_TAG in tags,
    )
