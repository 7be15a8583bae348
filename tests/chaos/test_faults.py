"""Faults do what they say: on real processes, files, databases, file systems and clocks."""

import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos import faults
from tests.chaos.processes import MARK, marked, role

MARKED = f"faults-{os.getpid()}"


@pytest.fixture
def sleepers():
    """Three processes with our mark, ended whatever happens."""
    started = [
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env={**os.environ, MARK: MARKED})
        for _ in range(3)
    ]
    yield started
    for process in started:
        process.kill()
        process.wait()


def test_marked_processes_are_found_killed_and_gone(sleepers):
    found = marked(MARKED)
    assert {process.pid for process in found} == {process.pid for process in sleepers}
    assert {role(process) for process in found} == {"other"}
    faults.kill(found)
    assert [process.wait() for process in sleepers] == [-9, -9, -9]
    assert marked(MARKED) == []
    faults.kill(found)  # once more does no harm


def wait_for_status(process, *, stopped):
    end = time.monotonic() + 30  # a signal is delivered when the process runs next
    while (process.status() == psutil.STATUS_STOPPED) != stopped:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_frozen_process_thaws(sleepers):
    process = psutil.Process(sleepers[0].pid)
    thaw = faults.freeze(process)
    wait_for_status(process, stopped=True)
    thaw()
    wait_for_status(process, stopped=False)


@given(st.sampled_from(["remove", "truncate", "garble"]), st.binary(max_size=500), st.integers(0, 999))
def test_damage_removes_cuts_or_overwrites_and_never_grows_by_a_cut(tmp_path_factory, kind, content, pick):
    path = tmp_path_factory.mktemp("damage") / "file"
    path.write_bytes(content)
    faults.damage(kind, path, pick)
    if kind == "remove":
        assert not path.exists()
    elif kind == "truncate":
        assert content.startswith(path.read_bytes())
        assert path.stat().st_size <= len(content)
    else:
        assert path.stat().st_size <= len(content) + 8


@pytest.mark.full
def test_a_locked_database_takes_nothing_until_it_is_unlocked(tmp_path):
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE t (x)")
        unlock = faults.lock_database(path)
        with closing(sqlite3.connect(path, timeout=0.1)) as other, pytest.raises(sqlite3.OperationalError):
            other.execute("SELECT * FROM t").fetchall()
        with pytest.raises(faults.NothingThereError):
            faults.lock_database(path)
        unlock()
        assert database.execute("SELECT * FROM t").fetchall() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_is_full_and_leaves_what_was_written(tmp_path):
    folder = tmp_path / "out"
    faults.small_disk(folder)
    try:
        (folder / "kept").write_text("x")
        make_room = faults.fill_disk(folder)
        with pytest.raises(OSError, match="No space"):
            (folder / "more").write_bytes(random.randbytes(10000))
        make_room()
        (folder / "more").write_bytes(random.randbytes(10000))
    finally:
        faults.leave_small_disk(folder)
    assert not os.path.ismount(folder)
    assert (folder / "kept").read_text() == "x"


CLOCK = """
import json, sys, threading, time
def look():
    return time.time(), time.monotonic()
before = look(); print(flush=True); sys.stdin.readline(); after = look()
start = time.monotonic(); time.sleep(0.2); threading.Event().wait(0.2); lock = threading.Lock(); lock.acquire()
lock.acquire(timeout=0.2)
print(json.dumps([*before, *after, time.monotonic() - start]))
"""


@pytest.mark.full
@pytest.mark.parametrize("step_s", [7200.0, -90.5])
def test_a_clock_is_stepped_and_time_passes_as_before(tmp_path, step_s):
    library, clock = faults.build_clock(tmp_path), tmp_path / "clock"
    if library is None:
        pytest.skip("no C compiler")
    faults.set_clock(clock, 0.0)
    environment = {**os.environ, "LD_PRELOAD": str(library), "CHAOS_CLOCK": str(clock)}
    command = [sys.executable, "-c", CLOCK]
    with subprocess.Popen(command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        faults.set_clock(clock, step_s)
        now = time.time()
        wall, monotonic, wall_after, monotonic_after, waited = json.loads(child.communicate("\n", timeout=60)[0])
    assert wall == pytest.approx(now, abs=30)
    assert wall_after - wall == pytest.approx(step_s + monotonic_after - monotonic, abs=0.5)
    assert 0.6 <= waited < 30
