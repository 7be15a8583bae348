"""The one driver of a sweep: trains what remains, informs listeners, writes report and tables, says how it ended."""

from __future__ import annotations

import shlex
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from srcgcnn.analysis.answer import answer_lines
from srcgcnn.analysis.tradeoff import as_csv, as_markdown, print_tradeoff, tradeoff_of
from srcgcnn.driver.best_proposals import show_proposals
from srcgcnn.driver.display import SweepDisplay
from srcgcnn.driver.live_report import LiveReport
from srcgcnn.driver.noted import noted_driver
from srcgcnn.driver.progress import BacklogFile, ProgressFile
from srcgcnn.driver.spending import Spending
from srcgcnn.driver.state import SweepState
from srcgcnn.driver.tracker import TrackerListener
from srcgcnn.exit_status import IN_PART, INTERRUPTED
from srcgcnn.run.folder import open_run
from srcgcnn.run.leftovers import remove_leftovers
from srcgcnn.run.paths import make_run_folder
from srcgcnn.sweep.ended_groups import forget_ended_groups
from srcgcnn.sweep.record import write_record
from srcgcnn.terminal import counted, make_console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from rich.console import Console

    from srcgcnn.driver.resources import GroupResources
    from srcgcnn.driver.tracker import Tracker
    from srcgcnn.run.folder import Run
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.sweep.plan import Plan
    from srcgcnn.sweep.record import SweepRecord

    Cluster = Callable[[Console], AbstractContextManager[GroupResources]]
    RunGroups = Callable[[SweepState, Path, Run, GroupResources], bool]

MOST_ROUNDS = 5  # of training again what was lost


class AnotherDriverError(RuntimeError):
    """Another driver runs this sweep."""


def conduct(
    plan: Plan,
    paths: RunPaths,
    cluster: Cluster,
    tracker: Tracker,
    *,
    store: Path,
    command: str,
    pages: str = "",
    record: SweepRecord | None = None,
    lock_timeout_s: float = 0.0,
    budget_hours: float | None = None,
    run_groups: RunGroups | None = None,
) -> int:
    """Be the one driver of a sweep.

    Args:
        plan: what to do.
        paths: the sweep's folder.
        cluster: connects to Ray for as long as groups train, and says what a group gets; not called if nothing
            remains.
        tracker: shows the sweep.
        store: folder of the graphs.
        command: what starts the sweep again.
        pages: where the tracker's pages are; by default in the folder.
        record: the present request, kept once nobody else runs this sweep; None if the folder has it.
        lock_timeout_s: how long to wait for another driver to end.
        budget_hours: of the whole sweep (`Spending`); no new group is taken once they are used up.
        run_groups: trains all groups of a state and reports to it; by default on Ray Tune.

    Returns:
        The exit status: 0, 1 (trials failed) or 130 (interrupted).

    Raises:
        AnotherDriverError: another driver runs this sweep.
    """
    console, opened, ended = make_console(), open_run(paths), _Ended()
    with only_driver(paths, lock_timeout_s), noted_driver(paths) if record else nullcontext():
        if record is not None:
            write_record(paths, record)
        remove_leftovers(paths)
        for todo in _rounds(plan, paths):
            if not todo.over:
                state = SweepState(todo)
                complete = _run(state, opened, cluster, tracker, store, console, budget_hours, run_groups)
                ended = ended.then(state, interrupted=not complete)
            rows = tradeoff_of(opened)
            if not todo.over or _report_is_old(paths):
                _write_report(opened, console)
            written = tracker.sweep_finished(as_markdown(rows), as_csv(rows), stopped=ended.interrupted)
            if ended.interrupted:
                break
        else:
            remove_leftovers(paths, nobody_writes=True)
        forget_ended_groups(plan, paths)
    if rows:
        print_tradeoff(rows, console)
    show_proposals(plan, paths, console)
    for line in () if ended.interrupted else answer_lines(opened):
        console.print(line, soft_wrap=True)
    out = shlex.quote(str(paths.out))
    later = f"incomplete; when it answers: srcgcnn track {out} --tracking-uri {shlex.quote(pages)}"
    shown = (pages if written else later) if pages else f"srcgcnn ui {out}"
    return _say_how_it_ended(ended, paths, console, command, shown)


@dataclass(frozen=True)
class _Ended:
    """How the rounds of one driver ended: failed trials with label and reason, and how many a scheduler stopped."""

    failed: dict[str, tuple[str, str]] = field(default_factory=dict)
    stopped: int = 0
    interrupted: bool = False

    def then(self, state: SweepState, *, interrupted: bool) -> _Ended:
        """Sum up with one more round."""
        return _Ended(self.failed | state.failed, self.stopped + len(state.stopped), interrupted)


def _rounds(plan: Plan, paths: RunPaths) -> Iterator[Plan]:
    """Yield the plan, and then what remains of it if results were removed or damaged after they were written."""
    yield plan
    for _ in range(MOST_ROUNDS):
        again = plan.again(paths)
        over = again.failed | again.stopped
        lost = tuple(group for group in again.groups if not over.issuperset(trial.key for trial in group.trials))
        if not lost:
            return
        yield replace(again, groups=lost)


def _run(
    state: SweepState,
    run: Run,
    cluster: Cluster,
    tracker: Tracker,
    store: Path,
    console: Console,
    budget_hours: float | None,
    run_groups: RunGroups | None,
) -> bool:
    """Train what remains; returns whether it came to its end."""
    paths = run.paths
    with cluster(console) as resources:
        if run_groups is None:
            from srcgcnn.driver.tune import run_on_tune  # Ray reads its token when it is imported
        train = run_groups or run_on_tune
        progress, display = ProgressFile(paths, state), SweepDisplay(state, console)
        spending = Spending(paths, state, resources.cpus, resources.gpus, budget_hours)
        live = LiveReport(paths)
        for listener in (spending, display, progress, BacklogFile(paths, state), TrackerListener(tracker), live):
            state.listen(listener)
        with display:
            try:
                return train(state, store, run, resources)
            finally:
                live.end()
                spending.end()
                progress.write(ended=True)


def _report_is_old(paths: RunPaths) -> bool:
    """Whether there is a result that the report does not know: a driver was killed before it wrote one."""
    page = paths.report / "index.html"
    written = page.stat().st_mtime if page.exists() else 0.0
    return any(result.stat().st_mtime > written for result in paths.results.glob("*.json"))


def _write_report(run: Run, console: Console) -> None:
    """Write the report. The results are safe without it, so whatever goes wrong here is only a warning."""
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
        AnotherDriverError: another driver runs this sweep.
    """
    make_run_folder(paths)
    try:
        # 0600: anyone who can open the file, even only to read it, could hold the lock
        with FileLock(paths.driver_lock, timeout=timeout_s, mode=0o600):
            yield
    except Timeout:
        raise AnotherDriverError(
            f"another driver is running the sweep in {paths.out}; wait for it, or choose another --out (if you know "
            f"that there is none, and this file system has no locks: delete {paths.driver_lock})"
        ) from None


def _say_how_it_ended(ended: _Ended, paths: RunPaths, console: Console, command: str, pages: str) -> int:
    """Say how it ended and what to do next; returns the exit status."""
    if ended.interrupted and paths.budget_used.exists():
        used = paths.budget_used.read_text(encoding="utf-8").strip()
        again = f"the same command continues with a larger --budget-gpu-hours: {command}"
        console.print(f"Stopped: {used}. Finished trials are kept; {again}", soft_wrap=True)
        return INTERRUPTED
    if ended.interrupted:
        console.print(f"Stopped. Finished trials are kept; the same command resumes: {command}", soft_wrap=True)
        return INTERRUPTED
    if ended.failed:
        console.print(f"{counted(len(ended.failed), 'trial')} failed:")
        for label, reason in ended.failed.values():
            console.print(f"  {label}: {reason.splitlines()[-1]}")
        console.print(f"reasons and logs: {paths.failures}")
        return IN_PART
    if ended.stopped:
        console.print(
            f"stopped early: {counted(ended.stopped, 'trial')}; without --scheduler, checkpoints are continued"
        )
    out = shlex.quote(str(paths.out))
    console.print(f"results: {paths.results}   again: srcgcnn results {out}   MLflow: {pages}", soft_wrap=True)
    return 0
