"""The driver of a sweep on a cluster: a process of the head job, on the Ray that the head started.

`python -m srcgcnn.launch.driver OUT` plans again from the result files and runs what remains, with the same code
as a sweep on one machine. That is all that a head needs to do after a requeue.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from srcgcnn.driver.conduct import conduct
from srcgcnn.driver.resources import GroupResources
from srcgcnn.exit_status import ERROR
from srcgcnn.launch.head import HEAD_ADDRESS, REPORTED
from srcgcnn.launch.rendezvous import read_request
from srcgcnn.run.paths import RunPaths
from srcgcnn.sweep.plan import plan_sweep
from srcgcnn.sweep.record import read_record
from srcgcnn.terminal import outlive_full_disk
from srcgcnn.tracking.background import BackgroundWriter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from srcgcnn.launch.slurm_site import SlurmSite

LOCK_TIMEOUT_S = 120.0  # a file system may keep the lock of a lost head for a while


def drive(paths: RunPaths) -> int:
    """Run what remains of a sweep and return the exit status."""
    request, record = read_request(paths), read_record(paths)
    plan = plan_sweep(record.spec, record.data, paths, request.site.trials_per_group)
    return conduct(
        plan,
        paths,
        partial(_cluster_of_the_head, request.site),
        BackgroundWriter(paths, plan.spec.name, request.tracking_uri),
        store=Path(record.store),
        command=record.command,
        pages=request.tracking_uri or "",
        lock_timeout_s=LOCK_TIMEOUT_S,
        budget_hours=request.budget_gpu_hours,
    )


@contextmanager
def _cluster_of_the_head(site: SlurmSite, _console: Console) -> Iterator[GroupResources]:
    import ray

    ray.init(address=os.environ[HEAD_ADDRESS], log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield GroupResources(
            cpus=site.cpus_per_group,
            gpus=site.group_gpus,
            max_retries=site.max_retries,
            checkpoint_interval_s=site.checkpoint_interval_s,
            nodes_come_and_go=True,
        )
    finally:
        ray.shutdown()


def main() -> int:
    """Run one driver; expected errors are one line."""
    outlive_full_disk()
    try:
        return REPORTED + drive(RunPaths(Path(sys.argv[1])))
    except (ValueError, OSError, RuntimeError) as error:
        print(f"driver: {error}", file=sys.stderr)
    except Exception:  # noqa: BLE001 - the head decides whether another attempt is worth it
        traceback.print_exc()
    return ERROR


if __name__ == "__main__":
    raise SystemExit(main())
