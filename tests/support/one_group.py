"""A sweep of one trial on a Ray of its own, with a function in place of the training.

As a process, `python -m one_group OUT MODULE FUNCTION`: the function gets OUT and the trial, in Ray's worker.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from srcgcnn.run.paths import RunPaths

if TYPE_CHECKING:
    from collections.abc import Callable

    from srcgcnn.run.trial import TrialConfig


def run_one_group(
    out: Path, work: Callable[[RunPaths, TrialConfig], None], *, expect: int = 0, **variables: str
) -> str:
    """Run the sweep in a process that must end with this status; returns what it printed."""
    without_ray = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    folder = Path(sys.modules[work.__module__].__file__).parent  # Ray's workers import the function from there
    path = os.pathsep.join([str(folder), *sys.path])
    command = [sys.executable, "-m", "one_group", str(out), work.__module__.rpartition(".")[2], work.__name__]
    environment = {**without_ray, **variables, "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def main(out: str, module: str, function: str) -> int:
    from srcgcnn.driver.conduct import conduct
    from srcgcnn.driver.payload import GroupOrder, WorkerReport
    from srcgcnn.driver.resources import GroupResources
    from srcgcnn.launch.local import local_ray, private_folder
    from srcgcnn.launch.site import LocalSite
    from srcgcnn.launch.supervisor import supervised
    from srcgcnn.run.training_config import TrainingConfig
    from srcgcnn.run.trial import DataRef
    from srcgcnn.sweep.axes import Axes
    from srcgcnn.sweep.plan import plan_sweep
    from srcgcnn.sweep.spec import SweepSpec
    from srcgcnn.tracking.background import BackgroundWriter

    paths = RunPaths(Path(out))
    axes = Axes(models=("srcgcnn",), depths=(2,), seeds=(0,))
    spec = SweepSpec("one", axes=(axes,), training=TrainingConfig(epochs=1))
    plan = plan_sweep(spec, DataRef("d" * 64, "demo", "e", "eV"), paths)

    def train(config: dict) -> None:
        from ray import tune

        (trial,) = GroupOrder.from_config(config).group.trials
        getattr(importlib.import_module(module), function)(paths, trial)
        tune.report(WorkerReport(ended=True).as_result())

    def run_groups(state, store, run, resources):
        from srcgcnn.driver.tune import run_on_tune

        return run_on_tune(state, store, run, resources, train=train)

    @contextmanager
    def cluster(console):
        with private_folder() as scratch, local_ray(paths, LocalSite(dashboard=False), scratch, console):
            yield GroupResources(max_retries=2)

    tracker = BackgroundWriter(paths, "one", None)
    run = partial(conduct, plan, paths, cluster, tracker, store=paths.out, command="again", run_groups=run_groups)
    return supervised(run, lambda: 0)  # Ray may need more than its 30 s to start


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
