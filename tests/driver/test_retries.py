"""A group's own error counts, also where nodes come and go: on real Ray, for it is Ray that says what happened."""

import json
import subprocess
import sys

import pytest

from srcgcnn.driver.preemption import HandedBackError
from srcgcnn.driver.retries import JUDGE_AFTER_S, RetryBudget
from srcgcnn.run.paths import RunPaths

SCRIPT = """
import sys
from contextlib import contextmanager
from pathlib import Path

from srcgcnn.data.store import GraphStore
from srcgcnn.launch.local import local_ray, private_folder
from srcgcnn.launch.site import LocalSite
from srcgcnn.driver.conduct import conduct
from srcgcnn.driver.resources import GroupResources
from srcgcnn.tracking.background import BackgroundWriter
from srcgcnn.run.paths import RunPaths
from srcgcnn.sweep.plan import plan_sweep
from srcgcnn.sweep.axes import Axes
from srcgcnn.sweep.spec import SweepSpec
from srcgcnn.run.training_config import TrainingConfig
from srcgcnn.run.trial import DataRef

store, paths = Path(sys.argv[1]), RunPaths(Path(sys.argv[2]))
target = GraphStore(store).manifest.targets[0]
data = DataRef(GraphStore(store).manifest.data_hash, "demo", target.name, target.unit)
axes = Axes(models=("srcgcnn",), depths=(2,), seeds=(0,))
plan = plan_sweep(SweepSpec("crash", axes=(axes,), training=TrainingConfig(epochs=1)), data, paths)
paths.checkpoint(plan.groups[0].key).mkdir(parents=True)  # a folder where the checkpoint should be


@contextmanager
def cluster(console):
    with private_folder() as scratch, local_ray(paths, LocalSite(dashboard=False), scratch, console):
        yield GroupResources(max_retries=1, nodes_come_and_go=True)


tracker = BackgroundWriter(paths, "crash", None)
sys.exit(conduct(plan, paths, cluster, tracker, store=store, command="again"))
"""


@pytest.mark.full
def test_an_error_before_the_first_report_is_counted_as_the_groups_own(demo_store, tmp_path):
    paths = RunPaths(tmp_path / "run")
    command = [sys.executable, "-c", SCRIPT, str(demo_store.folder), str(paths.out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    (failure,) = paths.failures.glob("*.json")
    assert "IsADirectoryError" in json.loads(failure.read_text())["reason"]
    assert done.stderr.count("Trial task failed") == 2  # the first attempt, and one retry


class ActorError(RuntimeError):
    preempted = False


RayActorError = type("RayActorError", (ActorError,), {})


def test_own_errors_count_and_lost_nodes_do_not(monkeypatch):
    alive = {"10.0.0.1": frozenset({"a"}), "10.0.0.2": frozenset({"b"})}
    budget = RetryBudget(1, lambda: alive)
    clock = [0.0]
    monkeypatch.setattr("srcgcnn.driver.retries.time.monotonic", lambda: clock[0])
    for _ in range(9):
        budget.failed("left", HandedBackError("time"), "10.0.0.1")
        budget.failed("lost", RayActorError(), "10.0.0.2")
        budget.failed("gone", RayActorError(), "10.0.0.9")
    for _ in range(2):
        budget.failed("wrong", ValueError("shape"), "10.0.0.1")
        budget.failed("killed", RayActorError(), "10.0.0.1")
    assert budget.spent("wrong")
    assert not budget.spent("killed")  # perhaps its node goes, too
    alive.pop("10.0.0.2")
    clock[0] = JUDGE_AFTER_S
    assert budget.settle() == ["killed"]
    assert budget.settle() == []
    assert budget.spent("killed")
    assert not any(budget.spent(key) for key in ("left", "lost", "gone"))


def test_a_process_that_dies_before_it_is_heard_of_counts_unless_a_node_went(monkeypatch):
    alive = {"10.0.0.1": frozenset({"a"}), "10.0.0.2": frozenset({"b"})}
    budget = RetryBudget(1, lambda: alive)
    clock = [0.0]
    monkeypatch.setattr("srcgcnn.driver.retries.time.monotonic", lambda: clock[0])
    for node in ("10.0.0.2", None):
        for _ in range(2):
            budget.failed("crash", RayActorError(), "")
        alive.pop(node, None)
        clock[0] += JUDGE_AFTER_S
        budget.settle()
        assert budget.spent("crash") == (node is None)
