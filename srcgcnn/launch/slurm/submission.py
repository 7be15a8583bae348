"""One call of sbatch, through submitit."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from submitit.core import utils

from srcgcnn.launch.slurm.queue import SlurmError, without_job_variables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from srcgcnn.launch.slurm.sbatch import SweepExecutor


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
    """Hide the variables of the job that we may be in while submitting another one."""
    saved = dict(os.environ)
    clean = without_job_variables()
    os.environ.clear()
    os.environ.update(clean)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(saved)
