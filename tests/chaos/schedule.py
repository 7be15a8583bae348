"""Schedules of faults: made from a seed, written as JSON, shrunk to what fails. Nothing acts here."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PICKS = 1000
LONGEST_PAUSE_S = 4.0
BURST = 0.35  # share of faults that come while the one before is still being recovered from
LASTS_S = {  # of what ends by itself
    "freeze": (10.0, 10.0),
    "lock": (3.0, 15.0),
    "partition": (5.0, 40.0),
    "node_down": (5.0, 30.0),
    "power_cut": (2.0, 25.0),
    "controller": (2.0, 10.0),
    "full_disk": (5.0, 20.0),
}
CLOCK_STEPS_S = (-7200.0, -90.0, -5.0, 5.0, 90.0, 7200.0)


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        kind: what is done, such as `kill`.
        target: to which of the processes, files or nodes, as the world calls them.
        pick: which one where there are several, and other chances of the fault: 0 to 999.
        pause_s: how long to wait before it.
        settled: whether to wait, before that pause, until the sweep is seen to go on after the last fault.
        lasts_s: how long it lasts, where it ends by itself; of a clock, by how much it is stepped.
    """

    kind: str
    target: str
    pick: int = 0
    pause_s: float = 0.0
    settled: bool = False
    lasts_s: float = 0.0

    def __str__(self) -> str:
        lasting = f" {self.lasts_s:g} s" if self.lasts_s else ""
        return f"{self.kind} {self.target}{lasting} ({'settled, ' if self.settled else ''}after {self.pause_s:g} s)"


@dataclass(frozen=True)
class Choice:
    """What a world offers to a schedule: a kind of fault on a target, and how often relative to the others."""

    kind: str
    target: str
    weight: int


@dataclass(frozen=True)
class Schedule:
    """The faults that one sweep meets, in their order."""

    world: str
    seed: int
    round: int
    faults: tuple[Fault, ...]

    def to_json(self) -> str:
        """Return the schedule as text; `from_json` gives it back."""
        lines = ",\n  ".join(json.dumps(asdict(fault)) for fault in self.faults)
        head = f'"world": {json.dumps(self.world)}, "seed": {self.seed}, "round": {self.round}'
        return f'{{{head}, "faults": [\n  {lines}\n]}}\n'

    @classmethod
    def from_json(cls, text: str) -> Schedule:
        """Read a schedule; an unknown key is an error."""
        data = json.loads(text)
        return cls(**{**data, "faults": tuple(Fault(**fault) for fault in data["faults"])})

    def only(self, faults: Sequence[Fault]) -> Schedule:
        """Return the schedule with fewer faults."""
        return replace(self, faults=tuple(faults))


def generate(world: str, menu: Sequence[Choice], seed: int, number: int, count: int) -> Schedule:
    """Return round `number` of a seed. Equal arguments give equal schedules, whatever the other rounds are."""
    chance = random.Random(f"{world}/{seed}/{number}")
    weights = [choice.weight for choice in menu]
    return Schedule(world, seed, number, tuple(_fault(chance, menu, weights) for _ in range(count)))


def _fault(chance: random.Random, menu: Sequence[Choice], weights: Sequence[int]) -> Fault:
    (choice,) = chance.choices(menu, weights)
    settled = chance.random() > BURST
    lasts = (
        chance.choice(CLOCK_STEPS_S) if choice.kind == "clock" else chance.uniform(*LASTS_S.get(choice.kind, (0, 0)))
    )
    pause_s = chance.uniform(0.0, LONGEST_PAUSE_S)
    return Fault(choice.kind, choice.target, chance.randrange(PICKS), round(pause_s, 1), settled, round(lasts, 1))


def shrink(faults: Sequence[Fault], fails: Callable[[Sequence[Fault]], bool]) -> tuple[Fault, ...]:
    """Return a part of the faults that still fails and of which no single one can be left out (ddmin).

    Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002. Hypothesis shrinks better, but
    needs hundreds of runs that all end alike. A run here takes a minute, and what a kill meets differs between runs.
    ddmin takes few runs, and a run that passes by luck only leaves a fault too many.
    """
    left, parts = tuple(faults), 2
    while len(left) > 1:
        size = -(-len(left) // parts)
        chunks = [left[at : at + size] for at in range(0, len(left), size)]
        found = next((chunk for chunk in chunks if fails(chunk)), None)
        if found is not None:
            left, parts = found, 2
            continue
        rests = [tuple(f for j, other in enumerate(chunks) if j != i for f in other) for i in range(len(chunks))]
        rest = next((rest for rest in rests if rest and rest not in chunks and fails(rest)), None)
        if rest is not None:
            left, parts = rest, max(parts - 1, 2)
        elif size == 1:
            break
        else:
            parts = min(2 * parts, len(left))
    return left
