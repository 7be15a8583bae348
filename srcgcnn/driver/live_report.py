"""The report while the sweep runs: rewritten now and then, by its own process, with what is finished."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from srcgcnn.driver.state import Listener

if TYPE_CHECKING:
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.run.trial_result import TrialResult

FIRST_S = 60.0  # short sweeps write one report, at their end
MOST_SHARE = 20  # writing takes a twentieth of the time at most, of one core, at the lowest priority
END_S = 10.0


class LiveReport(Listener):
    """Starts the writer when there are new results; one at a time. After a failure the previous report is kept.

    Args:
        paths: the sweep's folder.
        first_s: seconds before the first report, and at least between two.
    """

    def __init__(self, paths: RunPaths, first_s: float = FIRST_S) -> None:
        self._paths, self._pause_s = paths, first_s
        self._process: subprocess.Popen[bytes] | None = None
        self._news, self._began, self._due = False, 0.0, time.monotonic() + first_s

    def trial_finished(self, result: TrialResult) -> None:  # noqa: ARG002 - the writer reads the files
        """Record that there is something new."""
        self._news = True

    def ticked(self) -> None:
        """Start the writer when it is time, or notice that it has ended."""
        if self._process is not None:
            if self._process.poll() is not None:
                self._due = time.monotonic() + max(self._pause_s, MOST_SHARE * (time.monotonic() - self._began))
                self._process = None
        elif self._news and time.monotonic() >= self._due:
            self._news, self._began = False, time.monotonic()
            command = [sys.executable, "-m", "srcgcnn.analysis.live", str(self._paths.out.resolve())]
            silent = subprocess.DEVNULL
            try:  # its own session: Ctrl-C is for the driver
                self._process = subprocess.Popen(
                    command, stdin=silent, stdout=silent, stderr=silent, start_new_session=True
                )
            except OSError:  # no room for a process at the moment
                self._news, self._due = True, time.monotonic() + self._pause_s

    def end(self) -> None:
        """Stop the writer: the driver writes the last report itself."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
