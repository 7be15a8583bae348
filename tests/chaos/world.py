"""What the worlds have in common: a fault is looked up by its kind, and done to processes, files, database or disk."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.chaos import faults
from tests.chaos.faults import NothingThereError, one_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import psutil

    from srcgcnn.run.paths import RunPaths
    from tests.chaos.schedule import Fault

    Done = tuple[str, Callable[[], None] | None]


class FaultyWorld:
    """A world with the faults that need no scheduler; others are methods of its heirs, `_` and the kind of the fault.

    Attributes:
        paths: the sweep's folder.
    """

    paths: RunPaths

    def inject(self, fault: Fault) -> Done:
        """Do a fault; returns what was done, and what ends it.

        Raises:
            NothingThereError: its target does not exist now.
        """
        action = getattr(self, f"_{fault.kind}", None)
        return action(fault) if action is not None else self._damage(fault)

    def _processes(self, name: str) -> list[psutil.Process]:
        """Return the processes of a role."""
        raise NotImplementedError

    def _damage(self, fault: Fault) -> Done:
        path = one_of(faults.files_of(self.paths, fault.target), fault.pick)
        try:
            faults.damage(fault.kind, path, fault.pick)
        except FileNotFoundError:
            raise NothingThereError from None
        return f"{path.relative_to(self.paths.out)}", None

    def _kill(self, fault: Fault) -> Done:
        process = one_of(self._processes(fault.target), fault.pick)
        faults.kill([process])
        return f"process {process.pid}", None

    def _freeze(self, fault: Fault) -> Done:
        process = one_of(self._processes(fault.target), fault.pick)
        return f"process {process.pid}", faults.freeze(process)

    def _lock(self, _fault: Fault) -> Done:
        if not self.paths.mlflow_db.exists():
            raise NothingThereError
        return "mlflow.db", faults.lock_database(self.paths.mlflow_db)

    def _full_disk(self, _fault: Fault) -> Done:
        return "OUT", faults.fill_disk(self.paths.out)


def wait_while(condition: Callable[[], object], seconds: float, pause_s: float = 1.0) -> None:
    """Return when the condition no longer holds, or the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and condition():
        time.sleep(pause_s)
