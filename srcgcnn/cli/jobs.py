"""The commands of `srcgcnn` for the jobs of a sweep: cancel, resume, cluster check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcgcnn.cli.command import add_budget, add_command, add_group, add_sweep_command, existing_run

if TYPE_CHECKING:
    import argparse

    from srcgcnn.run.paths import RunPaths


def add_job_commands(commands: Any) -> None:
    """Add the commands to a parser's subparsers."""
    cancel = add_sweep_command(
        commands, "cancel", "cancel all jobs of a sweep, or some; finished trials are kept", _cancel
    )
    cancel.add_argument("--job", action="append", metavar="ID", help="only this job (17_3); may be given several times")
    cancel.add_argument("--waiting", action="store_true", help="only jobs that wait in the queue")
    resume = add_sweep_command(commands, "resume", "resubmit the unfinished part of a sweep to the same site", _resume)
    add_budget(resume)
    check = add_command(
        add_group(commands, "cluster", "try a site file"),
        "check",
        "check that a site file works here",
        _check,
        description="Read a site file and check what it requests: here and, with --on-node, also on a compute node.",
        examples="srcgcnn cluster check slurm --on-node",
    )
    check.add_argument("name", metavar="NAME", help="cluster/NAME.toml, or a .toml file")
    check.add_argument("--folder", type=Path, default=Path(), help="a folder on the shared file system (here)")
    check.add_argument("--on-node", action="store_true", help="also run one short job and check from a node")


def _cancel(options: argparse.Namespace) -> int:
    from srcgcnn.driver.noted import stop_driver
    from srcgcnn.launch.cancel import cancel_jobs, cancel_sweep

    paths = existing_run(options.out)
    if options.job or options.waiting:
        some = cancel_jobs(paths, options.job, waiting_only=options.waiting)
        print(f"cancelled: {', '.join(some)}" if some else "this sweep has no such job")
        return 0
    if stop_driver(paths):  # one of this machine: the folder may have come from a cluster
        print("stopped; finished trials are kept, and the same command resumes")
        return 0
    over = paths.sweep_end.exists()
    cancelled = cancel_sweep(paths)
    print(f"cancelled: {', '.join(cancelled)}" if cancelled else "nothing of this sweep is running")
    if cancelled and not over:
        _end_pages(paths)
    return 0


def _end_pages(paths: RunPaths) -> None:
    """Record in MLflow that this sweep has no driver any more: so this is the one writer."""
    from srcgcnn.launch.rendezvous import read_request
    from srcgcnn.sweep.record import read_record

    uri = read_request(paths).tracking_uri
    if uri is None and not paths.mlflow_db.exists():
        return
    from srcgcnn.tracking.writer import MlflowWriter

    MlflowWriter(paths, read_record(paths).spec.name, uri).sweep_finished("", "", stopped=True)


def _resume(options: argparse.Namespace) -> int:
    from srcgcnn.cli.submission import launch_slurm
    from srcgcnn.launch.rendezvous import read_request, restored_record
    from srcgcnn.sweep.plan import plan_sweep

    paths = existing_run(options.out)
    request, record = read_request(paths), restored_record(paths)
    plan = plan_sweep(record.spec, record.data, paths, request.site.trials_per_group)
    budget = options.budget_gpu_hours or request.budget_gpu_hours
    return launch_slurm(plan, paths, request.site, request.tracking_uri, budget_gpu_hours=budget)


def _check(options: argparse.Namespace) -> int:
    from srcgcnn.launch.site import site_named
    from srcgcnn.launch.systems import batch_system

    site = site_named(options.name)
    if site.kind != "slurm":
        print(f"{options.name}: a {site.kind} site; nothing to check")
        return 0
    findings = batch_system().check(site, options.folder, on_node=options.on_node)
    for finding in findings:
        print(f"{'ok ' if finding.good else 'BAD'}  {finding.what}: {finding.detail}")
    return 0 if all(finding.good for finding in findings) else 1
