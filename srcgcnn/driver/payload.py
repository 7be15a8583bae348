"""The messages between driver and workers, as records: an order goes out, reports come back."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from srcgcnn.sweep.early_stopping import EPOCH, ERROR
from srcgcnn.sweep.plan import TrialGroup
from srcgcnn.training.epoch import EpochReport

if TYPE_CHECKING:
    from collections.abc import Sequence

REPORT = "report"


@dataclass(frozen=True)
class WorkerSettings:
    """What is the same for all workers of a sweep.

    Attributes:
        store: folder of the graphs.
        out: folder of the sweep.
        cpus: threads of torch.
        checkpoint_interval_s: time between checkpoints.
        rungs: epochs after which a scheduler judges; empty without one.
    """

    store: str
    out: str
    cpus: int
    checkpoint_interval_s: float
    rungs: tuple[int, ...] = ()


@dataclass(frozen=True)
class GroupOrder:
    """One group to be trained.

    Attributes:
        group: the trials.
        expected_s: seconds that it should take from its start; None if unknown.
        settings: of all workers.
    """

    group: TrialGroup
    expected_s: float | None
    settings: WorkerSettings

    def as_config(self) -> dict[str, str]:
        """Return the configuration of Tune's trial: the group's key, and a text.

        Tune copies and flattens what it sees, at many events: a text costs it nothing.
        """
        order = {**self.group.to_dict(), "expected_s": self.expected_s, "settings": asdict(self.settings)}
        return {"key": self.group.key, "order": json.dumps(order)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> GroupOrder:
        """Read the configuration of a trial."""
        order = json.loads(config["order"])
        settings = order["settings"]
        return cls(
            TrialGroup.from_dict(order, "the group sent by the driver"),
            order["expected_s"],
            WorkerSettings(**{**settings, "rungs": tuple(settings["rungs"])}),
        )


def key_of(config: dict[str, Any]) -> str:
    """Return the key of the group in the configuration of a trial."""
    return str(config["key"])


@dataclass(frozen=True)
class Rung:
    """What a group has reached where a scheduler judges it.

    Attributes:
        epoch: the rung.
        error: what it is judged by.
        curves: validation errors of every member so far.
    """

    epoch: int
    error: float
    curves: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class WorkerReport:
    """What a worker reports now and then.

    Attributes:
        epochs: of all members, those since the last report.
        usage: what the machine does, under MLflow's names for it.
        epoch_s: seconds that an epoch of the group takes; None before that was measured.
        rung: at a rung.
        ended: whether the group came to its end.
        declined: whether it was not taken because a budget is used up.
        resumed_after: epochs of the checkpoint that the group began with.
    """

    epochs: tuple[EpochReport, ...] = ()
    usage: dict[str, float] | None = None
    epoch_s: float | None = None
    rung: Rung | None = None
    ended: bool = False
    declined: bool = False
    resumed_after: int = 0

    def as_result(self) -> dict[str, Any]:
        """Return the form that Tune takes; its schedulers read epoch and error of a rung."""
        judged = {EPOCH: self.rung.epoch, ERROR: self.rung.error} if self.rung else {}
        return {REPORT: json.dumps(asdict(self)), **judged}

    @classmethod
    def from_result(cls, result: dict[str, Any]) -> WorkerReport:
        """Read what Tune passes on; empty if a worker has not reported."""
        if REPORT not in result:
            return cls()
        data = json.loads(result[REPORT])
        rung = data["rung"]
        return cls(
            tuple(EpochReport(**row) for row in data["epochs"]),
            data["usage"],
            data["epoch_s"],
            None if rung is None else Rung(rung["epoch"], rung["error"], _tuples(rung["curves"])),
            data["ended"],
            data["declined"],
            data["resumed_after"],
        )


def _tuples(rows: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in rows)
