"""The graph store of a sweep: built here, or by a job if the site allows no work on login nodes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from srcgcnn.data.remarks import build_remarks
from srcgcnn.launch.job_log import say
from srcgcnn.launch.systems import batch_system
from srcgcnn.records import record
from srcgcnn.sweep.prepare import FoundData, QuietBuilder, fetch_materials, find_data
from srcgcnn.sweep.spec import DataSpec

if TYPE_CHECKING:
    from srcgcnn.data.build import BuildReport
    from srcgcnn.data.graph import GraphSettings
    from srcgcnn.data.source import Source
    from srcgcnn.launch.site import Site
    from srcgcnn.sweep.prepare import Builder


@record
class StoreJob:
    """What runs in the job that builds."""

    data: DataSpec
    stores: str
    strict: bool

    def __call__(self) -> str:
        """Build, and return the data hash."""
        return find_data(self.data, Path(self.stores), _LoggedBuilder(), strict=self.strict).reference.data_hash


class _LoggedBuilder(QuietBuilder):
    """Writes remarks on the data into the job's log."""

    def build(self, source: Source, out: Path, settings: GraphSettings, *, strict: bool) -> BuildReport:
        report = super().build(source, out, settings, strict=strict)
        for line in build_remarks(report, out):
            say(line)
        return report


def find_or_build(
    data: DataSpec, stores: Path, site: Site, builder: Builder, *, dry_run: bool, strict: bool
) -> FoundData:
    """Return the store of a sweep's data, built if the site wants that; a dry run builds nothing.

    Raises:
        BatchError: the job failed; its log is named.
    """
    request = site.build if site.kind == "slurm" else None
    if dry_run or site.kind != "slurm" or request is None:
        return find_data(data, stores, None if dry_run else builder, strict=strict)
    data = fetch_materials(data, builder)  # here: compute nodes often have no way to the internet, and no key
    found = find_data(data, stores, None, strict=strict)
    if found.manifest is None:
        job = StoreJob(data, str(stores.resolve()), strict)
        batch_system().answer_of(job, site, request, stores.resolve() / "jobs")
        found = find_data(data, stores, None, strict=strict)
    return found
