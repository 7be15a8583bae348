"""`srcgcnn logs`: the log of a trial, or of a job."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcgcnn.cli.command import add_sweep_command, existing_run

if TYPE_CHECKING:
    from srcgcnn.run.paths import RunPaths

FOLLOW_PAUSE_S = 1.0


def add_logs_command(commands: Any) -> None:
    """Add the command to a parser's subparsers."""
    logs = add_sweep_command(
        commands, "logs", "the log of a trial, of a sweep's head or job, or why trials failed", _logs
    )
    logs.add_argument("trial", nargs="?", metavar="TRIAL", help="beginning of a key, or a part of a label")
    logs.add_argument("--job", metavar="ID", help="a job as `status` names it (17 or 17_3); default: the head")
    logs.add_argument("--failed", action="store_true", help="failed trials with the end of their logs")
    logs.add_argument("--follow", action="store_true", help="print new lines as they come, until Ctrl-C")
    logs.add_argument("--lines", type=_positive, default=40, metavar="N", help="last N lines (40)")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of lines (1 or more)")
    return int(text)


def _logs(options: argparse.Namespace) -> int:
    from srcgcnn.run.failures import read_failures

    paths = existing_run(options.out)
    if options.failed and (options.trial or options.job or options.follow):
        raise ValueError("--failed shows all failed trials: leave out TRIAL, --job and --follow")
    if options.trial and options.job:
        raise ValueError(f"the log of trial {options.trial!r} or of job {options.job}: give one of them")
    if options.failed:
        for failure in read_failures(paths):
            print(f"==> {failure.key} {failure.label}: {failure.reason}")
            if failure.log:
                print(tail(Path(failure.log), options.lines))
        return 0
    files = log_files(paths, options.job, options.trial)
    for path in files:
        print(f"==> {path}")
        print(tail(path, options.lines))
    if options.follow:
        follow(files[-1])
    return 0


def log_files(paths: RunPaths, job: str | None, trial: str | None = None) -> list[Path]:
    """Return the log of a trial, by a part of its key or label; else of a job, or of the head.

    A job is named `17_3`; `17` is all of an array, or all ranks of a gang.

    Raises:
        FileNotFoundError: there is none; those that exist are named.
    """
    from srcgcnn.launch.rendezvous import read_jobs
    from srcgcnn.run.log import find_log

    ids = read_jobs(paths)
    if trial is not None or not (job or ids.head):
        return [find_log(paths, trial or "").path]
    job_id = job or ids.head
    found = sorted(paths.job_logs.glob(f"{job_id}_*_log.out")) if job_id else []
    if not found:
        # a log is named by job and rank: 17_3_0_log.out
        known = ", ".join(sorted({path.name.rsplit("_", 2)[0] for path in paths.job_logs.glob("*_log.out")}))
        raise FileNotFoundError(f"no log of job {job_id or '(none submitted)'} yet; jobs with a log: {known or 'none'}")
    return found


def tail(path: Path, lines: int) -> str:
    """Return the last lines of a file."""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def follow(path: Path) -> None:
    """Print what is written to a log from now on, until Ctrl-C. Polls: shared file systems do not notify of changes."""
    with path.open(encoding="utf-8", errors="replace") as stream:
        stream.seek(0, os.SEEK_END)
        while True:
            text = stream.read()
            print(text, end="", flush=True)
            time.sleep(0.0 if text else FOLLOW_PAUSE_S)
