"""A node short of memory costs the process that Ray ends, not the sweep."""

import json
import mmap
import time

import psutil
import pytest
from made_results import result_of
from one_group import run_one_group

from srcgcnn.run.folder import open_run
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import write_result

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

MARGIN_BYTES = 4 * 2**30  # more than other tests take at the same time


def take_all_memory(paths, trial):
    taken = []
    for _ in range(40):  # until Ray ends this process, which it looks for four times a second
        taken.append(mmap.mmap(-1, MARGIN_BYTES // 20))
        for page in range(0, len(taken[-1]), mmap.PAGESIZE):
            taken[-1][page] = 1
        time.sleep(0.05)
    time.sleep(60)


def take_all_memory_once(paths, trial):
    before = paths.out / "before"
    if not before.exists():
        before.touch()
        take_all_memory(paths, trial)
    write_result(paths, result_of(trial))


@pytest.fixture
def threshold():
    """The share of the memory above which Ray ends processes: a little more than is in use."""
    memory = psutil.virtual_memory()
    if memory.available < 3 * MARGIN_BYTES:
        pytest.skip(f"needs {3 * MARGIN_BYTES / 2**30:.0f} GB of free memory")
    return f"{1 - (memory.available - MARGIN_BYTES) / memory.total:.3f}"


def test_a_process_that_ray_ends_for_its_memory_is_tried_again(tmp_path, threshold):
    printed = run_one_group(tmp_path / "run", take_all_memory_once, RAY_memory_usage_threshold=threshold)
    assert "running low on memory" in printed
    paths = RunPaths(tmp_path / "run")
    assert len(open_run(paths).results) == 1
    assert not list(paths.failures.glob("*"))


def test_a_group_whose_processes_die_each_time_fails_with_the_reason_and_the_sweep_ends(tmp_path, threshold):
    run_one_group(tmp_path / "run", take_all_memory, expect=1, RAY_memory_usage_threshold=threshold)
    (failure,) = RunPaths(tmp_path / "run").failures.glob("*.json")
    reason = json.loads(failure.read_text())["reason"]
    assert "running low on memory" in reason
    assert "`cpus` in the site file" in reason
