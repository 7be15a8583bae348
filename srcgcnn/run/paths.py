"""Every file name of a sweep's folder, in one place."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - part of the dataclass

from srcgcnn.files import make_private

WRITABLE_BY_OTHERS = 0o022


@dataclass(frozen=True)
class RunPaths:
    """The folder of one sweep (OUT)."""

    out: Path

    @property
    def spec(self) -> Path:
        """The sweep as it was last requested, with every flag applied."""
        return self.out / "sweep.json"

    @property
    def results(self) -> Path:
        """Folder of finished trials, one JSON file each: the truth."""
        return self.out / "results"

    def result(self, key: str) -> Path:
        """Result of one trial."""
        return self.results / f"{key}.json"

    def predictions(self, key: str) -> Path:
        """Predictions of one trial, one row per crystal: id, formula, target, prediction, set (validation or test).

        Files of older versions have no column `set` and hold the test set only. Those of an archive leave formula and
        target to the file `crystals`.
        """
        return self.out / "predictions" / f"{key}.parquet"

    @property
    def crystals(self) -> Path:
        """Of an archive, the crystals that were predicted: id, formula, and a column for each target."""
        return self.out / "crystals.parquet"

    def model(self, key: str) -> Path:
        """Best weights of one trial with all that is needed to predict."""
        return self.out / "models" / f"{key}.safetensors"

    @property
    def baselines(self) -> Path:
        """Folder of what predictors without a network reach: with it the report needs no store."""
        return self.out / "baselines"

    def baseline(self, key: str) -> Path:
        """What they reach on one split."""
        return self.baselines / f"{key}.json"

    def start(self, weights_hash: str) -> Path:
        """Copy of the model file that trials start from: they can be resumed wherever the original has gone."""
        return self.out / "starts" / f"{weights_hash[:16]}.safetensors"

    def failure(self, key: str) -> Path:
        """Reason why a trial failed; removed when it later succeeds."""
        return self.out / "failures" / f"{key}.json"

    def failure_log(self, key: str) -> Path:
        """Traceback of a failed trial."""
        return self.out / "failures" / f"{key}.log"

    @property
    def failures(self) -> Path:
        """Folder of failed trials."""
        return self.out / "failures"

    @property
    def stopped(self) -> Path:
        """Folder of trials that a scheduler stopped."""
        return self.out / "stopped"

    def stopped_trial(self, key: str) -> Path:
        """Where a scheduler stopped one trial; removed when it later finishes."""
        return self.stopped / f"{key}.json"

    @property
    def study_db(self) -> Path:
        """Optuna's study of a search (SQLite); only the driver opens it while it runs."""
        return self.out / "study.db"

    @property
    def proposals(self) -> Path:
        """What a search has proposed, for everybody else."""
        return self.out / "proposals.json"

    @property
    def progress(self) -> Path:
        """How far the running driver is, written every few seconds."""
        return self.out / "progress.json"

    @property
    def logs(self) -> Path:
        """Folder of the groups' logs."""
        return self.out / "logs"

    def log(self, group_key: str) -> Path:
        """What one group did, attempt after attempt: the label first, then a line per epoch, and its errors."""
        return self.logs / f"{group_key}.log"

    def checkpoint(self, group_key: str) -> Path:
        """State of one running group, with the previous one (`.previous`); removed when all results are written."""
        return self.out / "checkpoints" / f"{group_key}.pt"

    def group(self, group_key: str) -> Path:
        """Members of a group that has a checkpoint, so that a later plan keeps the group together."""
        return self.out / "checkpoints" / f"{group_key}.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of running groups."""
        return self.out / "checkpoints"

    @property
    def tune(self) -> Path:
        """Ray Tune's own bookkeeping: never read back by this project."""
        return self.out / "ray"

    @property
    def ray_token(self) -> Path:
        """Token that the Ray dashboard and every Ray process ask for (mode 0600)."""
        return self.out / ".ray_token"

    @property
    def dashboard(self) -> Path:
        """Where the Ray dashboard of a sweep that runs on this machine is."""
        return self.out / ".dashboard"

    @property
    def mlflow_db(self) -> Path:
        """Default MLflow store."""
        return self.out / "mlflow.db"

    @property
    def ui_page(self) -> Path:
        """Page that leads to the MLflow page of a running `srcgcnn ui`, with its key (mode 0600)."""
        return self.out / ".mlflow-ui.html"

    @property
    def other_artifacts(self) -> Path:
        """Artifacts of MLflow stores elsewhere that have no server; deleting this sweep's own store leaves them."""
        return self.out / "mlflow-artifacts-of-others"

    @property
    def mlflow_artifacts(self) -> Path:
        """Artifacts of the default MLflow store."""
        return self.out / "mlflow-artifacts"

    @property
    def report(self) -> Path:
        """Folder of the report: `index.html`, figures, tables and their data."""
        return self.out / "report"

    @property
    def default_tracking_uri(self) -> str:
        """URI of the default MLflow store."""
        return f"sqlite:///{self.mlflow_db.resolve()}"

    @property
    def spent(self) -> Path:
        """What groups have used so far, by our own clocks."""
        return self.out / "spent.json"

    @property
    def charged(self) -> Path:
        """What a cluster's accounting reported last."""
        return self.out / "charged.json"

    @property
    def budget_used(self) -> Path:
        """Marks a sweep that takes no new groups: its budget is used."""
        return self.out / "budget-used"

    @property
    def driver(self) -> Path:
        """The process that runs this sweep, for commands that stop it."""
        return self.out / ".driver.json"

    @property
    def report_lock(self) -> Path:
        """Held by the process that writes the report: a person may ask for one while the sweep writes its own."""
        return self.report / ".lock"

    @property
    def driver_lock(self) -> Path:
        """Held by the one driver that runs this sweep."""
        return self.out / ".driver.lock"

    @property
    def launch(self) -> Path:
        """Folder of the jobs that run this sweep on a cluster."""
        return self.out / "launch"

    @property
    def launch_request(self) -> Path:
        """What the jobs need to know: the site and the tracking store."""
        return self.launch / "request.json"

    @property
    def launch_request_copy(self) -> Path:
        """The same again: a job that starts while the first is damaged reads this one."""
        return self.launch / "request.copy.json"

    @property
    def launched_spec(self) -> Path:
        """Copy of `spec` as it was submitted, for a head that finds the original damaged."""
        return self.launch / "sweep.json"

    @property
    def jobs(self) -> Path:
        """Ids of the jobs that were submitted."""
        return self.launch / "jobs.json"

    @property
    def job_logs(self) -> Path:
        """Logs of the jobs and the texts that sbatch got."""
        return self.launch / "jobs"

    @property
    def head_address(self) -> Path:
        """Where the running head listens; absent while there is none."""
        return self.launch / "head.json"

    @property
    def backlog(self) -> Path:
        """How many groups wait and run, written by the driver."""
        return self.launch / "backlog.json"

    @property
    def sweep_end(self) -> Path:
        """How the driver ended; absent while work is left."""
        return self.launch / "end.json"

    @property
    def head_deaths(self) -> Path:
        """How often the head died since the last new result."""
        return self.launch / "deaths.json"

    @property
    def submission_lock(self) -> Path:
        """Held by the process that submits jobs of this sweep."""
        return self.launch / ".submission.lock"

    @property
    def head_missed(self) -> Path:
        """Touched whenever a worker checks what became of the head."""
        return self.launch / ".head-missed"

    @property
    def tunnel(self) -> Path:
        """The ssh command that brings the dashboard of the running head to the user's machine."""
        return self.launch / "dashboard.txt"

    def worker_note(self, job: str) -> Path:
        """What one worker job last did, and where."""
        return self.launch / "workers" / f"{job}.json"

    def given_up(self, group_key: str) -> Path:
        """Marks a group that failed too often in this run of the driver."""
        return self.out / "checkpoints" / f"{group_key}.given-up"


def make_run_folder(paths: RunPaths) -> None:
    """Make OUT, which only this user can enter, and `OUT/launch`, which stays so.

    An OUT that is there already keeps its mode, since its owner may have opened it to readers; but nobody else may
    exchange its files: the jobs of a sweep run what is in `OUT/launch`.
    """
    if not paths.out.exists():
        make_private(paths.out)
    status = paths.out.stat()
    if status.st_uid == os.getuid() and status.st_mode & WRITABLE_BY_OTHERS:
        paths.out.chmod(status.st_mode & 0o7777 & ~WRITABLE_BY_OTHERS)
    make_private(paths.launch)
