"""Ray's errors of one worker process stay errors of its group.

Tune (of Ray 2.60) knows the death of a process and the error of a task, and raises everything else in the driver. So a
single process that Ray ends because its node is short of memory would end the whole sweep.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError
from ray.tune.execution import tune_controller

if TYPE_CHECKING:
    from collections.abc import Iterator

ADVICE = "fewer groups at a time need less (`cpus` in the site file), or give workers more (`worker.memory_gb`)"


@contextmanager
def lost_processes_endured() -> Iterator[None]:
    """Let Tune take in the block every error that Ray has of a process as its death."""
    module: Any = tune_controller
    stock = module.RayActorManager
    module.RayActorManager = _enduring(stock)
    try:
        yield
    finally:
        module.RayActorManager = stock


def _enduring(stock: type) -> type:
    """Return Tune's keeper of processes with errors that it knows."""

    class Enduring(stock):
        def _actor_start_failed(self, tracked_actor: Any, exception: Exception) -> None:
            super()._actor_start_failed(tracked_actor, _as_death(exception))

        def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
            super()._actor_task_failed(tracked_actor_task, _as_death(exception))

    return Enduring


def _as_death(error: Exception) -> Exception:
    """Return the error as one that Tune knows, in one line: Ray's own text lists all processes of the node."""
    if not isinstance(error, RayError) or isinstance(error, RayActorError | RayTaskError):
        return error
    text = next(iter(str(error).splitlines()), "") or type(error).__name__
    return RayActorError(error_msg=f"{text}; {ADVICE}" if isinstance(error, OutOfMemoryError) else text)
