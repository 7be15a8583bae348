"""How fast networks train here, from their first steps, in its own process: a plan imports no torch.

`python -m srcgcnn.driver.timing` reads a `TimingOrder` from its input and prints one `TimedGroup` per line.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcgcnn.driver.pace import EVALUATION, WARM_STEPS
from srcgcnn.records import as_dict, parse, record
from srcgcnn.sweep.cost import Timing, least_rows, work
from srcgcnn.sweep.plan import TrialGroup

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from srcgcnn.data.store import GraphStore
    from srcgcnn.run.trial import TrialConfig
    from srcgcnn.training.epoch import EpochReport
    from srcgcnn.training.trainer import GroupTrainer

SHAPE_S = 0.5  # of timed steps, and at least
LEAST_STEPS = 2
ALL_S = 20.0  # after which no other shape is started: the rest lies on a line in depth
PATIENCE = 3  # after so many times longer the process is ended


class NoTimingError(RuntimeError):
    """Nothing could be timed."""


@record
class TimingOrder:
    """What to time: the folder of the graphs, threads of a worker, and the groups in their order."""

    store: str
    cpus: int
    groups: tuple[dict[str, Any], ...]


@record
class TimedGroup:
    """Seconds of an epoch of one trial of a group, and its training rows."""

    key: str
    epoch_s: float
    rows: int


def time_groups(groups: Iterable[TrialGroup], store: Path, cpus: int) -> tuple[Timing, ...]:
    """Time the first steps of one group of each shape, on this machine; at least the ends of every family.

    Args:
        groups: what is to be trained.
        store: folder of the graphs.
        cpus: threads of a worker.

    Raises:
        NoTimingError: not even one group took its first steps, or none within a minute.
    """
    chosen = one_of_each_shape(groups)
    order = json.dumps(as_dict(TimingOrder(str(store), cpus, tuple(group.to_dict() for group in chosen))))
    command = [sys.executable, "-m", "srcgcnn.driver.timing"]
    try:
        ended = subprocess.run(
            command, input=order, capture_output=True, text=True, timeout=PATIENCE * ALL_S, check=False
        )
        output, why = ended.stdout, ended.stderr.strip().rpartition("\n")[2]
    except subprocess.TimeoutExpired as late:
        output, why = (late.stdout or b"").decode(), f"the first steps take more than {PATIENCE * ALL_S:.0f} s"
    timed = [parse(TimedGroup, json.loads(line), command[-1]) for line in output.splitlines() if line.endswith("}")]
    if not timed:
        raise NoTimingError(why)
    trials = {group.key: group.trials[0] for group in chosen}
    return tuple(Timing(trials[one.key], one.epoch_s, one.rows) for one in timed)


def one_of_each_shape(groups: Iterable[TrialGroup]) -> list[TrialGroup]:
    """Return one group of each shape: of every family the shortest and the longest first, which make a line."""
    shapes = {group.trials[0].shape: group for group in groups}
    families: dict[str, list[TrialGroup]] = {}
    rows = least_rows(group.trials[0] for group in shapes.values())
    for group in sorted(shapes.values(), key=lambda group: work(group.trials[0], rows)):
        families.setdefault(group.trials[0].model.family, []).append(group)
    ends = {id(group): group for family in families.values() for group in (family[0], family[-1])}
    return [*ends.values(), *(group for group in shapes.values() if id(group) not in ends)]


def timed_epoch(trials: Sequence[TrialConfig], store: GraphStore) -> tuple[float, int]:
    """Train the first steps of a group; returns the seconds of an epoch of one trial, and its training rows."""
    from srcgcnn.training.trainer import GroupTrainer, InterruptedGroupError

    trainer = GroupTrainer([replace(one, training=replace(one.training, start=None)) for one in trials], store)
    steps = _FirstSteps(trainer)
    with suppress(InterruptedGroupError):
        trainer.train(steps.epoch, steps.enough)
    return steps.epoch_s / len(trials), trainer.rows_of("train").shape[1]


class _FirstSteps:
    """Counts the steps of a trainer after the warm-up; evaluations count as the steps that take as long."""

    def __init__(self, trainer: GroupTrainer) -> None:
        self._trainer = trainer
        trained, evaluated = (trainer.rows_of(part).shape[1] for part in ("train", "val"))
        self._evaluation = EVALUATION * evaluated / trainer.batch_size
        self._of_epoch = -(-trained // trainer.batch_size) + self._evaluation
        self._steps, self._done, self._began = 0, 0.0, 0.0

    def enough(self) -> bool:
        """Record a step; returns whether enough were timed."""
        self._steps += 1
        if self._steps <= WARM_STEPS:
            self._began = self._seconds()
            return False
        self._done += 1
        return self._steps >= WARM_STEPS + LEAST_STEPS and self._seconds() - self._began >= SHAPE_S

    def epoch(self, _reports: list[EpochReport]) -> None:
        """Record an evaluation."""
        self._done += self._evaluation

    @property
    def epoch_s(self) -> float:
        """Seconds of an epoch."""
        return (self._seconds() - self._began) / max(self._done, 1.0) * self._of_epoch

    def _seconds(self) -> float:
        import torch

        if self._trainer.device.type == "cuda":
            torch.cuda.synchronize(self._trainer.device)
        return self._trainer.seconds  # without what the trial is not charged for


def main() -> int:
    """Time the groups of the input, as long as there is time."""
    import torch

    import srcgcnn.training.trainer  # noqa: F401 - the import is not what is timed
    from srcgcnn.data.store import GraphStore

    order = parse(TimingOrder, json.load(sys.stdin), "the order")
    torch.set_num_threads(order.cpus)
    store = GraphStore(Path(order.store))
    began = time.monotonic()
    for group in (TrialGroup.from_dict(group, "the group to be timed") for group in order.groups):
        if time.monotonic() - began > ALL_S:
            break
        epoch_s, rows = timed_epoch(group.trials, store)
        print(json.dumps(as_dict(TimedGroup(group.key, epoch_s, rows))), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
