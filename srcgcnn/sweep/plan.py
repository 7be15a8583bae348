"""Trials minus finished ones, in groups, longest first."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from srcgcnn.records import as_dict, digest, parse
from srcgcnn.sweep.cost import CostModel
from srcgcnn.sweep.results import finished_keys, read_results
from srcgcnn.sweep.spec import trials_of
from srcgcnn.training.trial import TrialConfig

if TYPE_CHECKING:
    from srcgcnn.sweep.paths import RunPaths
    from srcgcnn.sweep.spec import SweepSpec
    from srcgcnn.training.trial import DataRef


@dataclass(frozen=True)
class TrialGroup:
    """Trials that train as one stacked model: they differ in seeds and in the value of a fixed alpha only."""

    trials: tuple[TrialConfig, ...]

    @cached_property
    def key(self) -> str:
        """Hash of the members' keys; names the checkpoint."""
        return digest([trial.key for trial in self.trials])

    @property
    def label(self) -> str:
        """Name for people."""
        first = self.trials[0]
        if len(self.trials) == 1:
            return first.label
        seeds = sorted({trial.seeds.init for trial in self.trials})
        return f"{first.model.label} seeds {','.join(map(str, seeds))} ({len(self.trials)} trials)"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"key": self.key, "label": self.label, "trials": [as_dict(trial) for trial in self.trials]}

    @classmethod
    def from_dict(cls, data: dict[str, Any], where: str) -> TrialGroup:
        """Build from `to_dict`."""
        return cls(tuple(parse(TrialConfig, trial, where) for trial in data["trials"]))


@dataclass(frozen=True)
class Plan:
    """What a sweep will do.

    Attributes:
        spec: what was asked for.
        trials: every distinct trial of the sweep, finished ones included.
        aliases: trial key -> labels of all combinations that are this trial.
        finished: keys that have a result file.
        failed: keys that failed before; they are tried again.
        groups: what is left, longest first.
        cost: time estimates, from earlier results.
    """

    spec: SweepSpec
    data: DataRef
    trials: tuple[TrialConfig, ...]
    aliases: dict[str, tuple[str, ...]]
    finished: frozenset[str]
    failed: frozenset[str]
    groups: tuple[TrialGroup, ...]
    cost: CostModel

    @property
    def left(self) -> int:
        """Trials to train."""
        return sum(len(group.trials) for group in self.groups)

    @property
    def combinations(self) -> int:
        """Combinations of the axes, repeated trials counted."""
        return sum(len(labels) for labels in self.aliases.values())

    def estimate_seconds(self) -> float | None:
        """Device seconds that are left, or None where no earlier result tells."""
        times = [self.expected_seconds(group) for group in self.groups]
        known = [seconds for seconds in times if seconds is not None]
        return sum(known) if len(known) == len(times) else None

    def expected_seconds(self, group: TrialGroup) -> float | None:
        """Device seconds of one group from its start, or None where no earlier result tells."""
        times = [self.cost.seconds(trial) for trial in group.trials]
        known = [seconds for seconds in times if seconds is not None]
        return sum(known) if len(known) == len(times) else None


def plan_sweep(spec: SweepSpec, data: DataRef, paths: RunPaths, group_size: int = 1) -> Plan:
    """Plan a sweep against what its folder already holds.

    Args:
        spec: what is asked for.
        data: the numbers to train on.
        paths: the sweep's folder; it may not exist yet.
        group_size: most trials that train as one stacked model.
    """
    trials: dict[str, TrialConfig] = {}
    aliases: dict[str, list[str]] = {}
    for trial, label in trials_of(spec, data):
        trials.setdefault(trial.key, trial)
        aliases.setdefault(trial.key, []).append(label)
    finished = finished_keys(paths) & trials.keys()
    missing = {key: trial for key, trial in trials.items() if key not in finished}
    cost = CostModel.fit(result for result in read_results(paths) if result.config.data == data)
    groups = _running_groups(paths, missing, finished) + _new_groups(missing, group_size)
    return Plan(
        spec=spec,
        data=data,
        trials=tuple(trials.values()),
        aliases={key: tuple(labels) for key, labels in aliases.items()},
        finished=frozenset(finished),
        failed=frozenset(path.stem for path in paths.failures.glob("*.json")) & missing.keys(),
        groups=tuple(sorted(groups, key=_work, reverse=True)),
        cost=cost,
    )


def _running_groups(paths: RunPaths, missing: dict[str, TrialConfig], finished: set[str]) -> list[TrialGroup]:
    """Keep groups that have a checkpoint together; takes their trials out of `missing`."""
    kept = []
    for path in sorted(paths.checkpoints.glob("*.json")):
        if not path.with_suffix(".pt").exists():
            continue
        try:
            group = TrialGroup.from_dict(json.loads(path.read_text(encoding="utf-8")), str(path))
        except (ValueError, KeyError, TypeError):  # damaged: its trials are planned as if they had never run
            continue
        keys = {trial.key for trial in group.trials}
        if keys & missing.keys() and keys <= missing.keys() | finished:
            kept.append(group)
            for key in keys:
                missing.pop(key, None)
    return kept


def _new_groups(missing: dict[str, TrialConfig], group_size: int) -> list[TrialGroup]:
    shapes: dict[Any, list[TrialConfig]] = {}
    for trial in missing.values():
        shapes.setdefault(trial.shape, []).append(trial)
    return [
        TrialGroup(tuple(members[start : start + size]))
        for members in shapes.values()
        for size in [1 if members[0].training.schedule == "plateau" else group_size]
        for start in range(0, len(members), size)
    ]


def _work(group: TrialGroup) -> float:
    """Order of length; the longest start first, so that no worker is left with a long one at the end."""
    return sum(trial.training.epochs * (1 + trial.model.depth) for trial in group.trials)
