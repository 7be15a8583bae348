"""A sweep on a cluster, seen from the login node: show its texts, submit it, say what to do next, wait."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from srcgcnn.driver.progress import Backlog
from srcgcnn.exit_status import LOST
from srcgcnn.launch.batch import BatchError
from srcgcnn.launch.rendezvous import LaunchRequest, SweepEndRecord, read_jobs
from srcgcnn.launch.submit import submit
from srcgcnn.launch.systems import batch_system
from srcgcnn.records import read_if_whole
from srcgcnn.run.paths import make_run_folder
from srcgcnn.run.results import finished_keys
from srcgcnn.sweep.plan import plan_sweep
from srcgcnn.sweep.record import job_name
from srcgcnn.terminal import make_console

if TYPE_CHECKING:
    from rich.console import Console

    from srcgcnn.launch.slurm_site import SlurmSite
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.sweep.plan import Plan
    from srcgcnn.sweep.record import SweepRecord

FIRST_WAIT_S, LONGEST_WAIT_S = 2.0, 30.0
ASK_QUEUE_S = 60.0


def show_submission(plan: Plan, paths: RunPaths, site: SlurmSite) -> bool:
    """Print GPU-hours, every text, and the batch system's verdict on each; returns whether it would accept them."""
    console, system, accepted = make_console(), batch_system(), True
    if plan.over:
        return accepted
    console.print(f"GPU-hours: {gpu_hours(plan, site)}", soft_wrap=True)
    make_run_folder(paths)
    for name, text in system.texts(site, paths, job_name(plan.spec.name), plan.parallel_groups).items():
        console.print(f"--- sbatch text: {name}", soft_wrap=True)
        console.print(text.rstrip(), soft_wrap=True)
        taken, answer = system.verdict(text, paths.launch)
        accepted = accepted and taken
        console.print(f"--- {system.name} on it: {answer}", soft_wrap=True)
    return accepted


def gpu_hours(plan: Plan, site: SlurmSite) -> str:
    """Return the estimate of what the sweep will be charged for, in readable form."""
    if not site.worker.gpus:
        return "0 (workers train on the CPU)"
    seconds = plan.estimate_s()
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
    budget_gpu_hours: float | None = None,
) -> int:
    """Submit what remains of a plan; returns the exit status.

    Args:
        plan: what to do.
        paths: the sweep's folder.
        site: the cluster.
        tracking_uri: MLflow store; None takes the one in the folder.
        record: the present request, kept once nobody else runs this sweep; None if the folder has it.
        wait: stay and show progress.
        budget_gpu_hours: no new group is taken when the sweep has used so many.

    Raises:
        BatchError: the batch system refuses, or the sweep is submitted already.
    """
    console = make_console()
    if plan.over:
        console.print(f"nothing is left to train; results: srcgcnn results {paths.out}")
        return 0
    jobs = submit(
        batch_system(), plan, paths, LaunchRequest(site, tracking_uri, socket.getfqdn(), budget_gpu_hours), record
    )
    workers = f", workers {', '.join(jobs.workers)}" if jobs.workers else " with its workers"
    console.print(f"submitted: head {jobs.head}{workers}")
    for what, command in (
        ("status", f"srcgcnn status {paths.out}   (also shows the ssh line for the dashboard)"),
        ("logs", f"srcgcnn logs {paths.out}"),
        ("cancel", f"srcgcnn cancel {paths.out}"),
        ("results so far", f"srcgcnn results {paths.out}"),
    ):
        console.print(f"  {what:15} {command}", soft_wrap=True)
    return wait_for_end(paths, plan, console) if wait else 0


def wait_for_end(paths: RunPaths, plan: Plan, console: Console) -> int:
    """Show progress until the sweep is over. Ctrl-C, or a closed terminal, ends the waiting only."""
    pause, last_query, shown = FIRST_WAIT_S, time.monotonic(), ""
    while True:
        end = read_if_whole(SweepEndRecord, paths.sweep_end)
        line = _progress(paths, plan)
        if line != shown:
            console.print(f"{time.strftime('%T')} {line}", soft_wrap=True)
            shown, pause = line, FIRST_WAIT_S
        if end is not None:
            _wait_for_jobs(paths)
            console.print(f"results: srcgcnn results {paths.out}   MLflow: srcgcnn ui {paths.out}", soft_wrap=True)
            return end.status
        if time.monotonic() - last_query > ASK_QUEUE_S:
            last_query = time.monotonic()
            if _all_jobs_are_gone(paths):
                return _over_without_a_word(paths, plan, console)
        time.sleep(pause)
        pause = min(1.5 * pause, LONGEST_WAIT_S)


def _all_jobs_are_gone(paths: RunPaths) -> bool:
    """Whether no job is left that could continue. A batch system that does not answer for a while decides nothing."""
    try:
        return not batch_system().jobs(read_jobs(paths).all) and not paths.sweep_end.exists()
    except BatchError:
        return False


def _over_without_a_word(paths: RunPaths, plan: Plan, console: Console) -> int:
    """Say from its results how a sweep ended whose jobs are gone without a record of the end."""
    if plan_sweep(plan.spec, plan.data, paths).over:
        console.print(f"results: srcgcnn results {paths.out}   MLflow: srcgcnn ui {paths.out}", soft_wrap=True)
        return 0
    console.print(f"its jobs are gone: srcgcnn logs {paths.out}; to continue: srcgcnn resume {paths.out}")
    return LOST


def _wait_for_jobs(paths: RunPaths) -> None:
    """Return when the last job has left the queue, or after a while."""
    deadline = time.monotonic() + ASK_QUEUE_S
    try:
        while batch_system().jobs(read_jobs(paths).all) and time.monotonic() < deadline:
            time.sleep(FIRST_WAIT_S)
    except BatchError:
        return


def _progress(paths: RunPaths, plan: Plan) -> str:
    """Return trials done, and groups running and waiting."""
    keys, finished = {trial.key for trial in plan.trials}, finished_keys(paths)
    failed = len({path.stem for path in paths.failures.glob("*.json")} & keys)
    searched = plan.spec.search.proposes  # its trials are not known here: the driver proposes them
    parts = [f"{len(finished)} trials done" if searched else f"{len(finished & keys)}/{len(keys)} trials done"]
    if failed:
        parts.append(f"{failed} failed")
    backlog = read_if_whole(Backlog, paths.backlog)
    if backlog:
        parts.append(f"{backlog.running} groups training, {backlog.waiting} waiting")
    elif not paths.head_address.exists():
        parts.append("the head has not started")
    return ", ".join(parts)
