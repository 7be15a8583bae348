"""A sweep whose driver is this process: on this machine, or on a Ray cluster that runs already."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from srcgcnn.driver.conduct import conduct
from srcgcnn.launch.existing_ray import running_cluster
from srcgcnn.launch.local import this_machine
from srcgcnn.launch.site import RaySite
from srcgcnn.tracking.background import BackgroundWriter

if TYPE_CHECKING:
    from srcgcnn.launch.site import LocalSite
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.sweep.plan import Plan
    from srcgcnn.sweep.record import SweepRecord


def launch_here(
    plan: Plan,
    record: SweepRecord,
    paths: RunPaths,
    site: LocalSite | RaySite,
    tracking_uri: str | None,
    budget_hours: float | None = None,
) -> int:
    """Run a plan to its end and return the exit status of `conduct`.

    Raises:
        AnotherDriverError: another driver runs this sweep.
        LaunchError: this machine does not have what the site asks for, or the cluster does not answer, or one of its
            nodes cannot do the work.
    """
    if isinstance(site, RaySite):
        cluster = partial(running_cluster, paths, Path(record.store), site)
    else:
        cluster = partial(this_machine, paths, site)
    return conduct(
        plan,
        paths,
        cluster,
        BackgroundWriter(paths, plan.spec.name, tracking_uri),
        store=Path(record.store),
        command=record.command,
        pages=tracking_uri or "",
        record=record,
        budget_hours=budget_hours,
    )
