"""How fast a group trains, told from its steps; the clock is played."""

import pytest

from srcgcnn.driver import pace as pace_module
from srcgcnn.driver.pace import Pace


class Clock:
    """Stands still until told."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.mark.parametrize(("done", "told"), [(0, [12.0, 12.0, 12.0]), (7, [12.0, 12.0])])
def test_an_epoch_that_began_before_a_resume_is_no_measure_of_an_epoch(done, told, monkeypatch):
    """Ten batches of a second, and validation crystals of six batches: two seconds. Afterwards one whole epoch."""
    clock, seconds = Clock(), []
    monkeypatch.setattr(pace_module, "time", clock)
    pace = Pace(10, 6.0, seconds.append, done)
    for first in (done, 0):
        for _ in range(10 - first):
            clock.now += 1.0
            pace.step()
        clock.now += 2.0
        pace.epoch()
    assert seconds == pytest.approx(told)
