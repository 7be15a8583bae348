"""SLURM as a batch system.

Runs on a login node: nothing here imports torch or Ray.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from srcgcnn.files import make_private, write_private
from srcgcnn.launch.slurm import queue, sbatch
from srcgcnn.launch.slurm.one_job import run_in_job
from srcgcnn.launch.slurm.queue import SlurmError, slurm
from srcgcnn.launch.slurm.submission import submitted
from srcgcnn.terminal import make_console

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from srcgcnn.launch.batch import Finding, QueuedJob, Usage, WorkerArray
    from srcgcnn.launch.slurm_site import HeadRequest, SlurmSite
    from srcgcnn.run.paths import RunPaths


@dataclass(frozen=True)
class Slurm:
    """A `BatchSystem`. What its jobs run is in `launch/start.py`."""

    name: str = "SLURM"

    def texts(self, site: SlurmSite, paths: RunPaths, name: str, groups: int) -> dict[str, str]:
        """Return every sbatch text for so many groups."""
        return sbatch.sbatch_texts(site, paths, name, groups)

    def verdict(self, text: str, folder: Path) -> tuple[bool, str]:
        """Return what `sbatch --test-only` says of a text."""
        make_private(folder)
        path = folder / f".test-only.{os.getpid()}.sh"
        write_private(path, text)  # it contains `environment` of the site
        try:
            return True, slurm("sbatch", "--test-only", str(path)).strip()
        except SlurmError as error:
            return False, f"REFUSED: {error}"
        finally:
            path.unlink()

    def submit_head(self, site: SlurmSite, paths: RunPaths, name: str) -> str:
        """Submit the job of the head and return its id."""
        return submitted(sbatch.head_executor(site, paths, name), sbatch.head_words(paths))

    def submit_gang(self, site: SlurmSite, paths: RunPaths, name: str, groups: int) -> str:
        """Submit one job with the head and all workers and return its id."""
        executor = sbatch.gang_executor(site, paths, name, site.worker_counts(groups)[0])
        return submitted(executor, sbatch.gang_words(paths))

    def worker_arrays(self, site: SlurmSite, groups: int) -> list[WorkerArray]:
        """Return the arrays that so many groups make use of, none longer than the site allows."""
        return sbatch.worker_arrays(site, groups)

    def submit_workers(self, site: SlurmSite, paths: RunPaths, name: str, array: WorkerArray) -> str:
        """Submit one array of workers and return its id."""
        executor = sbatch.worker_executor(site, paths, name, array.kind)
        return submitted(executor, sbatch.worker_words(paths, array.kind), array.size)

    def jobs(self, ids: tuple[str, ...]) -> list[QueuedJob]:
        """Ask squeue, once for all."""
        return queue.queued(ids)

    def cancel(self, ids: tuple[str, ...], *, waiting_only: bool = False) -> None:
        """Cancel jobs; those that are over are left alone."""
        queue.cancel(ids, waiting_only=waiting_only)

    def requeue(self, job_id: str) -> None:
        """Put a running job back in the queue."""
        queue.requeue(job_id)

    def usage(self, ids: tuple[str, ...]) -> Usage | None:
        """Ask sacct."""
        return queue.usage(ids)

    def answer_of(self, call: Callable[[], Any], site: SlurmSite, request: HeadRequest, folder: Path) -> Any:
        """Run a call in a job of its own, as the head's request says, and return what it returned."""
        return run_in_job(sbatch.build_executor(site, folder, request, "srcgcnn"), call, make_console())

    def check(self, site: SlurmSite, folder: Path, *, on_node: bool) -> list[Finding]:
        """Try a site file."""
        from srcgcnn.launch.slurm.site_check import check_site

        return check_site(self, site, folder, on_node=on_node)
