"""The report of a running sweep: a real process writes it, not too often, and none is left at the end."""

import time

import pytest
from made_results import result_of

from srcgcnn.driver.live_report import LiveReport
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import write_result
from tests.driver.test_state import state_of

pytestmark = pytest.mark.full

PATIENCE_S = 240


def test_new_results_write_the_page_and_it_loads_itself_anew(tmp_path):
    state, paths = state_of(tmp_path), RunPaths(tmp_path / "out")
    live = LiveReport(paths, first_s=0.0)
    trials = [group.trials[0] for group in state.plan.groups]
    live.ticked()
    assert live._process is None  # nothing has finished yet
    write_result(paths, result := result_of(trials[0]))
    live.trial_finished(result)
    page, end = paths.report / "index.html", time.monotonic() + PATIENCE_S
    while not page.exists() and time.monotonic() < end:
        live.ticked()
        time.sleep(0.1)
    assert "location.reload" in page.read_text()
    while live._process is not None:
        live.ticked()
        time.sleep(0.1)
    live.trial_finished(result)
    live.ticked()
    assert live._process is None  # not so soon: twenty times what the last one took


def test_no_writer_is_left_at_the_end(tmp_path):
    state, paths = state_of(tmp_path), RunPaths(tmp_path / "out")
    live = LiveReport(paths, first_s=0.0)
    write_result(paths, result := result_of(state.plan.groups[0].trials[0]))
    live.trial_finished(result)
    live.ticked()
    process = live._process
    live.end()
    assert process.poll() is not None
    assert live._process is None


def test_a_machine_without_room_for_a_writer_gets_its_page_later(tmp_path, monkeypatch):
    state, paths = state_of(tmp_path), RunPaths(tmp_path / "out")
    live = LiveReport(paths, first_s=0.0)
    write_result(paths, result := result_of(state.plan.groups[0].trials[0]))
    live.trial_finished(result)
    with monkeypatch.context() as without_python:
        without_python.setattr("sys.executable", str(tmp_path / "nowhere"))
        live.ticked()
    assert live._process is None
    live.ticked()
    assert live._process is not None
    live.end()
