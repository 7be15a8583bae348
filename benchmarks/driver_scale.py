#!/usr/bin/env python3
"""What the driver costs: thousands of trials of no work on hundreds of workers, all on this machine.

    python benchmarks/driver_scale.py [--trials 5000] [--workers 200]
    python benchmarks/driver_scale.py --simulated --trials 20000 --workers 2000

Everything but the training is real: plan, Ray, Ray Tune, a process per worker, result files, MLflow on SQLite. Prints
the time to plan (nothing finished, and all finished), the wall time per trial, and the memory of the driver, of Ray's
head (GCS and raylet) and of one worker. A worker is a process with a core of its own in Ray's books, not a node.

`--simulated` is for more workers than a machine has room for: there is no Ray, and so many groups are on the books at a
time. Each tells of ten epochs, and its result is there already. What is left is our own part: state, display, progress
file, budget, what MLflow's writer would be sent (there is none), and the report at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections import deque
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from srcgcnn.driver.conduct import conduct
from srcgcnn.driver.payload import GroupOrder, WorkerReport
from srcgcnn.driver.resources import GroupResources
from srcgcnn.launch.local import local_ray
from srcgcnn.launch.site import LocalSite
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import read_result, write_result
from srcgcnn.run.training_config import TrainingConfig
from srcgcnn.run.trial import DataRef
from srcgcnn.run.trial_result import Cost, Curves, Metrics, Provenance, TrialResult
from srcgcnn.sweep.axes import Axes
from srcgcnn.sweep.plan import plan_sweep
from srcgcnn.sweep.spec import SweepSpec
from srcgcnn.terminal import make_console
from srcgcnn.tracking.background import BackgroundWriter
from srcgcnn.training.epoch import EpochReport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from srcgcnn.driver.state import GroupStanding, SweepState
    from srcgcnn.run.folder import Run
    from srcgcnn.run.trial import TrialConfig

DEPTHS = tuple(range(1, 11))
REPORTS = 10  # of a simulated group


def no_work(config: dict[str, Any]) -> None:
    """Stand in for the training of a group: write a result for every member at once."""
    from ray import tune

    order = GroupOrder.from_config(config)
    for trial in order.group.trials:
        write_result(RunPaths(Path(order.settings.out)), made_up(trial))
    tune.report(WorkerReport(ended=True).as_result())


def made_up(trial: TrialConfig) -> TrialResult:
    """Return a result of no training."""
    return TrialResult(
        key=trial.key,
        config=trial,
        metrics=Metrics(0, 1.0, val_mae=1.0, val_rmse=1.0, test_mae=1.0, test_rmse=1.0),
        curves=Curves((1.0,), (1.0,), (0.001,)),
        conv_parameters=1,
        total_parameters=2,
        target_mean=0.0,
        target_std=1.0,
        rows=(3, 1, 1),
        alphas=(),
        cost=Cost(0.001, 1.0, 1.0, 1, 0),
        provenance=Provenance("2026-01-01T00:00:00+00:00", "", {}, "", "", 1),
    )


def without_work(state: SweepState, store: Path, run: Run, resources: GroupResources) -> bool:
    """Run all groups on Tune, with nothing to train."""
    from srcgcnn.driver.tune import run_on_tune  # Ray reads its token when it is imported

    return run_on_tune(state, store, run, resources, train=no_work)


def simulated(workers: int, state: SweepState, _store: Path, run: Run, _resources: GroupResources) -> bool:
    """Tell of all groups what workers would tell, so many at a time, in turn."""
    waiting = deque(state.groups.values())
    running: deque[tuple[GroupStanding, int]] = deque()
    while waiting or running:
        while waiting and len(running) < workers:
            running.append((waiting.popleft(), 0))
            state.group_started(running[-1][0].group.key)
        standing, epoch = running.popleft()
        group = standing.group
        if epoch < REPORTS:
            rows = tuple(EpochReport(trial.key, epoch, 1.0, 1.0, 1e-3) for trial in group.trials)
            state.group_reported(group.key, WorkerReport(rows, epoch_s=1.0), f"node{len(running)}")
            running.append((standing, epoch + 1))
        else:
            state.group_ended(group.key, "finished")
            for trial in group.trials:
                state.trial_finished(read_result(run.paths.result(trial.key)))
        state.tick()
    return state.over


class ForNobody(BackgroundWriter):
    """Writes down for MLflow's writer what happens, and starts none: that one takes its time in another process."""

    def _send(self, event: dict[str, Any]) -> None:
        json.dumps(event)

    def sweep_finished(self, table_markdown: str, table_csv: str, *, stopped: bool = False) -> bool:  # noqa: ARG002
        """Do nothing."""
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--simulated", action="store_true", help="no Ray and no workers: our own part only")
    options = parser.parse_args()
    console = make_console()
    with tempfile.TemporaryDirectory(prefix="scale-", dir="/tmp") as folder:
        paths = RunPaths(Path(folder) / "run")
        seeds = tuple(range(options.trials // len(DEPTHS)))
        axes = Axes(models=("srcgcnn",), depths=DEPTHS, seeds=seeds)
        spec = SweepSpec("scale", axes=(axes,), training=TrainingConfig(epochs=REPORTS if options.simulated else 1))
        data = DataRef("no-data", "none", "y", "eV/atom")
        started = time.perf_counter()
        plan = plan_sweep(spec, data, paths)
        figures: dict[str, object] = {
            "trials": plan.left,
            "workers": options.workers,
            "cores": len(os.sched_getaffinity(0)),
            "seconds to plan": round(time.perf_counter() - started, 2),
        }
        watch = Watch()

        @contextmanager
        def cluster(shown: Any) -> Iterator[GroupResources]:
            if options.simulated:
                yield GroupResources()
                watch.look()
                return
            site = LocalSite(cpus=options.workers, dashboard=False)
            with local_ray(paths, site, Path(folder), shown):
                yield GroupResources()
                watch.look()

        if options.simulated:
            for group in plan.groups:
                for trial in group.trials:
                    write_result(paths, made_up(trial))
        started, used = time.perf_counter(), time.process_time()
        tracker = (ForNobody if options.simulated else BackgroundWriter)(paths, spec.name, None)
        run_groups = partial(simulated, options.workers) if options.simulated else without_work
        conduct(plan, paths, cluster, tracker, store=Path(folder), command="driver_scale", run_groups=run_groups)
        seconds, used = time.perf_counter() - started, time.process_time() - used
        started = time.perf_counter()
        again = plan_sweep(spec, data, paths)
        figures |= {
            "seconds to run": round(seconds, 1),
            "ms per trial": round(1000 * seconds / plan.left, 1),
            "ms of the driver's processor time per trial": round(1000 * used / plan.left, 1),
            "trials finished": len(again.finished),
            "seconds to plan with all finished": round(time.perf_counter() - started, 2),
            "most MB of the driver": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10),
            **watch.figures,
        }
    console.print(json.dumps(figures, indent=1))


class Watch:
    """Memory of the processes below this one."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}

    def look(self) -> None:
        sizes: dict[str, list[float]] = {}
        for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
            try:
                name, size = " ".join(process.cmdline()), process.memory_full_info().pss / 2**20
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            kinds = {"gcs_server": "GCS", "raylet/raylet": "raylet", "ray::": "worker"}
            kind = next((kind for part, kind in kinds.items() if part in name.split(" --")[0]), "other")
            sizes.setdefault("driver" if process.pid == os.getpid() else kind, []).append(size)
        self.figures = {f"MB of {kind}": round(max(found)) for kind, found in sizes.items() if kind != "other"}
        self.figures["worker processes"] = len(sizes.get("worker", []))


if __name__ == "__main__":
    main()
