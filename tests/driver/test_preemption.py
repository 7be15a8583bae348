"""A node that leaves asks its groups to stop, and takes no group that does not fit its time."""

import time

from srcgcnn.driver.preemption import (
    ALLOCATION_S,
    DEADLINE,
    NODE_FOLDER,
    STOP_FILE,
    counted_as_running,
    fits_time_left,
    running_groups,
    stop_requested,
    take_no_more,
    too_full_for_more,
)


def test_a_node_asks_its_groups_to_stop_by_a_file_or_by_the_clock(monkeypatch, tmp_path):
    assert not stop_requested()
    monkeypatch.setenv(NODE_FOLDER, str(tmp_path))
    monkeypatch.setenv(DEADLINE, "9e9")
    with counted_as_running():
        assert running_groups(tmp_path) == 1
    assert running_groups(tmp_path) == 0
    assert not stop_requested()
    (tmp_path / STOP_FILE).touch()
    assert stop_requested()
    (tmp_path / STOP_FILE).unlink()
    monkeypatch.setenv(DEADLINE, "1")
    assert stop_requested()


def test_a_group_starts_where_it_fits_or_where_no_job_could_hold_it(monkeypatch, tmp_path):
    assert fits_time_left(1e9)  # a sweep on one machine has no limit
    monkeypatch.setenv(NODE_FOLDER, str(tmp_path))
    monkeypatch.setenv(ALLOCATION_S, "3600")
    monkeypatch.setenv(DEADLINE, str(time.monotonic() + 1000))
    assert fits_time_left(None)
    assert fits_time_left(900)
    assert not fits_time_left(1100)
    monkeypatch.setenv(DEADLINE, str(time.monotonic() + 2000))
    assert fits_time_left(1e9)
    assert not too_full_for_more(tmp_path)
    take_no_more()
    assert too_full_for_more(tmp_path)
