"""SLURM as a batch system. Submission goes through submitit.

Runs on a login node: nothing here imports torch or Ray.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from submitit.core import utils

from srcgcnn.files import make_private, write_private
from srcgcnn.launch.slurm import queue, sbatch
from srcgcnn.launch.slurm.queue import SlurmError, slurm, without_job_variables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from srcgcnn.launch.batch import QueuedJob, Usage, WorkerArray
    from srcgcnn.launch.slurm.sbatch import SweepExecutor
    from srcgcnn.launch.slurm_site import SlurmSite
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
        write_private(path, text)  # `environment` of the site stands in it
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


def submitted(executor: SweepExecutor, words: Sequence[str], count: int = 1) -> str:
    """Submit one job, or one array, and return its id.

    Raises:
        SlurmError: sbatch is missing, or refuses.
    """
    with _outside_of_jobs():
        try:
            return executor.start(words, count)
        except FileNotFoundError:
            raise SlurmError("'sbatch' is not on PATH: run this on a login node of the cluster") from None
        except (utils.FailedJobError, utils.FailedSubmissionError, OSError) as error:
            raise SlurmError(f"sbatch refused the job: {error}") from None


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Hide the variables of the job that we may be in while another one is submitted."""
    saved = dict(os.environ)
    clean = without_job_variables()
    os.environ.clear()
    os.environ.update(clean)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(saved)
