"""The sweep's own MLflow store is damaged while the driver has it open: at the end it says what the files say."""

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import pytest
from tracked_sweep import a_config, a_result, finish, writer

from srcgcnn.tracking.fields import curve_epochs

pytestmark = pytest.mark.full

LOOK = """
import sys
from pathlib import Path
from srcgcnn.run.paths import RunPaths
from tests.chaos.checker import check, observe, read_numbers
paths = RunPaths(Path(sys.argv[1]))
for violation in check(observe(paths, mark="none", temp=None), read_numbers(paths.results)):
    print(violation)
"""


def found(paths):
    """What the checker finds, in a process without connections to the file that was there before."""
    done = subprocess.run([sys.executable, "-c", LOOK, str(paths.out)], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def overwrite(path):
    with path.open("r+b") as file:
        for start in range(0, path.stat().st_size, 3000):
            file.seek(start)
            file.write(os.urandom(200))


DAMAGES = {
    "removed": lambda path: path.unlink(),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "overwritten": overwrite,
}


def start(paths):
    """A driver in the middle of a sweep: one trial is finished, one trains."""
    sweep = writer(paths)
    for seed in (1, 2):
        sweep.trial_started(a_config(seed))
    sweep.trial_finished(finish(paths, a_config(1)))
    sweep.trial_progress(a_config(2).key, curve_epochs(a_result(a_config(2)))[:2])
    return sweep


@pytest.mark.filterwarnings("ignore:MLflow missed")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_store_that_is_damaged_meanwhile_is_written_anew(paths, damage):
    sweep = start(paths)
    DAMAGES[damage](paths.mlflow_db)
    sweep.trial_finished(finish(paths, a_config(2)))
    sweep.sweep_finished("| t |\n", "t\n")
    assert found(paths) == []


@pytest.mark.filterwarnings("ignore:MLflow missed")
def test_a_damaged_model_file_costs_its_model_only(paths):
    """Found by random faults: the store could not be written again because one model file was cut."""
    sweep = start(paths)
    overwrite(paths.mlflow_db)
    sweep.trial_finished(finish(paths, a_config(2)))
    os.truncate(paths.model(a_config(2).key), 100)
    sweep.sweep_finished("| t |\n", "t\n")
    assert found(paths) == []


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_a_new_driver_sets_a_damaged_store_aside(paths, damage):
    start(paths)
    DAMAGES[damage](paths.mlflow_db)
    sweep = writer(paths)
    with pytest.warns(UserWarning, match="rewritten"):
        sweep.trial_started(a_config(2))
    assert (paths.out / "mlflow.db.damaged").exists()


@pytest.mark.filterwarnings("ignore:MLflow missed")
def test_a_store_that_is_locked_at_the_end_is_complete_when_the_lock_goes(paths):
    sweep = start(paths)
    finish(paths, a_config(2))
    with closing(sqlite3.connect(paths.mlflow_db, isolation_level=None, check_same_thread=False)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        threading.Timer(25.0, lambda: holder.execute("ROLLBACK")).start()
        sweep.sweep_finished("| t |\n", "t\n")
    assert found(paths) == []
