"""From a plan to a running sweep: shown, recorded, launched. The commands that train share it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from srcgcnn.launch.site import Site
    from srcgcnn.prediction.start import FoundStart
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.run.training_config import SplitConfig
    from srcgcnn.sweep.plan import Plan
    from srcgcnn.sweep.prepare import FoundData
    from srcgcnn.sweep.spec import SweepSpec

REFUSED = 1  # SLURM would not take what a dry run shows


@dataclass(frozen=True)
class Launch:
    """Where and how a plan is run.

    Attributes:
        paths: the sweep's folder.
        site: where it runs.
        command: what starts the sweep again, for its record.
        tracking_uri: MLflow store; None takes the one in the folder.
        dry_run: show, and stop.
        wait: on a cluster: stay and show progress.
        budget_gpu_hours: no new group is taken when the sweep has used so many; core-hours if there are no GPUs.
        estimate: time first steps if nothing else tells how long the sweep takes.
    """

    paths: RunPaths
    site: Site
    command: str
    tracking_uri: str | None = None
    dry_run: bool = False
    wait: bool = False
    budget_gpu_hours: float | None = None
    estimate: bool = False


def prepare_and_launch(spec: SweepSpec, stores: Path, how: Launch, *, strict: bool = False) -> int:
    """Find weights and graphs of a sweep, plan it, and launch the plan; returns the exit status."""
    from srcgcnn.cli.building import ShownBuilder
    from srcgcnn.cli.estimate import with_estimate
    from srcgcnn.cli.extras import require
    from srcgcnn.data.store import GraphStore
    from srcgcnn.launch.site import with_environment
    from srcgcnn.launch.store_job import find_or_build
    from srcgcnn.models.own import environment
    from srcgcnn.prediction.start import find_start
    from srcgcnn.sweep.plan import plan_sweep
    from srcgcnn.sweep.prepare import with_own_networks
    from srcgcnn.sweep.split_file import refuse_unknown_ids

    spec = with_own_networks(spec)
    how = replace(how, site=with_environment(how.site, environment()))
    if not how.dry_run:
        require("sweep", *(["slurm"] if how.site.kind == "slurm" else []))
    start, dry_run = find_start(spec), how.dry_run and not how.estimate  # an estimate needs the graphs
    found = find_or_build(spec.data, stores, how.site, ShownBuilder(), dry_run=dry_run, strict=strict)
    if found.manifest is not None and start.spec.training.split.lists:
        refuse_unknown_ids(start.spec.training.split, GraphStore(found.folder).ids)
    plan = plan_sweep(start.spec, found.reference, how.paths, how.site.trials_per_group)
    plan = with_estimate(plan, found, how.paths, how.site, requested=how.estimate, starts=not how.dry_run)
    return launch(plan, found, how, start)


def _split_sizes(plan: Plan, found: FoundData) -> list[str]:
    """Split the rows as the trials will, so that what cannot be done is reported before anything starts.

    Clusters of compositions are left out: they take seconds, and fail with too few rows only.

    Returns:
        Numbers of training, validation and test rows, such as `360/120/120`, each once; none before the first build.

    Raises:
        SplitError: a set would be empty, or smaller than requested.
    """
    from srcgcnn.data.store import GraphStore
    from srcgcnn.training.split import Crystals, split_rows

    if found.manifest is None:
        return []
    crystals = Crystals.of(GraphStore(found.folder))
    splits = {(_identity(trial.training.split), trial.seeds.split): trial.training.split for trial in plan.trials}
    cut = [split_rows(split, seed, crystals) for (_, seed), split in splits.items() if split.kind != "cluster"]
    return list(dict.fromkeys(f"{len(each.train)}/{len(each.val)}/{len(each.test)}" for each in cut))


def _identity(split: SplitConfig) -> object:
    """Return what equal splits share; lists of ids are one object in all trials of a sweep, and slow to hash."""
    return split if split.lists is None else (id(split.lists), split.train_size)


def launch(plan: Plan, found: FoundData, how: Launch, start: FoundStart | None = None) -> int:
    """Show a plan and run what remains of it; returns the exit status."""
    from srcgcnn.cli.plan import show_plan
    from srcgcnn.sweep.prepare import refuse_missing_edges

    refuse_missing_edges(plan.spec, found)
    sizes = _split_sizes(plan, found)
    begins, here = start.describe(found.reference) if start else "", how.site.kind == "local"
    show_plan(plan, how.paths, found, sizes, how.site.workers, begins, here=here)
    accepted = True
    if how.site.kind == "slurm":
        from srcgcnn.cli.submission import show_submission

        accepted = show_submission(plan, how.paths, how.site)
    if how.dry_run:
        return 0 if accepted else REFUSED
    from srcgcnn.sweep.record import SweepRecord

    if start:
        start.keep(how.paths)
    record = SweepRecord(plan.spec, found.reference, str(found.folder.resolve()), how.command)
    if how.site.kind == "slurm":
        from srcgcnn.cli.submission import launch_slurm

        return launch_slurm(
            plan,
            how.paths,
            how.site,
            how.tracking_uri,
            record=record,
            wait=how.wait,
            budget_gpu_hours=how.budget_gpu_hours,
        )
    from srcgcnn.launch.here import launch_here

    if how.site.kind == "ray":
        return launch_here(plan, record, how.paths, how.site, how.tracking_uri, how.budget_gpu_hours)
    from srcgcnn.launch.supervisor import supervised
    from srcgcnn.run.results import finished_keys

    site = how.site

    def run() -> int:
        return launch_here(plan.again(how.paths), record, how.paths, site, how.tracking_uri, how.budget_gpu_hours)

    return supervised(run, lambda: len(finished_keys(how.paths)))
