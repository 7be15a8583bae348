"""The driver of a sweep on a cluster: a process of the head job, on the Ray that the head started.

`python -m srcgcnn.launch.driver OUT` plans again from the result files and runs what is left, with the same code
as a sweep on one machine. That is all that a head needs to do after a requeue.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from srcgcnn.driver.display import SweepDisplay
from srcgcnn.launch.deaths import STATUS_ERROR
from srcgcnn.launch.head import HEAD_ADDRESS
from srcgcnn.launch.job_log import outlive_full_disk
from srcgcnn.launch.local import conduct
from srcgcnn.launch.rendezvous import read_request
from srcgcnn.run.paths import RunPaths
from srcgcnn.sweep.plan import plan_sweep
from srcgcnn.sweep.record import read_record

if TYPE_CHECKING:
    from rich.console import Console

    from srcgcnn.driver.tune import SweepEnd
    from srcgcnn.launch.rendezvous import LaunchRequest
    from srcgcnn.sweep.plan import Plan
    from srcgcnn.tracking.writer import MlflowWriter

LOCK_TIMEOUT_S = 120.0  # a file system may keep the lock of a lost head for a while


def drive(paths: RunPaths) -> int:
    """Run what is left of a sweep and return the exit status."""
    request, record = read_request(paths), read_record(paths)
    plan = plan_sweep(record.spec, record.data, paths, request.site.trials_per_group)
    return conduct(
        plan,
        paths,
        request.tracking_uri,
        lambda todo, writer, console: _run(todo, Path(record.store), paths, request, writer, console),
        command=record.command,
        lock_timeout_s=LOCK_TIMEOUT_S,
    )


def _run(
    plan: Plan, store_folder: Path, paths: RunPaths, request: LaunchRequest, writer: MlflowWriter, console: Console
) -> SweepEnd:
    import ray

    site = request.site
    ray.init(address=os.environ[HEAD_ADDRESS], log_to_driver=False, logging_level=logging.ERROR)
    from srcgcnn.driver.tune import GroupResources, run_on_tune

    resources = GroupResources(
        cpus=site.cpus_per_group,
        gpus=site.group_gpus,
        max_retries=site.max_retries,
        checkpoint_interval_s=site.checkpoint_interval_s,
        nodes_come_and_go=True,
    )
    try:
        with SweepDisplay(plan, console) as display:
            return run_on_tune(
                plan, store_folder, paths, resources, writer, display, budget_hours=request.budget_gpu_hours
            )
    finally:
        ray.shutdown()


def main() -> int:
    """Run one driver; expected errors are one line. Status 1 is for failed trials alone, see `ENDS_OF_A_DRIVER`."""
    outlive_full_disk()
    try:
        return drive(RunPaths(Path(sys.argv[1])))
    except (ValueError, OSError, RuntimeError) as error:
        print(f"driver: {error}", file=sys.stderr)
    except Exception:  # noqa: BLE001 - the head decides whether another attempt is worth it
        traceback.print_exc()
    return STATUS_ERROR


if __name__ == "__main__":
    raise SystemExit(main())
