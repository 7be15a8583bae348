"""The graph store of a sweep: built here, or by a job where the site allows no work on login nodes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from srcgcnn.launch.systems import batch_system
from srcgcnn.records import record
from srcgcnn.sweep.prepare import FoundData, fetch_materials, find_data
from srcgcnn.sweep.spec import DataSpec

if TYPE_CHECKING:
    from srcgcnn.launch.site import Site


@record
class StoreJob:
    """What runs in the job that builds."""

    data: DataSpec
    stores: str
    strict: bool

    def __call__(self) -> str:
        """Build, and return the data hash."""
        return find_data(self.data, Path(self.stores), build=True, strict=self.strict).reference.data_hash


def find_or_build(data: DataSpec, stores: Path, site: Site, *, dry_run: bool, strict: bool) -> FoundData:
    """Return the store of a sweep's data, built where the site wants that; a dry run builds nothing.

    Raises:
        BatchError: the job failed; its log is named.
    """
    request = site.build if site.kind == "slurm" else None
    if dry_run or site.kind != "slurm" or request is None:
        return find_data(data, stores, build=not dry_run, strict=strict)
    data = fetch_materials(data)  # here: compute nodes often have no way to the internet, and no key
    found = find_data(data, stores, build=False, strict=strict)
    if found.manifest is None:
        job = StoreJob(data, str(stores.resolve()), strict)
        batch_system().answer_of(job, site, request, stores.resolve() / "jobs")
        found = find_data(data, stores, build=False, strict=strict)
    return found
