"""The driver of this machine in a child process, restarted if it dies.

Without its raylet a driver waits for ever (seen with Ray 2.60). Finished trials and checkpoints are files, so another
driver continues. On a cluster the head does this for its driver.
"""

from __future__ import annotations

import _thread
import ctypes
import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

import psutil

from srcgcnn.exit_status import ERROR, INTERRUPTED
from srcgcnn.launch.ray_processes import RayProcesses
from srcgcnn.terminal import error_line, outlive_full_disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

    from srcgcnn.launch.agent_ports import AgentPorts

MOST_DEATHS = 10  # without anything new
PR_SET_PDEATHSIG = 1  # linux/prctl.h
FORWARDED = (signal.SIGINT, signal.SIGTERM)
POLL_S = 1.0
STATUS_RAY_DIED = 70
STOPPING = b"\nstopping: the workers end and the report is written, which can take a minute\n"

_is_child = False


def supervised(run: Callable[[], int], finished: Callable[[], int]) -> int:
    """Call `run` in a child process, again if that dies without an exit status; returns the status.

    Elsewhere than on Linux a child would outlive a killed parent, so `run` is called in this process.

    Args:
        run: plans what remains, and runs it.
        finished: number of results; a driver that dies ten times without a new one is not started again.

    Raises:
        RuntimeError: the driver died too often, or this is not the main thread, the only one that gets signals.
    """
    if sys.platform != "linux":
        return run()
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a sweep on this machine must be started in the main thread, which Ctrl-C reaches")
    deaths, results = 0, finished()
    while True:
        status, how = _run_in_child(run)
        if status is not None:
            return status
        deaths = deaths + 1 if finished() <= results else 1
        results = finished()
        if deaths >= MOST_DEATHS:
            raise RuntimeError(f"the driver died {deaths} times without a new result, the last time of {how}")
        print(f"the driver died of {how}; it continues from the result files", file=sys.stderr, flush=True)


@contextmanager
def starting_ray() -> Iterator[None]:
    """End this process, for its parent to start another one, if Ray does not start in the block.

    Any of its processes may be killed, and a machine may be too busy.

    Raises:
        RuntimeError: Ray does not start, and this process has no such parent.
    """
    try:
        yield
    except (TypeError, ValueError):  # the request: another start would fail in the same way
        raise
    except Exception as error:  # Ray has no class of its own for this
        message = f"Ray did not start ({(str(error).strip().splitlines() or [type(error).__name__])[0]})"
        if _is_child:
            print(message, file=sys.stderr, flush=True)
            os._exit(STATUS_RAY_DIED)
        raise RuntimeError(f"{message}: is this machine very busy?") from error


@contextmanager
def dying_with_ray(ports: AgentPorts) -> Iterator[None]:
    """End this process, for its parent to start another one, if Ray's own processes die while the block runs.

    A process without such a parent is interrupted, as by Ctrl-C.
    """
    ray, over = RayProcesses(psutil.Process(), ports), threading.Event()

    def watch() -> None:
        while not over.wait(POLL_S):
            ray.look()
            gone = ray.dead
            if gone and not over.is_set():
                print(f"Ray died: process {gone.pid} is gone", file=sys.stderr, flush=True)
                if _is_child:
                    os._exit(STATUS_RAY_DIED)  # the watcher of this driver ends what remains of Ray
                _thread.interrupt_main()
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _run_in_child(run: Callable[[], int]) -> tuple[int | None, str]:
    """Return the status of `run`, None if the child died, and what it died of."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    parent, interrupted = os.getpid(), False
    before = {number: signal.getsignal(number) for number in FORWARDED}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # until both processes handle these signals
    child = os.fork()
    if child == 0:
        _be_the_child(run, writing, parent, mask)

    def forward(number: int, _frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(child, number)
        with suppress(OSError):  # what reads it may be gone: the same Ctrl-C ends `tee`
            os.write(2, STOPPING)  # not `print`: a handler may have interrupted one

    try:
        os.close(writing)
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:  # a shell starts `command &` so that Ctrl-C is for others
                signal.signal(number, forward)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        with os.fdopen(reading) as pipe:
            text = pipe.read()
        _, ended = os.waitpid(child, 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    signalled = os.WIFSIGNALED(ended)
    how = f"signal {os.WTERMSIG(ended)}" if signalled else f"exit status {os.waitstatus_to_exitcode(ended)}"
    if not text:
        return (INTERRUPTED if interrupted else None), how
    return int(text), how


def _be_the_child(run: Callable[[], int], writing: int, parent: int, mask: Iterable[int]) -> NoReturn:
    """Run, report the status, and exit without running the parent's exit handlers."""
    global _is_child  # noqa: PLW0603 - a property of the process
    status = 1
    try:
        _is_child = True
        os.setpgid(0, 0)  # Ctrl-C comes from the parent, once
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        outlive_full_disk()
        if os.getppid() == parent:
            status = run()
    except (KeyboardInterrupt, SystemExit):  # the second is what Ray makes of SIGTERM while it starts
        status = INTERRUPTED
    except (ValueError, OSError, RuntimeError) as error:
        status = ERROR
        print(f"srcgcnn: {error_line(error)}", file=sys.stderr)
    except BaseException:  # noqa: BLE001 - shown by the child, which knows it; another start would say the same
        import traceback

        traceback.print_exc()
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
        os.write(writing, str(status).encode())
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # nobody reads it any more
                stream.flush()
        os._exit(status)
