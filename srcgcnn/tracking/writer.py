"""The one writer of a sweep's MLflow pages: the driver, live; or a rebuild from the result files.

SQLite on a cluster file system loses with several writers, so workers never write here. Whatever is written live can be
written again from the result files, which is why a lost update is a warning and not an error.
"""

from __future__ import annotations

import functools
import json
import os
import time
import warnings
from typing import TYPE_CHECKING, Concatenate, ParamSpec

from mlflow.entities import Metric, RunTag

from srcgcnn.records import RecordError, digest
from srcgcnn.run.folder import open_run
from srcgcnn.run.results import finished_keys
from srcgcnn.tracking import fields, own_store
from srcgcnn.tracking.store import DIGEST_TAG, FAILURE_TAG, STOPPED_TAG, Child, SweepStore
from srcgcnn.tracking.summary import summarise
from srcgcnn.tracking.uri import no_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from srcgcnn.run.folder import Run
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.run.stopped import Stopped
    from srcgcnn.run.trial import TrialConfig
    from srcgcnn.run.trial_result import TrialResult

NOTE_TAG = "mlflow.note.content"
REASON_CHARACTERS = 5000  # a tag holds 8000
BATCH_EPOCHS = 300  # log_batch takes 1000 metrics; an epoch has three and must not be torn apart
SLOW_S = 5.0
PAUSE_S = 60.0


P = ParamSpec("P")


class StoreAwayError(RuntimeError):
    """The store did not answer, or slowly, a moment ago and is left alone for a while."""


def _survivable(
    method: Callable[Concatenate[MlflowWriter, P], None],
) -> Callable[Concatenate[MlflowWriter, P], None]:
    """Turn a failure of the store into a warning: the one place where tracking errors end."""

    @functools.wraps(method)
    def call(self: MlflowWriter, *args: P.args, **kwargs: P.kwargs) -> None:
        start = time.monotonic()
        try:
            method(self, *args, **kwargs)
        except StoreAwayError:
            pass
        except Exception as error:  # hours of training must not end because a page cannot be updated
            if not self.live:
                raise
            self.report_lost(method.__name__, error, time.monotonic() - start)

    return call


class MlflowWriter:
    """Writes one sweep to MLflow: its own SQLite store, or any tracking URI.

    Attributes:
        live: the sweep is running: failures of the store are warnings, the parent run is RUNNING until
            `sweep_finished`, and runs that an earlier driver left RUNNING are ended. A rebuild is not live.
    """

    def __init__(
        self,
        folder: Run | RunPaths,
        sweep_name: str,
        tracking_uri: str | None,
        *,
        live: bool = True,
        started_ms: int | None = None,
    ) -> None:
        self.live = live
        self._run = open_run(folder)
        self._paths = self._run.paths
        self._sweep_name = sweep_name
        self._uri = tracking_uri
        self._started_ms = started_ms
        self._opened: SweepStore | None = None
        self._configs: dict[str, TrialConfig] = {}
        self._warned: set[tuple[str, str]] = set()
        self._silent_until = 0.0
        self._complete = False

    @_survivable
    def trial_started(self, config: TrialConfig) -> None:
        """Create the run of a trial, or set the run of an earlier attempt to RUNNING again."""
        self._configs[config.key] = config  # even when the store is unreachable: the trial reports by key later
        store = self._store()
        child = store.child(config)
        self._clear_marks(child)
        if child.status != "RUNNING":
            store.set_status(child, "RUNNING")

    @_survivable
    def trial_progress(self, key: str, epochs: Sequence[fields.EpochRow]) -> None:
        """Log epochs; those logged before (a resumed trial repeats some) are skipped."""
        self._log_epochs(self._started_child(key), epochs, fields.now_ms())

    @_survivable
    def trial_usage(self, key: str, values: Mapping[str, float]) -> None:
        """Log what the machine of a trial does (`system/...`), over the seconds since the run began."""
        child, at_ms = self._started_child(key), fields.now_ms()
        step = (at_ms - child.started_ms) // 1000
        self._store().client.log_batch(
            child.run_id, [Metric(name, value, at_ms, step) for name, value in values.items()]
        )

    @_survivable
    def trial_finished(self, result: TrialResult) -> None:
        """Log the result with its files and its model, and end the run."""
        self._log_result(result)

    @_survivable
    def trial_failed(self, key: str, reason: str) -> None:
        """Mark the run of a trial as failed, with the reason as a tag."""
        self._fail(self._started_child(key), reason)

    @_survivable
    def trial_stopped(self, stopped: Stopped) -> None:
        """End the run of a trial that a scheduler stopped, and say so; it is not a result."""
        self._stop(stopped)

    def sweep_finished(self, table_markdown: str, table_csv: str, *, stopped: bool = False) -> bool:
        """Log results, failures and stops that are still missing, the tables and the summary; end the parent run.

        Where that fails in the sweep's own store, or the store lost what was written, it is rewritten. Returns whether
        everything is written.
        """
        self._complete = False
        self._finish(table_markdown, table_csv, stopped=stopped)
        if self.live and self._uri is None:
            keys = finished_keys(self._paths)
            if keys and (not self._complete or own_store.lacks(self._paths, keys)):
                return own_store.write_anew(self._paths, self._sweep_name)
        return self._complete

    @_survivable
    def _finish(self, table_markdown: str, table_csv: str, *, stopped: bool) -> None:
        self._silent_until = 0.0  # the last chance: worth one more timeout
        for result in self._run.results:
            self._log_result(result)
        self._mark_failures()
        for trial in self._run.stopped:
            self._stop(trial)
        self._end_stale_children()
        summary = summarise(self._run)
        self._log_tables(summary.words, table_markdown, table_csv)
        self._log_summary(summary.metrics)
        self._end_parent("KILLED" if stopped else "FINISHED")
        self._complete = True

    def _mark_failures(self) -> None:
        """Mark the trials that have a failure file; those without a readable configuration are left out."""
        for failure in self._run.failures:
            if failure.config is not None:
                self._configs[failure.key] = failure.config
            if failure.key in self._store().children or failure.config is not None:
                self._fail(self._started_child(failure.key), failure.reason)

    def report_lost(self, name: str, error: Exception, seconds: float) -> None:
        """Warn, once per kind, of an update that MLflow did not get."""
        away = no_answer(error)
        if away or seconds > SLOW_S:  # an unreachable server costs its timeout at every call
            self._silent_until = time.monotonic() + PAUSE_S
        kind = ("", "no answer") if away else (name, type(error).__name__)
        if kind in self._warned:
            return
        self._warned.add(kind)
        option = f" --tracking-uri {self._uri}" if self._uri else ""
        missed = f"MLflow missed {name} of sweep {self._sweep_name!r} ({type(error).__name__}: {str(error)[:300]})"
        warnings.warn(
            f"{f'MLflow at {self._uri} does not answer' if away else missed}. "
            f"The sweep continues; complete MLflow later with `srcgcnn track {self._paths.out}{option}`",
            RuntimeWarning,
            stacklevel=3,
        )

    def _store(self) -> SweepStore:
        """Return the store, opened at the first call."""
        if time.monotonic() < self._silent_until:
            raise StoreAwayError
        if self._opened is None:
            # MLflow's own defaults wait for minutes if no server answers
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
            if self.live and self._uri is None and own_store.is_damaged(self._paths):
                own_store.set_aside(self._paths)
            self._opened = SweepStore(self._paths, self._sweep_name, self._uri, self._started_ms)
            if self.live:
                self._opened.client.update_run(self._opened.parent_id, status="RUNNING")
                self._end_stale_children()
        return self._opened

    def _started_child(self, key: str) -> Child:
        store = self._store()
        if key in store.children:
            return store.children[key]
        if key not in self._configs:
            raise KeyError(f"trial {key!r} is unknown to MLflow: call trial_started with its configuration first")
        return store.child(self._configs[key])

    def _log_epochs(self, child: Child, epochs: Sequence[fields.EpochRow], at_ms: int) -> None:
        client = self._store().client
        if child.logged is None:
            history = client.get_metric_history(child.run_id, fields.error_curve(child.task))
            child.logged = {point.step for point in history}
        logged = child.logged
        fresh = [row for row in epochs if row.epoch not in logged]  # also those between, which an update lost
        for first in range(0, len(fresh), BATCH_EPOCHS):
            rows = fresh[first : first + BATCH_EPOCHS]
            child.logged = None  # not known before the store has answered
            client.log_batch(child.run_id, fields.epoch_metrics(rows, child.task, at_ms))
            logged |= {row.epoch for row in rows}
            child.logged = logged

    def _log_result(self, result: TrialResult) -> None:
        store = self._store()
        stamp = digest(result.to_dict())
        known = store.children.get(result.key)
        if known and known.status == "FINISHED" and known.result_digest == stamp:
            return
        if known and known.result_digest not in (None, stamp):
            store.forget(result.key)  # the trial was trained again: its old run must not mix with the new numbers
        child = store.child(result.config, fields.started_ms(result))
        self._log_epochs(child, fields.curve_epochs(result), fields.finished_ms(result))
        self._log_files(child, result)
        self._clear_marks(child)
        metrics = fields.result_metrics(result, store.log_model(result.key))
        tags = {**fields.provenance_tags(result), DIGEST_TAG: stamp}
        store.client.log_batch(child.run_id, metrics, tags=[RunTag(*tag) for tag in tags.items()])
        store.set_status(child, "FINISHED", fields.finished_ms(result))
        child.result_digest = stamp

    def _log_files(self, child: Child, result: TrialResult) -> None:
        client = self._store().client
        client.log_inputs(child.run_id, [fields.dataset_input(result)])
        client.log_text(child.run_id, json.dumps(result.to_dict(), indent=1) + "\n", "result.json")
        predictions = self._paths.predictions(result.key)
        if predictions.exists():
            client.log_artifact(child.run_id, str(predictions), "predictions")

    def _fail(self, child: Child, reason: str) -> None:
        store = self._store()
        if child.status == "FAILED" and child.failed:
            return
        store.client.set_tag(child.run_id, FAILURE_TAG, reason[:REASON_CHARACTERS])
        store.set_status(child, "FAILED")
        child.failed = True

    def _stop(self, stopped: Stopped) -> None:
        store = self._store()
        child = store.child(stopped.config)
        if child.status == "KILLED" and child.stopped:
            return
        store.client.set_tag(child.run_id, STOPPED_TAG, f"by {stopped.scheduler} after {stopped.epoch} epochs")
        store.set_status(child, "KILLED")
        child.stopped = True

    def _clear_marks(self, child: Child) -> None:
        """Remove what an earlier attempt left: a failed or stopped trial may succeed later."""
        client = self._store().client
        if child.failed:
            client.delete_tag(child.run_id, FAILURE_TAG)
        if child.stopped:
            client.delete_tag(child.run_id, STOPPED_TAG)
        child.failed = child.stopped = False

    def _end_stale_children(self) -> None:
        """End runs without a driver: those of a driver that died, or of a sweep that was stopped."""
        store = self._store()
        for child in store.children.values():
            if child.status == "RUNNING":
                store.set_status(child, "KILLED")

    def _log_tables(self, words: str, table_markdown: str, table_csv: str) -> None:
        store = self._store()
        for name, text in (("tradeoff.md", table_markdown), ("tradeoff.csv", table_csv)):
            if text:
                store.client.log_text(store.parent_id, text, name)
        if table_markdown:
            store.client.set_tag(store.parent_id, NOTE_TAG, fields.note(words, table_markdown))
        for path in (self._paths.spec, self._paths.proposals):
            if path.exists():
                store.client.log_artifact(store.parent_id, str(path))
        if self._paths.report.is_dir():
            store.client.log_artifacts(store.parent_id, str(self._paths.report), "report")

    def _log_summary(self, best: dict[str, float]) -> None:
        """Log the parent's numbers, those that changed: a metric logged again would grow a history."""
        store = self._store()
        runs = list(store.child_runs())
        finished = [run.data.metrics for run in runs if run.info.status == "FINISHED"]
        summary = best | {
            "trials_finished": float(len(finished)),
            "trials_failed": float(sum(run.info.status == "FAILED" for run in runs)),
        }
        for name in ("val_mae", "val_error_rate"):
            if scores := [metrics[name] for metrics in finished if name in metrics]:
                summary[f"best_{name}"] = min(scores)
        before = store.client.get_run(store.parent_id).data.metrics
        changed = {name: value for name, value in summary.items() if before.get(name) != value}
        store.client.log_batch(
            store.parent_id, [Metric(name, value, fields.now_ms(), 0) for name, value in changed.items()]
        )

    def _end_parent(self, status: str) -> None:
        store = self._store()
        now = store.client.get_run(store.parent_id).info.status
        if self.live or now == "RUNNING":  # a rebuild does not change how a sweep ended
            store.client.set_terminated(store.parent_id, status)


def rebuild(
    folder: Run | RunPaths,
    sweep_name: str,
    tracking_uri: str | None,
    table_markdown: str = "",
    table_csv: str = "",
) -> int:
    """Write everything in the result files of a sweep, and return their number; a second time changes nothing.

    Raises:
        RecordError: the sweep has no results.
    """
    run = open_run(folder)
    starts = [fields.started_ms(result) for result in run.results]
    if not starts:
        raise RecordError(f"{run.paths.results}: no results yet; run the sweep first, or check the folder's name")
    writer = MlflowWriter(run, sweep_name, tracking_uri, live=False, started_ms=min(starts))
    writer.sweep_finished(table_markdown, table_csv)
    return len(starts)
