"""`--cluster slurm` on the login node: show what would be submitted, submit it, say what to do next, wait."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from srcgcnn.launch.rendezvous import Backlog, JobIds, LaunchRequest, SweepEndRecord, read_record_file
from srcgcnn.launch.slurm.queue import SlurmError, queued
from srcgcnn.launch.slurm.sbatch import job_name, sbatch_texts
from srcgcnn.launch.slurm.submit import REFUSED, submit, verdict
from srcgcnn.run.results import finished_keys
from srcgcnn.terminal import make_console

if TYPE_CHECKING:
    from rich.console import Console

    from srcgcnn.launch.slurm_site import SlurmSite
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.sweep.plan import Plan
    from srcgcnn.sweep.record import SweepRecord

FIRST_WAIT_S, LONGEST_WAIT_S = 2.0, 30.0
ASK_SLURM_S = 60.0
EXIT_LOST = 3  # the jobs are gone and the sweep is not over


def show_submission(plan: Plan, paths: RunPaths, site: SlurmSite) -> bool:
    """Print GPU-hours, every sbatch text, and what SLURM says of each; returns whether it would take them."""
    console, accepted = make_console(), True
    if plan.over:
        return accepted
    console.print(f"GPU-hours: {gpu_hours(plan, site)}", soft_wrap=True)
    for name, text in sbatch_texts(site, paths, job_name(plan.spec.name), plan.parallel_groups).items():
        console.print(f"--- sbatch text: {name}", soft_wrap=True)
        console.print(text.rstrip(), soft_wrap=True)
        said = verdict(text, paths.launch)
        accepted = accepted and not said.startswith(REFUSED)
        console.print(f"--- SLURM on it: {said}", soft_wrap=True)
    return accepted


def gpu_hours(plan: Plan, site: SlurmSite) -> str:
    """Return the estimate of what the sweep will be charged for, for people."""
    if not site.worker.gpus:
        return "0 (workers train on the CPU)"
    seconds = plan.estimate_seconds()
    if seconds is None:
        return "unknown before the first result on this data"
    used = seconds / 3600 * site.worker.gpus / site.groups_on(site.worker)
    return f"about {used:.2g}, from the times of earlier results on this data"


def launch_slurm(
    plan: Plan,
    paths: RunPaths,
    site: SlurmSite,
    tracking_uri: str | None,
    *,
    record: SweepRecord | None = None,
    wait: bool = False,
) -> int:
    """Submit what is left of a plan; returns the exit status.

    Args:
        plan: what to do.
        paths: the sweep's folder.
        site: the cluster.
        tracking_uri: MLflow store; None takes the one in the folder.
        record: what is asked for now, kept once nobody else runs this sweep; None where the folder has it.
        wait: stay and show progress.

    Raises:
        SlurmError: SLURM refuses, or the sweep is submitted already.
    """
    console = make_console()
    if plan.over:
        console.print(f"nothing is left to train; results: srcgcnn results {paths.out}")
        return 0
    jobs = submit(plan, paths, LaunchRequest(site, tracking_uri, socket.getfqdn()), record)
    workers = f", workers {', '.join(jobs.workers)}" if jobs.workers else " with its workers"
    console.print(f"submitted: head {jobs.head}{workers}")
    for what, command in (
        ("status", f"srcgcnn status {paths.out}   (shows the ssh line for the dashboard, too)"),
        ("logs", f"srcgcnn logs {paths.out}"),
        ("cancel", f"srcgcnn cancel {paths.out}"),
        ("results so far", f"srcgcnn results {paths.out}"),
    ):
        console.print(f"  {what:15} {command}", soft_wrap=True)
    return wait_for_end(paths, plan, console) if wait else 0


def wait_for_end(paths: RunPaths, plan: Plan, console: Console) -> int:
    """Show progress until the sweep is over. Ctrl-C, or a closed terminal, ends the waiting only."""
    pause, asked, shown = FIRST_WAIT_S, time.monotonic(), ""
    while True:
        end = read_record_file(paths.sweep_end, SweepEndRecord)
        line = _progress(paths, plan)
        if line != shown:
            console.print(f"{time.strftime('%T')} {line}", soft_wrap=True)
            shown, pause = line, FIRST_WAIT_S
        if end is not None:
            _wait_for_jobs(paths)
            console.print(f"results: srcgcnn results {paths.out}   MLflow: srcgcnn ui {paths.out}", soft_wrap=True)
            return end.status
        if time.monotonic() - asked > ASK_SLURM_S:
            asked = time.monotonic()
            if _head_is_gone(paths):
                console.print(f"the head job is gone: srcgcnn logs {paths.out}; to go on: srcgcnn resume {paths.out}")
                return EXIT_LOST
        time.sleep(pause)
        pause = min(1.5 * pause, LONGEST_WAIT_S)


def _head_is_gone(paths: RunPaths) -> bool:
    """Whether the head left the queue before the sweep was over. A SLURM that is away for a while says nothing."""
    jobs = read_record_file(paths.jobs, JobIds) or JobIds()
    try:
        return not queued((jobs.head,)) and not paths.sweep_end.exists()
    except SlurmError:
        return False


def _wait_for_jobs(paths: RunPaths) -> None:
    """Return when the last job has left the queue, or after a while."""
    deadline = time.monotonic() + ASK_SLURM_S
    jobs = read_record_file(paths.jobs, JobIds) or JobIds()
    try:
        while queued(jobs.all) and time.monotonic() < deadline:
            time.sleep(FIRST_WAIT_S)
    except SlurmError:
        return


def _progress(paths: RunPaths, plan: Plan) -> str:
    """Return trials done, and groups running and waiting."""
    keys, finished = {trial.key for trial in plan.trials}, finished_keys(paths)
    failed = len({path.stem for path in paths.failures.glob("*.json")} & keys)
    searched = plan.spec.search.proposes  # its trials are not known here: the driver proposes them
    parts = [f"{len(finished)} trials done" if searched else f"{len(finished & keys)}/{len(keys)} trials done"]
    if failed:
        parts.append(f"{failed} failed")
    backlog = read_record_file(paths.backlog, Backlog)
    if backlog:
        parts.append(f"{backlog.running} groups train, {backlog.waiting} wait")
    elif not paths.head_address.exists():
        parts.append("the head has not started")
    return ", ".join(parts)
