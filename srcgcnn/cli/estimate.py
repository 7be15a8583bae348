"""How long a sweep will take, before its first result: from sweeps next to it, or from first steps on this machine."""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from srcgcnn.run.folder import open_run
from srcgcnn.run.paths import RunPaths
from srcgcnn.sweep.cost import Timing
from srcgcnn.sweep.record import read_record
from srcgcnn.terminal import make_console

if TYPE_CHECKING:
    from collections.abc import Iterator

    from srcgcnn.launch.site import Site
    from srcgcnn.run.trial import DataRef
    from srcgcnn.sweep.plan import Plan
    from srcgcnn.sweep.prepare import FoundData

STEPS_WORTH_TIMING = 50_000  # of all trials: a shorter sweep soon gets as far by itself


def with_estimate(plan: Plan, found: FoundData, paths: RunPaths, site: Site, *, requested: bool, starts: bool) -> Plan:
    """Return a plan that knows how long it takes, if that can be known.

    The estimate is from results in its folder, else from those of this machine in the folders next to it, on the same
    crystals; else from first steps, if requested and before a long sweep starts.

    Raises:
        ValueError: an estimate is requested, and the sweep would not train on this machine.
    """
    if requested and site.kind != "local":
        raise ValueError("--estimate times this machine; on a cluster, look at the first steps: srcgcnn status OUT")
    if _is_known(plan) or site.kind != "local":
        return plan
    beside = _knowing(plan, tuple(timings_beside(paths, plan.data)))
    if _is_known(beside) or not (requested or (starts and _is_long(plan, found))):
        return beside
    return _timed(plan, found, site.cpus_per_group)


def timings_beside(paths: RunPaths, data: DataRef) -> Iterator[Timing]:
    """Yield how fast trials of the sweeps next to a folder were, if on the same crystals and on this machine."""
    here = socket.gethostname()
    for file in sorted(paths.out.parent.glob("*/sweep.json")):
        other = RunPaths(file.parent)
        with suppress(ValueError, OSError):  # of another version, or damaged: its own commands say so
            if other != paths and read_record(other).data.data_hash == data.data_hash:
                results = open_run(other).results
                yield from (Timing.of(one) for one in results if one.provenance.hostname == here)


def _is_known(plan: Plan) -> bool:
    """Whether a trial of every family that is left was timed; a sweep with nothing left has nothing to be known."""
    return {group.trials[0].model.family for group in plan.groups} <= plan.cost.lines.keys()


def _is_long(plan: Plan, found: FoundData) -> bool:
    crystals = found.manifest.crystals if found.manifest else 0
    trials = [trial for group in plan.groups for trial in group.trials]
    steps = sum(trial.training.epochs * crystals / trial.training.batch_size for trial in trials)
    return steps > STEPS_WORTH_TIMING


def _timed(plan: Plan, found: FoundData, cpus: int) -> Plan:
    """Time first steps; if that does not work, nothing is lost, and training will show why."""
    from srcgcnn.driver.timing import NoTimingError, time_groups

    console = make_console(stderr=True)
    console.print("timing the first steps of each network on this machine ...")
    try:
        return _knowing(plan, time_groups(plan.groups, found.folder, cpus))
    except NoTimingError as error:
        console.print(f"no estimate: {error}", soft_wrap=True)
        return plan


def _knowing(plan: Plan, timings: tuple[Timing, ...]) -> Plan:
    """Let the plan know more; what its own folder shows counts before it."""
    cost = replace(plan.cost, timings=(*timings, *plan.cost.timings))
    return replace(plan, timings=timings, cost=cost) if timings else plan
