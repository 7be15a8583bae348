"""A sweep on this machine: a Ray of its own, closed to others, gone at the end."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import signal
import tempfile
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from srcgcnn.analysis.tradeoff import as_csv, as_markdown, print_tradeoff, tradeoff_of
from srcgcnn.driver.best_proposals import show_proposals
from srcgcnn.driver.display import SweepDisplay
from srcgcnn.launch.local_driver import noted_driver
from srcgcnn.launch.ray_node import ALIVE, remove_abandoned
from srcgcnn.launch.reaper import reaping
from srcgcnn.launch.token import closed_ray, write_token
from srcgcnn.run.folder import open_run
from srcgcnn.run.leftovers import remove_leftovers
from srcgcnn.run.paths import make_run_folder
from srcgcnn.sweep.ended_groups import forget_ended_groups
from srcgcnn.sweep.record import write_record
from srcgcnn.terminal import make_console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from srcgcnn.driver.tune import SweepEnd
    from srcgcnn.launch.site import LocalSite
    from srcgcnn.run.folder import Run
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.sweep.plan import Plan
    from srcgcnn.sweep.record import SweepRecord
    from srcgcnn.tracking.writer import MlflowWriter

EXIT_FAILED_TRIALS = 1
EXIT_INTERRUPTED = 130  # as a shell reports Ctrl-C
MOST_ROUNDS = 5  # of training again what was lost
TEMP_PREFIX = "srcgcnn-"
LONGEST_TEMP = 20  # characters of the temporary folder's path
OBJECT_STORE_BYTES = 256 * 2**20  # trials exchange a few numbers; Ray's default takes 30 % of the memory


class LaunchError(RuntimeError):
    """A sweep cannot start; the message says why and what to do."""


def launch_local(
    plan: Plan,
    record: SweepRecord,
    paths: RunPaths,
    site: LocalSite,
    tracking_uri: str | None,
    budget_hours: float | None = None,
) -> int:
    """Run a plan on this machine to its end and return the exit status of `conduct`.

    Raises:
        LaunchError: another driver runs this sweep.
    """
    return conduct(
        plan,
        paths,
        tracking_uri,
        lambda todo, writer, console: _run(todo, Path(record.store), paths, site, writer, console, budget_hours),
        command=record.command,
        record=record,
    )


def conduct(
    plan: Plan,
    paths: RunPaths,
    tracking_uri: str | None,
    run: Callable[[Plan, MlflowWriter, Console], SweepEnd],
    *,
    command: str,
    record: SweepRecord | None = None,
    lock_timeout_s: float = 0.0,
) -> int:
    """Be the one driver of a sweep: run what is left, write MLflow and the table, say how it ended.

    Args:
        plan: what to do.
        paths: the sweep's folder.
        tracking_uri: MLflow store; None takes the one in the folder.
        run: trains a plan's groups somewhere; not called where nothing is left, and again where results were lost.
        command: what starts the sweep again.
        record: what is asked for now, kept once nobody else runs this sweep; None where the folder has it.
        lock_timeout_s: how long to wait for another driver to end.

    Returns:
        The exit status: 0, 1 (trials failed) or 130 (interrupted).

    Raises:
        LaunchError: another driver runs this sweep.
    """
    from srcgcnn.tracking.writer import MlflowWriter

    console, opened = make_console(), open_run(paths)
    with only_driver(paths, lock_timeout_s), noted_driver(paths) if record else nullcontext():
        if record is not None:
            write_record(paths, record)
        writer = MlflowWriter(opened, plan.spec.name, tracking_uri)
        remove_leftovers(paths)
        end = None
        for todo in _rounds(plan, paths):
            if not todo.over:
                end = _together(end, run(todo, writer, console))
            rows = tradeoff_of(opened)
            if end is not None or _report_is_old(paths):
                _write_report(opened, console)
            interrupted = end is not None and end.interrupted
            writer.sweep_finished(as_markdown(rows), as_csv(rows), stopped=interrupted)
            if interrupted:
                break
        else:
            remove_leftovers(paths, nobody_writes=True)
        forget_ended_groups(plan, paths)
    if rows:
        print_tradeoff(rows, console)
    show_proposals(plan, paths, console)
    return _report(end, paths, tracking_uri, console, command)


def _rounds(plan: Plan, paths: RunPaths) -> Iterator[Plan]:
    """Yield the plan, and then what is left of it where results were removed or damaged after they were written."""
    from srcgcnn.sweep.plan import plan_sweep

    yield plan
    for _ in range(MOST_ROUNDS):
        again = plan_sweep(plan.spec, plan.data, paths, plan.group_size)
        ended = again.failed | again.stopped
        lost = tuple(group for group in again.groups if not ended.issuperset(trial.key for trial in group.trials))
        if not lost:
            return
        yield replace(again, groups=lost)


def _together(before: SweepEnd | None, now: SweepEnd) -> SweepEnd:
    """Sum up two rounds of one driver."""
    if before is None:
        return now
    finished, stopped = before.finished + now.finished, before.stopped + now.stopped
    return replace(now, finished=finished, failed=before.failed | now.failed, stopped=stopped)


def _report_is_old(paths: RunPaths) -> bool:
    """Whether there is a result that the report does not know: a driver was killed before it wrote one."""
    page = paths.report / "index.html"
    written = page.stat().st_mtime if page.exists() else 0.0
    return any(result.stat().st_mtime > written for result in paths.results.glob("*.json"))


def _write_report(run: Run, console: Console) -> None:
    """Write the report. The results are safe without it, so that whatever goes wrong here is a warning."""
    if not run.results:
        return
    try:
        from srcgcnn.analysis.report import write_report

        console.print(f"report: {write_report(run)}", soft_wrap=True)
    except Exception as error:  # noqa: BLE001 - matplotlib, pandas, parsers: anything, and no sweep fails for a figure
        again = f"srcgcnn report {shlex.quote(str(run.paths.out))}"
        console.print(f"the report was not written ({type(error).__name__}: {error}); try: {again}", soft_wrap=True)


@contextmanager
def only_driver(paths: RunPaths, timeout_s: float) -> Iterator[None]:
    """Hold the lock of a sweep, in its folder, which is made.

    Raises:
        LaunchError: another driver runs this sweep.
    """
    make_run_folder(paths)
    try:
        # 0600: whoever can open the file, if only to read it, could hold the lock
        with FileLock(paths.driver_lock, timeout=timeout_s, mode=0o600):
            yield
    except Timeout:
        raise LaunchError(
            f"another driver runs the sweep in {paths.out}; wait for it, or choose another --out"
        ) from None


def _run(
    plan: Plan,
    store_folder: Path,
    paths: RunPaths,
    site: LocalSite,
    writer: MlflowWriter,
    console: Console,
    budget_hours: float | None,
) -> SweepEnd:
    console.print("starting Ray on this machine ...")
    with private_folder() as scratch, reaping(scratch), local_ray(paths, site, scratch, console) as gpus:
        from srcgcnn.driver.tune import GroupResources, run_on_tune

        if (site.gpus_per_group or 0) > gpus:
            raise LaunchError(f"gpus_per_group={site.gpus_per_group}, but Ray finds {gpus:g} GPUs on this machine")
        resources = GroupResources(
            cpus=site.cpus_per_group,
            gpus=min(gpus, 1.0) if site.gpus_per_group is None else site.gpus_per_group,
            max_retries=site.max_retries,
            checkpoint_interval_s=site.checkpoint_interval_s,
        )
        with terminating_as_ctrl_c(), SweepDisplay(plan, console) as display:
            return run_on_tune(plan, store_folder, paths, resources, writer, display, budget_hours=budget_hours)


@contextmanager
def terminating_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does: groups stop, results stay. Ray's own handler ends with its crash report."""
    before = signal.signal(signal.SIGTERM, lambda _number, _frame: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def private_folder() -> Iterator[Path]:
    """Make a folder for Ray's sockets and logs that only this user can enter; it is removed at the end.

    Ray opens its own folder to everybody, and a socket path must stay below 107 bytes, of which Ray takes 68.
    """
    parent = tempfile.gettempdir()
    parent = parent if len(parent) <= LONGEST_TEMP else "/tmp"  # noqa: S108
    remove_abandoned(Path(parent).glob(f"{TEMP_PREFIX}{'?' * 8}"))
    folder = Path(tempfile.mkdtemp(prefix=TEMP_PREFIX, dir=parent))
    alive = FileLock(folder / ALIVE, is_singleton=False)
    alive.acquire()
    try:
        yield folder
    finally:
        alive.release()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def local_ray(paths: RunPaths, site: LocalSite, scratch: Path, console: Console) -> Iterator[float]:
    """Start a Ray of this sweep only; yields its number of GPUs. Never joins a cluster that somebody else runs."""
    token = write_token(paths.ray_token)
    os.environ.update(closed_ray(token))
    os.environ.pop("RAY_ADDRESS", None)
    import ray

    context = ray.init(
        address="local",
        num_cpus=site.usable_cpus,
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=site.dashboard,
        dashboard_host="127.0.0.1",
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=str(scratch / "r"),  # a folder below: Ray makes it 0777
    )
    try:
        if site.dashboard and context.dashboard_url:
            console.print(f"Ray dashboard: http://{context.dashboard_url}  (asks for the token in {token})")
        yield float(ray.cluster_resources().get("GPU", 0.0))
    finally:
        ray.shutdown()


def _report(end: SweepEnd | None, paths: RunPaths, tracking_uri: str | None, console: Console, command: str) -> int:
    """Say how it ended and what to do next."""
    if end is not None and end.interrupted and paths.budget_used.exists():
        used = paths.budget_used.read_text(encoding="utf-8").strip()
        again = f"the same command goes on with a larger --budget-gpu-hours: {command}"
        console.print(f"Stopped: {used}. Finished trials are kept; {again}", soft_wrap=True)
        return EXIT_INTERRUPTED
    if end is not None and end.interrupted:
        console.print(f"Stopped. Finished trials are kept; the same command goes on: {command}", soft_wrap=True)
        return EXIT_INTERRUPTED
    if end is not None and end.failed:
        console.print(f"{len(end.failed)} trials failed:")
        for label, reason in end.failed.values():
            console.print(f"  {label}: {reason.splitlines()[-1]}")
        console.print(f"reasons and logs: {paths.failures}")
        return EXIT_FAILED_TRIALS
    if end is not None and end.stopped:
        console.print(f"{end.stopped} trials were stopped early; without --scheduler they go on from their checkpoints")
    out = shlex.quote(str(paths.out))
    pages = tracking_uri or f"srcgcnn ui {out}"
    console.print(f"results: {paths.results}   again: srcgcnn results {out}   MLflow: {pages}", soft_wrap=True)
    return 0
