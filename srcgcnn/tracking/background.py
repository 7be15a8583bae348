"""MLflow's writer in a separate process, so that a database never keeps the driver waiting.

The process is the one writer. It reads events, one line of JSON each, and takes in at a time all that have come: of a
trial that has a result by then only the result is written, which holds its curves. It writes what has come when the
driver ends, however it ends, and goes. One that dies is followed by another, which gets the trials that run, and
at the end writes what was lost, from the files of OUT.
"""

from __future__ import annotations

import json
import math
import queue
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcgcnn.records import RecordError, as_dict, parse
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import read_result
from srcgcnn.run.stopped import Stopped
from srcgcnn.run.trial import TrialConfig
from srcgcnn.training.epoch import EpochReport

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TextIO

    from srcgcnn.run.trial_result import TrialResult
    from srcgcnn.tracking.writer import MlflowWriter

Event = dict[str, Any]
MOST_AT_ONCE = 500  # events that the writer takes in before it writes
RESTART_INTERVAL_S = 30.0  # one that dies at once takes seconds of a core
ATTEMPTS = 3  # to write the end of a sweep
INCOMPLETE = 3  # exit status of the process whose store did not take all


class BackgroundWriter:
    """Sends what happens to the process that writes; starts it at the first event, and again if it dies.

    Args:
        paths: the sweep's folder.
        sweep_name: names the experiment.
        tracking_uri: MLflow store; None takes the one in the folder.
    """

    def __init__(self, paths: RunPaths, sweep_name: str, tracking_uri: str | None) -> None:
        self._opening = {"out": str(paths.out.resolve()), "name": sweep_name, "uri": tracking_uri}
        self._running: dict[str, Event] = {}  # trials that were started, and have not ended
        self._process: _WritingProcess | None = None
        self._started_at = -math.inf

    def trial_started(self, config: TrialConfig) -> None:
        """Create the run of a trial."""
        self._running[config.key] = {"event": "started", "key": config.key, "config": as_dict(config)}
        self._send(self._running[config.key])

    def trial_progress(self, key: str, epochs: Sequence[EpochReport]) -> None:
        """Log epochs."""
        self._send({"event": "progress", "key": key, "epochs": [asdict(row) for row in epochs]})

    def trial_usage(self, key: str, values: Mapping[str, float]) -> None:
        """Log what the machine of a trial does."""
        self._send({"event": "usage", "key": key, "values": dict(values)})

    def trial_finished(self, result: TrialResult) -> None:
        """Log a result, from its file."""
        self._trial_ended({"event": "finished", "key": result.key})

    def trial_failed(self, key: str, reason: str) -> None:
        """Mark the run of a trial as failed."""
        self._trial_ended({"event": "failed", "key": key, "reason": reason})

    def trial_stopped(self, stopped: Stopped) -> None:
        """Mark the run of a trial as stopped."""
        self._trial_ended({"event": "stopped", "key": stopped.config.key, "stopped": as_dict(stopped)})

    def sweep_finished(self, table_markdown: str, table_csv: str, *, stopped: bool = False) -> bool:
        """Write all that is missing and the tables, and wait for it; returns whether everything is written."""
        end = {"event": "end", "markdown": table_markdown, "csv": table_csv, "stopped": stopped}
        self._running.clear()
        for _ in range(ATTEMPTS):
            process = self._process if self._process and self._process.alive else self._start()
            if process is None:
                continue
            process.send(end)
            self._process, self._started_at = None, -math.inf  # for another round of the driver
            status = process.end()
            if status in (0, INCOMPLETE):
                return status == 0
        return False

    def _trial_ended(self, event: Event) -> None:
        self._send(event)
        self._running.pop(event["key"], None)

    def _send(self, event: Event) -> None:
        """Send an event. While there is no process events are lost: the end of the sweep makes up for them."""
        if self._process is None or not self._process.alive:
            if time.monotonic() - self._started_at < RESTART_INTERVAL_S:
                return
            self._start()
        if self._process is not None:
            self._process.send(event)

    def _start(self) -> _WritingProcess | None:
        """Start a process; None if this machine has no room for one at the moment."""
        self._started_at = time.monotonic()
        try:
            self._process = _WritingProcess([self._opening, *self._running.values()])
        except (OSError, RuntimeError) as error:  # the limit of processes, of threads, or memory
            print(f"MLflow's writer did not start ({error}); trying again", file=sys.stderr, flush=True)
            self._process = None
        return self._process


class _WritingProcess:
    """The process that writes, and the thread that hands it lines: a slow store keeps that one waiting only."""

    def __init__(self, first: Iterable[Event]) -> None:
        # what is ignored stays so across exec: a signal for the driver must not meet Python before its own handlers
        deaf = ["sh", "-c", """trap '' INT TERM; exec "$@\"""", "sh"]
        command = [*deaf, sys.executable, "-m", "srcgcnn.tracking.background"]
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        for event in first:
            self.send(event)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, encoding="utf-8", process_group=0)
        self._feeder = threading.Thread(target=self._feed, name="to-mlflow", daemon=True)
        self._feeder.start()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def all_sent(self) -> bool:
        """Whether it has received all that was sent."""
        return self._lines.empty()

    def send(self, event: Event) -> None:
        """Queue an event for it."""
        self._lines.put(json.dumps(event))

    def end(self) -> int:
        """Wait until it has written all; returns its exit status."""
        self._lines.put(None)
        self._feeder.join()
        return self._process.wait()

    def _feed(self) -> None:
        stream = self._process.stdin
        if stream is None:
            return
        with suppress(BrokenPipeError), stream:  # it was killed
            while (line := self._lines.get()) is not None:
                stream.write(line + "\n")
                if self._lines.empty():
                    stream.flush()


@dataclass
class _Pending:
    """What has come of one trial and is not written yet."""

    config: Event | None = None
    epochs: list[Event] = field(default_factory=list)
    usage: list[Event] = field(default_factory=list)
    last: Event | None = None


def serve(stream: TextIO) -> bool:
    """Write what a driver sends, until it ends; returns whether the store took what it must hold at the end."""
    from srcgcnn.tracking.writer import MlflowWriter

    opening = stream.readline()
    if not opening:
        return True
    sweep = json.loads(opening)
    paths = RunPaths(Path(sweep["out"]))
    writer = MlflowWriter(paths, sweep["name"], sweep["uri"])
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(stream, lines), daemon=True).start()
    over, complete = False, True
    while not over:
        events, over = _taken(lines)
        complete = _write(events, writer, paths) and complete
    return complete


def _read(stream: TextIO, lines: queue.SimpleQueue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _taken(lines: queue.SimpleQueue[str | None]) -> tuple[list[Event], bool]:
    """Wait for an event, and return all that are there; True after the last one."""
    events: list[Event] = []
    line = lines.get()
    while line is not None:
        events.append(json.loads(line))
        if lines.empty() or len(events) >= MOST_AT_ONCE:
            return events, False
        line = lines.get()
    return events, True


def _write(events: Iterable[Event], writer: MlflowWriter, paths: RunPaths) -> bool:
    """Write events; False if the end of the sweep is among them and the store did not take all."""
    pending: dict[str, _Pending] = {}
    end: Event | None = None
    for event in events:
        if event["event"] == "end":
            end = event
            continue
        of = pending.setdefault(event["key"], _Pending())
        if event["event"] == "started":
            of.config, of.last = event, None
        elif event["event"] == "progress":
            of.epochs += event["epochs"]
        elif event["event"] == "usage":
            of.usage.append(event)
        else:
            of.last = event
    for key, of in pending.items():
        try:
            _write_trial(key, of, writer, paths)
        except (RecordError, OSError) as error:  # of a file of OUT; the store's own errors end in the writer
            warnings.warn(f"MLflow missed trial {key}: {error}", RuntimeWarning, stacklevel=2)
    if end is None:
        return True
    return writer.sweep_finished(end["markdown"], end["csv"], stopped=end["stopped"])


def _write_trial(key: str, of: _Pending, writer: MlflowWriter, paths: RunPaths) -> None:
    last = of.last or {}
    finished = last.get("event") == "finished"
    if of.config is not None and (of.usage or not finished):
        writer.trial_started(parse(TrialConfig, of.config["config"], "an event of the driver"))
    if of.epochs and not finished:  # a result holds its curves
        writer.trial_progress(key, [EpochReport(**row) for row in of.epochs])
    for event in of.usage[-1:]:
        writer.trial_usage(key, event["values"])
    if finished:
        writer.trial_finished(read_result(paths.result(key)))
    if last.get("event") == "failed":
        writer.trial_failed(key, last["reason"])
    if last.get("event") == "stopped":
        writer.trial_stopped(parse(Stopped, last["stopped"], "an event of the driver"))


def main() -> None:
    """Write until the driver closes the pipe: Ctrl-C and SIGTERM, which may reach this process too, are ignored."""
    warnings.formatwarning = lambda message, *_, **__: f"{message}\n"  # the terminal of a sweep needs no line of code
    sys.exit(0 if serve(sys.stdin) else INCOMPLETE)


if __name__ == "__main__":
    main()
