"""Chaos in the suite: a short fixed schedule against a real sweep on this machine, and every case that once failed."""

import shutil
from pathlib import Path

import pytest

from srcgcnn.driver.worker import run_group
from srcgcnn.run.paths import RunPaths
from srcgcnn.sweep.plan import plan_sweep
from srcgcnn.sweep.record import read_record
from tests.chaos.checker import read_numbers
from tests.chaos.local import LocalWorld
from tests.chaos.play import Player
from tests.chaos.schedule import Fault, Schedule
from tests.slurm.conftest import missing_part

pytestmark = pytest.mark.full

CASES = sorted((Path(__file__).parent / "cases").glob("*.json"))
FLAGS = ("--models", "srcgcnn", "--depths", "2", "--seeds", "2", "--epochs", "60", "--batch-size", "64")
SHORT = Schedule(
    "local",
    0,
    0,
    (
        Fault("remove", "token"),
        Fault("kill", "raylet"),
        Fault("kill", "trainer", settled=True),
        Fault("lock", "database", pause_s=0.5, lasts_s=4.0),
        Fault("truncate", "checkpoint", pick=700, settled=True),
        Fault("garble", "database", pick=3),
        Fault("kill", "writer"),
        Fault("kill", "driver", pause_s=1.0, settled=True),
        Fault("garble", "spec", pick=5),
        Fault("truncate", "result", pick=500, settled=True),
    ),
)


def calm(paths: RunPaths, folder: Path):
    """Train the same trials undisturbed, in this process."""
    record, quiet = read_record(paths), RunPaths(folder)
    for group in plan_sweep(record.spec, record.data, quiet).groups:
        run_group(group, Path(record.store), quiet, checkpoint_interval_s=1e9)
    return read_numbers(quiet.results)


def test_a_short_schedule_changes_nothing(tmp_path):
    world = LocalWorld(tmp_path / "rough", SHORT, FLAGS)
    verdict = Player(world, lambda: calm(world.paths, tmp_path / "calm"), print).play(SHORT)
    assert verdict.violations == ()
    assert len(verdict.injected) >= 9  # the last result may come too late to be cut


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_case_that_once_failed(path, tmp_path):
    schedule = Schedule.from_json(path.read_text())
    if schedule.world == "lab" and (reason := missing_part()):
        pytest.skip(reason)
    from tests.chaos.lab import LabWorld

    world = (LabWorld if schedule.world == "lab" else LocalWorld)(tmp_path / "rough", schedule)
    (tmp_path / "rough" / "stores").mkdir()
    verdict = Player(world, lambda: calm(world.paths, tmp_path / "calm"), print).play(schedule)
    shutil.rmtree(tmp_path / "rough")
    assert verdict.violations == ()
