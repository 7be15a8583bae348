"""A node short of memory costs the process that Ray ends, not the sweep."""

import mmap
import time

import psutil
import pytest
from made_results import result_of
from one_group import run_one_group

from srcgcnn.run.folder import open_run
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import write_result

MARGIN_BYTES = 3 * 2**30  # more than other tests take at the same time


def take_all_memory_once(paths, trial):
    before = paths.out / "before"
    if before.exists():
        write_result(paths, result_of(trial))
        return
    before.touch()
    taken = []
    for _ in range(40):  # until Ray ends this process, which it looks for four times a second
        taken.append(mmap.mmap(-1, MARGIN_BYTES // 20))
        for page in range(0, len(taken[-1]), mmap.PAGESIZE):
            taken[-1][page] = 1
        time.sleep(0.05)
    time.sleep(60)


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_process_that_ray_ends_for_its_memory_is_tried_again(tmp_path):
    memory = psutil.virtual_memory()
    if memory.available < 3 * MARGIN_BYTES:
        pytest.skip(f"needs {3 * MARGIN_BYTES / 2**30:.0f} GB of free memory")
    threshold = 1 - (memory.available - MARGIN_BYTES) / memory.total
    printed = run_one_group(tmp_path / "run", take_all_memory_once, RAY_memory_usage_threshold=f"{threshold:.3f}")
    assert "running low on memory" in printed
    paths = RunPaths(tmp_path / "run")
    assert len(open_run(paths).results) == 1
    assert not list(paths.failures.glob("*"))
