"""Processes are told from others that got their numbers, and from themselves after somebody has set the clock."""

import os
import subprocess
import sys
import time

import psutil
from set_clock import proc_of_a_clock_set_forward

from srcgcnn.driver.preemption import NODE_FOLDER, RUNNING_FOLDER, counted_as_running, running_groups
from srcgcnn.driver.progress import ProgressFile, read_progress
from srcgcnn.launch.status import driver_lives
from srcgcnn.processes import find_process, started_s_after_boot
from srcgcnn.run.paths import RunPaths
from tests.driver.test_state import state_of


def test_a_number_that_was_used_again_is_another_process():
    start = started_s_after_boot(psutil.Process())
    assert find_process(os.getpid(), start).pid == os.getpid()
    assert find_process(os.getpid(), start - 1.0) is None


def test_a_zombie_is_no_process():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = started_s_after_boot(psutil.Process(child.pid))
    assert find_process(child.pid, start)
    child.kill()
    end = time.monotonic() + 60
    while find_process(child.pid, start):
        assert time.monotonic() < end
    child.communicate()
    assert find_process(child.pid, start) is None


def test_a_driver_lives_after_somebody_has_set_the_clock(tmp_path, monkeypatch):
    paths, state = RunPaths(tmp_path / "out"), state_of(tmp_path)
    progress = ProgressFile(paths, state)
    state.listen(progress)
    progress.write()
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(proc_of_a_clock_set_forward(tmp_path / "proc")))
    assert driver_lives(read_progress(paths))


def test_a_group_that_was_killed_does_not_train_under_its_number(tmp_path, monkeypatch):
    monkeypatch.setenv(NODE_FOLDER, str(tmp_path))
    with counted_as_running():
        mark = tmp_path / RUNNING_FOLDER / str(os.getpid())
        assert running_groups(tmp_path) == 1
        mark.write_text("")  # it is being written
        assert running_groups(tmp_path) == 1
        mark.write_text("1.0")  # of a process that had this number before
        assert running_groups(tmp_path) == 0
