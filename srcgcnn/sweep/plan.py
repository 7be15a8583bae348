"""Trials minus finished ones, in groups, longest first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from srcgcnn.records import as_dict, digest, parse, read_json
from srcgcnn.run.folder import open_run
from srcgcnn.run.labels import differing, label_of, trial_label
from srcgcnn.run.results import finished_keys
from srcgcnn.run.trial import TrialConfig
from srcgcnn.sweep.cost import CostModel, least_rows, sweep_s, work
from srcgcnn.sweep.proposals import proposals_left, proposed_trials
from srcgcnn.sweep.space import trials_of, varied_settings
from srcgcnn.terminal import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from srcgcnn.run.folder import Run
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.run.trial import DataRef, Variant
    from srcgcnn.run.trial_result import TrialResult
    from srcgcnn.sweep.cost import Timing
    from srcgcnn.sweep.spec import SweepSpec


@dataclass(frozen=True)
class TrialGroup:
    """Trials that train as one stacked model: they differ in seeds, learning rate and the value of a fixed alpha only.

    Attributes:
        trials: its members.
        settings: names of the settings that its label tells, in addition to the network (`run/labels.py`).
    """

    trials: tuple[TrialConfig, ...]
    settings: tuple[str, ...] = ()

    @cached_property
    def key(self) -> str:
        """Hash of the members' keys; names the checkpoint."""
        return digest([trial.key for trial in self.trials])

    @property
    def label(self) -> str:
        """Human-readable name."""
        first, others = self.trials[0], len({trial.variant for trial in self.trials}) - 1
        if len(self.trials) == 1:
            return self.label_of(first)
        seeds = sorted({trial.seeds.init for trial in self.trials})
        more = f" and {counted(others, 'more variant')}," if others else ""
        name = f"{label_of(first.variant, self.settings)}{more}"
        return f"{name} seeds {','.join(map(str, seeds))} ({len(self.trials)} trials)"

    def label_of(self, trial: TrialConfig) -> str:
        """Name one of its trials."""
        return trial_label(trial, self.settings)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        trials = [as_dict(trial) for trial in self.trials]
        return {"key": self.key, "label": self.label, "named_settings": list(self.settings), "trials": trials}

    @classmethod
    def from_dict(cls, data: dict[str, Any], where: str) -> TrialGroup:
        """Build from `to_dict`."""
        trials = tuple(parse(TrialConfig, trial, where) for trial in data["trials"])
        return cls(trials, parse(tuple[str, ...], data.get("named_settings", ()), where))


@dataclass(frozen=True)
class Plan:
    """What a sweep will do.

    Attributes:
        spec: the request.
        trials: every distinct trial of the sweep, finished ones included.
        aliases: trial key -> names of all networks, as requested, that are this trial's.
        finished: keys that have a result file.
        failed: keys that failed before; they are tried again.
        groups: what remains, longest first. A search makes its groups in the driver, and this is empty.
        cost: time estimates, from earlier results and first steps.
        stopped: keys that a scheduler stopped; they continue in a run without scheduler.
        proposals_left: of a search, those that are not made or have not ended.
        others: results in the folder that are of other data, or of another target.
        group_size: most trials that train as one stacked model.
        timings: what is known of their speed from elsewhere.
    """

    spec: SweepSpec
    data: DataRef
    trials: tuple[TrialConfig, ...]
    aliases: dict[str, tuple[str, ...]]
    finished: frozenset[str]
    failed: frozenset[str]
    groups: tuple[TrialGroup, ...]
    cost: CostModel
    stopped: frozenset[str] = frozenset()
    proposals_left: int = 0
    others: int = 0
    group_size: int = 1
    timings: tuple[Timing, ...] = ()

    @property
    def over(self) -> bool:
        """Whether nothing is left to train or to propose."""
        return not self.groups and not self.proposals_left

    @property
    def parallel_groups(self) -> int:
        """Groups that can train side by side now."""
        if not self.proposals_left:
            return len(self.groups)
        axes, search = self.spec.axes[0], self.spec.search
        trials = axes.repeats
        size = trials if self.spec.scheduler.stops else min(self.group_size, trials)
        return min(search.parallel, self.proposals_left) * -(-trials // size)

    @property
    def left(self) -> int:
        """Trials to train."""
        return sum(len(group.trials) for group in self.groups)

    @property
    def combinations(self) -> int:
        """Combinations of the axes, repeated trials counted."""
        return sum(len(labels) for labels in self.aliases.values())

    @cached_property
    def settings(self) -> tuple[str, ...]:
        """Names of the settings that distinguish its variants, besides their networks."""
        varied = varied_settings(self.spec)  # of a search, what it may propose
        found = differing(list({trial.variant: None for trial in self.trials}))
        return tuple(dict.fromkeys((*varied, *found)))

    def label_of(self, trial: TrialConfig) -> str:
        """Name a trial so that it differs from all others of the sweep."""
        return trial_label(trial, self.settings)

    def estimate_s(self, workers: int = 1) -> float | None:
        """Seconds that are left on so many workers, or None if no earlier result shows it."""
        if self.proposals_left:
            return None
        times = [self.expected_s(group) for group in self.groups]
        known = [seconds for seconds in times if seconds is not None]
        return sweep_s(known, workers) if len(known) == len(times) else None

    def again(self, folder: Run | RunPaths) -> Plan:
        """Plan the same against what the folder holds now."""
        return plan_sweep(self.spec, self.data, folder, self.group_size, self.timings)

    def expected_s(self, group: TrialGroup) -> float | None:
        """Device seconds of one group from its start, or None if no earlier result shows it."""
        times = [self.cost.seconds(trial) for trial in group.trials]
        known = [seconds for seconds in times if seconds is not None]
        return sum(known) if len(known) == len(times) else None


def plan_sweep(
    spec: SweepSpec, data: DataRef, folder: Run | RunPaths, group_size: int = 1, timings: tuple[Timing, ...] = ()
) -> Plan:
    """Plan a sweep against what its folder already holds.

    Args:
        spec: the request.
        data: the numbers to train on.
        folder: of the sweep, opened or not; it may not exist yet.
        group_size: most trials that train as one stacked model.
        timings: what is known of their speed from elsewhere.

    Raises:
        ValueError: the folder has results of the same numbers in another unit.
    """
    run = open_run(folder)
    paths, results = run.paths, run.results  # parsed before file names count: damaged ones are set aside
    trials: dict[str, TrialConfig] = {}
    aliases: dict[str, list[str]] = {}
    for trial, label in requested_trials(spec, data, paths):
        trials.setdefault(trial.key, trial)
        aliases.setdefault(trial.key, []).append(label)
    finished = run.finished & trials.keys()
    missing = trials.keys() - finished
    same = [result for result in results if result.config.data.data_hash == data.data_hash]
    _refuse_another_unit(same, data, paths)
    plan = Plan(
        spec=spec,
        data=data,
        trials=tuple(trials.values()),
        aliases={key: tuple(labels) for key, labels in aliases.items()},
        finished=frozenset(finished),
        failed=frozenset(path.stem for path in paths.failures.glob("*.json")) & missing,
        groups=(),
        cost=CostModel.fit(same, timings, least_rows(trials.values())),
        stopped=frozenset(path.stem for path in paths.stopped.glob("*.json")) & missing,
        proposals_left=proposals_left(spec, data, paths) if spec.search.proposes else 0,
        others=sum(result.config.data.target != data.target for result in same) + len(results) - len(same),
        group_size=group_size,
        timings=timings,
    )
    if spec.search.proposes:
        return plan
    groups = groups_of(plan, paths, plan.trials)
    return replace(plan, groups=tuple(sorted(groups, key=lambda group: _work(group, plan.cost.rows), reverse=True)))


def requested_trials(spec: SweepSpec, data: DataRef, paths: RunPaths) -> Iterator[tuple[TrialConfig, str]]:
    """Yield the trials that a sweep asks for so far, repeated ones too, each with its requested name."""
    return proposed_trials(spec, data, paths) if spec.search.proposes else trials_of(spec, data)


def _refuse_another_unit(results: Iterable[TrialResult], data: DataRef, paths: RunPaths) -> None:
    for earlier in (result.config.data for result in results):
        for before, now in zip(earlier.each, data.each, strict=False):
            if earlier.targets == data.targets and before.name == now.name and before.unit != now.unit:
                raise ValueError(
                    f"unit={now.unit!r}: {paths.out} has results of {now.name} in {before.unit!r}; "
                    "nothing is converted: ask for that unit, or give another --out"
                )


def groups_of(plan: Plan, paths: RunPaths, trials: Iterable[TrialConfig]) -> list[TrialGroup]:
    """Return the groups that train what remains of some trials; those with a checkpoint continue as they were.

    With a scheduler a group is what it judges, all seeds of one variant: groups that an earlier run without a scheduler
    made otherwise begin anew. What a scheduler stopped before stays stopped.
    """
    finished = finished_keys(paths)
    missing = {trial.key: trial for trial in trials if trial.key not in finished}
    if not plan.spec.scheduler.stops:
        return _running_groups(paths, missing, finished) + _new_groups(missing, plan)
    for path in paths.stopped.glob("*.json"):
        missing.pop(path.stem, None)
    variants: dict[Variant, list[TrialConfig]] = {}
    for trial in missing.values():
        variants.setdefault(trial.variant, []).append(trial)
    whole = [{trial.key for trial in members} for members in variants.values()]
    groups = _running_groups(paths, missing, finished, lambda left: left in whole)
    variants = {variant: members for variant, members in variants.items() if members[0].key in missing}
    return groups + [TrialGroup(tuple(members), plan.settings) for members in variants.values()]


def _running_groups(
    paths: RunPaths,
    missing: dict[str, TrialConfig],
    finished: set[str],
    fits: Callable[[set[str]], bool] = lambda _: True,
) -> list[TrialGroup]:
    """Keep groups that have a checkpoint together, if what they have left fits; takes it out of `missing`."""
    kept = []
    for path in sorted(paths.checkpoints.glob("*.json")):
        if not any(path.with_suffix(kind).exists() for kind in (".pt", ".previous")):
            continue  # a writer killed between two renames leaves the second one only
        try:
            group = TrialGroup.from_dict(read_json(path), str(path))
        except (ValueError, KeyError, TypeError):  # damaged: its trials are planned as if they had never run
            continue
        keys = {trial.key for trial in group.trials}
        left = keys & missing.keys()
        if left and keys <= missing.keys() | finished and fits(left):
            kept.append(group)
            for key in keys:
                missing.pop(key, None)
    return kept


def _new_groups(missing: dict[str, TrialConfig], plan: Plan) -> list[TrialGroup]:
    shapes: dict[Any, list[TrialConfig]] = {}
    for trial in missing.values():
        shapes.setdefault(trial.shape, []).append(trial)
    return [
        TrialGroup(tuple(members[start : start + size]), plan.settings)
        for members in shapes.values()
        for size in [1 if members[0].training.schedule == "plateau" else plan.group_size]
        for start in range(0, len(members), size)
    ]


def _work(group: TrialGroup, rows: int) -> float:
    """Order of length; the longest start first, so that no worker is left with a long one at the end."""
    return sum(work(trial, rows) for trial in group.trials)
