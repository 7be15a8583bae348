"""One schedule played against one sweep: the faults, a history of what was done, and the verdict."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

from tests.chaos.checker import check
from tests.chaos.faults import NothingThereError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from srcgcnn.run.paths import RunPaths
    from tests.chaos.checker import Numbers, Observation, Violation
    from tests.chaos.schedule import Fault, Schedule

POLL_S = 0.2
START_S = 300.0  # until something trains
SETTLE_S = 90.0  # until training is seen to go on after a fault; then the next one comes all the same
APPEAR_S = 30.0  # until the target of a fault is there
STUCK_S = 900.0  # without a new checkpoint, result or end, after the last fault: Ray may have to start several times


class World(Protocol):
    """Where a sweep runs, and what can happen to it."""

    paths: RunPaths

    def start(self) -> None: ...
    def tend(self) -> bool: ...
    def inject(self, fault: Fault) -> tuple[str, Callable[[], None] | None]: ...
    def settle(self) -> None: ...
    def observe(self) -> Observation: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Event:
    """What happened when: seconds since the start, a kind, and words."""

    at_s: float
    kind: str
    what: str


@dataclass(frozen=True)
class Verdict:
    """How a schedule ended.

    Attributes:
        injected: faults that were done.
        missed: faults whose target was not there in time.
        late: faults that came after the end of the sweep.
        violations: what must not be; empty is a pass.
        history: what happened.
    """

    injected: tuple[Fault, ...]
    missed: tuple[Fault, ...]
    late: tuple[Fault, ...]
    violations: tuple[Violation, ...]
    history: tuple[Event, ...]


class Player:
    """Plays one schedule."""

    def __init__(self, world: World, calm: Callable[[], Mapping[str, Numbers]], say: Callable[[str], None]) -> None:
        self._world, self._calm, self._say = world, calm, say
        self._start, self._history, self._seen = time.monotonic(), [], 0.0
        self._ends: list[tuple[float, str, Callable[[], None]]] = []

    def play(self, schedule: Schedule) -> Verdict:
        """Start the sweep, do the faults, wait for its end, and look."""
        injected, missed, late = [], [], []
        try:
            self._world.start()
            self._note("start", schedule.world)
            over = self._wait(START_S, self._trained)
            for fault in schedule.faults:
                over = over or self._pause_before(fault)
                if over:
                    late.append(fault)
                    continue
                (injected if self._inject(fault) else missed).append(fault)
            self._wait_for_end()
            self._heal()
            self._world.settle()
            seen = self._world.observe()
            self._note("end", f"status {seen.status}, {len(seen.results)} results")
        finally:
            self._heal()
            self._world.close()
        violations = tuple(check(seen, self._calm()))
        for violation in violations:
            self._note("VIOLATION", str(violation))
        return Verdict(tuple(injected), tuple(missed), tuple(late), violations, tuple(self._history))

    def _pause_before(self, fault: Fault) -> bool:
        if fault.settled and self._wait(SETTLE_S, self._went_on):
            return True
        return self._wait(fault.pause_s, lambda: False)

    def _inject(self, fault: Fault) -> bool:
        done = False

        def attempt() -> bool:
            nonlocal done
            with suppress(NothingThereError):
                what, end = self._world.inject(fault)
                self._note(f"{fault.kind} {fault.target}", what)
                if end is not None:
                    self._ends.append((time.monotonic() + fault.lasts_s, f"{fault.kind} {fault.target}", end))
                done = True
            return done

        self._wait(APPEAR_S, attempt)
        if not done:
            self._note("missed", f"{fault.kind} {fault.target}")
        self._seen = self._newest()
        return done

    def _wait(self, seconds: float, enough: Callable[[], bool]) -> bool:
        """Let time pass; returns whether the sweep is over."""
        end = time.monotonic() + seconds
        while not enough():
            self._heal(time.monotonic())
            if self._world.tend():
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(POLL_S)
        return False

    def _heal(self, until: float = float("inf")) -> None:
        """End the faults that have lasted long enough."""
        due = [entry for entry in self._ends if entry[0] <= until]
        self._ends = [entry for entry in self._ends if entry[0] > until]
        for _, what, end in due:
            end()
            self._note("end of", what)

    def _wait_for_end(self) -> None:
        """Wait as long as something is written now and then."""
        while not self._wait(STUCK_S, self._went_on):
            if not self._went_on():
                self._note("stuck", f"nothing was written for {STUCK_S:.0f} s")
                return
            self._seen = self._newest()

    def _newest(self) -> float:
        """When a checkpoint or a result was last written."""
        files = [*self._world.paths.checkpoints.glob("*.pt"), *self._world.paths.results.glob("*.json")]
        newest = 0.0
        for path in files:
            with suppress(OSError):
                newest = max(newest, path.stat().st_mtime)
        return newest

    def _trained(self) -> bool:
        return self._newest() > 0

    def _went_on(self) -> bool:
        return self._newest() > self._seen

    def _note(self, kind: str, what: str) -> None:
        event = Event(round(time.monotonic() - self._start, 1), kind, what)
        self._history.append(event)
        self._say(f"{event.at_s:7.1f} s  {kind:22} {what}")


def save(folder: Path, schedule: Schedule, verdict: Verdict) -> None:
    """Keep a schedule and its history beside the sweep."""
    (folder / "schedule.json").write_text(schedule.to_json())
    (folder / "history.json").write_text(json.dumps([asdict(event) for event in verdict.history], indent=1) + "\n")
