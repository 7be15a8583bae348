"""Checkpoints of groups whose trials have finished: a worker that is killed after its last result leaves them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from srcgcnn.records import digest
from srcgcnn.run.results import finished_keys
from srcgcnn.sweep.plan import TrialGroup

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from srcgcnn.run.paths import RunPaths
    from srcgcnn.sweep.plan import Plan

ENDINGS = (".pt", ".previous", ".new", ".json", ".given-up")


def forget_ended_groups(plan: Plan, paths: RunPaths) -> None:
    """Remove the checkpoints of trials that have results; only for the one driver, when nothing trains any more.

    Those of trials without a result are left alone, also those of other plans on the same folder.
    """
    finished = finished_keys(paths)
    for key in _ended_groups(plan, paths, finished):
        for ending in ENDINGS:
            path = paths.checkpoint(key).with_suffix(ending)
            if path.is_file():
                path.unlink(missing_ok=True)


def _ended_groups(plan: Plan, paths: RunPaths, finished: set[str]) -> Iterator[str]:
    """Yield the keys of groups whose trials all have results; those of the plan are known without their files."""
    groups = [(group.key, [trial.key for trial in group.trials]) for group in plan.groups]
    groups += [(digest([trial.key]), [trial.key]) for trial in plan.trials]
    groups += [(path.stem, members) for path in paths.checkpoints.glob("*.json") if (members := _members(path))]
    yield from (key for key, members in groups if finished.issuperset(members))


def _members(path: Path) -> list[str]:
    """Return the keys of a group's trials by its file; none if that is damaged."""
    try:
        group = TrialGroup.from_dict(json.loads(path.read_bytes()), str(path))
        return [trial.key for trial in group.trials]
    except (OSError, ValueError, KeyError, TypeError):
        return []
