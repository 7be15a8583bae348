"""Processes that turn rows of strangers into graphs; a row that hangs, kills or fills its process costs that row only.

A worker sends every row back as soon as it is done, so that the parent knows which one killed it. What Python can
interrupt is ended by a timer inside the process; a loop in compiled code by the kernel, which ends the process.
"""

from __future__ import annotations

import math
import os
import signal
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection, get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from srcgcnn.data.limits import SourceLimits

Row = TypeVar("Row")
Done = TypeVar("Done")

TASKS_AHEAD = 4  # finished or under way per worker, while an earlier task takes long
GRACE_S = 5  # between the timer, which Python code obeys, and the kernel's limit, which ends the process
AGAIN_S = 1.0  # the timer fires again if a library swallowed the first one


class OutOfTimeError(BaseException):
    """The processor time of a row is used up; not an Exception, since parsers catch those."""


class WorkerStartError(RuntimeError):
    """A worker process ended before it took any row."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTimeError inside the block after that much processor time; in a main thread only."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGPROF) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGPROF, _out_of_time)
    signal.setitimer(signal.ITIMER_PROF, seconds, AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, signal.SIG_DFL)


def _out_of_time(*_: Any) -> None:
    raise OutOfTimeError


@dataclass
class _Worker(Generic[Row]):
    """A process with the task that it has: `done` of its rows came back."""

    process: BaseProcess
    pipe: Connection
    number: int = -1
    rows: Sequence[Row] = ()
    done: list[Any] = field(default_factory=list)
    tries: int = 0  # of the row under way


class RowWorkers(Generic[Row, Done]):
    """A pool of processes, used as a context."""

    def __init__(
        self,
        processes: int,
        work: Callable[[Row], Done],
        lost: Callable[[Row, str], Done],
        limits: SourceLimits,
        *,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            processes: how many.
            work: what is done with a row, in another process; must be picklable.
            lost: returns the result for a row whose process died, given the reason.
            limits: time and memory of a row.
            prepare: called once in every process, before time and memory count; must be picklable.
        """
        self._processes, self._work, self._lost, self._limits = processes, work, lost, limits
        self._prepare = prepare
        self._context = get_context(
            "spawn"
        )  # the parent may hold threads (progress bar, Ray), which do not survive a fork
        self._workers: list[_Worker[Row]] = []

    def __enter__(self) -> RowWorkers[Row, Done]:
        """Start the processes."""
        try:
            self._workers = [self._start() for _ in range(self._processes)]
            for worker in self._workers:
                self._await(worker)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()

    def map(self, tasks: Iterable[Sequence[Row]]) -> Iterator[list[Done]]:
        """Yield what was done with the rows of each task, in order, with a bounded number of tasks under way."""
        coming, finished = enumerate(tasks), dict[int, list[Done]]()
        given, yielded, more = 0, 0, True
        while True:
            for worker in self._workers:
                if more and worker.number < 0 and given - yielded < TASKS_AHEAD * self._processes:
                    number, rows = next(coming, (-1, ()))
                    more = number >= 0
                    if more:
                        given = number + 1
                        self._give(worker, number, rows)
            if yielded in finished:
                yield finished.pop(yielded)
                yielded += 1
            elif yielded == given and not more:
                return
            else:
                self._collect(finished)

    def _give(self, worker: _Worker[Row], number: int, rows: Sequence[Row]) -> None:
        worker.number, worker.rows, worker.done, worker.tries = number, rows, [], 0
        with suppress(OSError):  # a worker that has died is seen when its answer is read
            worker.pipe.send(rows)

    def _collect(self, finished: dict[int, list[Done]]) -> None:
        """Read the workers' answers, or wait for them."""
        busy = {worker.pipe: worker for worker in self._workers if worker.number >= 0}
        for pipe in connection.wait(list(busy)):
            worker = busy[pipe]  # type: ignore[index]
            try:
                worker.done.append(worker.pipe.recv())
                worker.tries = 0
            except (EOFError, OSError):
                worker = self._replace(worker)
            if len(worker.done) == len(worker.rows):
                finished[worker.number] = worker.done
                worker.number = -1

    def _replace(self, dead: _Worker[Row]) -> _Worker[Row]:
        """Replace a process that died; the new one tries the row that killed it once more, or continues after it."""
        dead.process.join()
        dead.pipe.close()
        reason = _death(dead.process.exitcode or 0, self._limits)
        worker = self._start()
        self._workers[self._workers.index(dead)] = worker
        self._await(worker)
        worker.number, worker.rows, worker.done, worker.tries = dead.number, dead.rows, dead.done, dead.tries + 1
        # once more: somebody else may have ended the process; not after its time, which was its own
        if worker.tries > 1 or dead.process.exitcode == -signal.SIGXCPU:
            worker.done.append(self._lost(worker.rows[len(worker.done)], reason))
            worker.tries = 0
        if left := worker.rows[len(worker.done) :]:
            with suppress(OSError):
                worker.pipe.send(left)
        return worker

    def _start(self) -> _Worker[Row]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(theirs, self._work, self._prepare, self._limits), daemon=True
        )
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _await(self, worker: _Worker[Row]) -> None:
        """Wait until a worker has started."""
        try:
            worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            raise WorkerStartError(
                f"a worker process ended at its start (exit status {worker.process.exitcode}); its message is above"
            ) from None


def _death(exitcode: int, limits: SourceLimits) -> str:
    if exitcode == -signal.SIGXCPU:
        return f"took more than {limits.seconds:g} s of processor time"
    how = f"signal {-exitcode}" if exitcode < 0 else f"exit status {exitcode}"
    return f"ended the process that worked on it ({how}), twice"


def _serve(
    pipe: Connection, work: Callable[[Any], Any], prepare: Callable[[], None] | None, limits: SourceLimits
) -> None:
    """Work on rows until the parent hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # interrupts are the parent's
    if prepare:
        prepare()
    pipe.send("ready")
    _limit_memory(limits)
    with suppress(EOFError, OSError):
        while rows := pipe.recv():
            for row in rows:
                _limit_processor_time(limits)
                pipe.send(work(row))


def _limit_memory(limits: SourceLimits) -> None:
    """Let allocations fail beyond what this process has now and `memory_gib`; no image of the process is written."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with suppress(OSError, ValueError):  # no /proc, or a limit of the site that is lower
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        address_space = pages * os.sysconf("SC_PAGE_SIZE") + int(limits.memory_gib * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (address_space, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _limit_processor_time(limits: SourceLimits) -> None:
    """Let the kernel end this process if the next row takes much more than its time."""
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(usage.ru_utime + usage.ru_stime + limits.seconds + GRACE_S)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))
