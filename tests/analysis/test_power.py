"""How many seeds a difference needs: against published tables, other libraries, and simulated sweeps."""

import math

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.power import TTestPower

from srcgcnn.analysis.intervals import Repeats, seeds_and_crystals
from srcgcnn.analysis.power import Noise, detectable, pair_variance, seeds_needed, seeds_to_decide


def test_power_against_a_published_table():
    # Cohen 1988 and G*Power: a paired t test needs 34 pairs for d = 0.5 at 5 % and 80 % power
    noise = Noise(pair_variance(1.0))
    assert seeds_needed(noise, 0.5 * math.sqrt(2)) == 34
    assert detectable(noise, 34) == pytest.approx(0.5 * math.sqrt(2), rel=0.01)


def test_differences_that_nobody_can_resolve_are_refused():
    with pytest.raises(ValueError, match="cannot be resolved"):
        seeds_needed(Noise(1.0), 1e-4)
    with pytest.raises(ValueError, match="on 50 test crystals; more of these would help: it cannot be resolved"):
        seeds_needed(Noise(1e-9, of_crystals=1.0, crystals=50), 0.1)


def test_few_test_crystals_cost_power_that_seeds_do_not_bring_back():
    of_seeds, both = Noise(1.0), Noise(1.0, of_crystals=0.01, of_both=0.1, crystals=200)
    assert detectable(both, 10) > detectable(of_seeds, 10)
    assert both.error(10_000)[0] == pytest.approx(0.1, rel=0.01)
    assert of_seeds.power(1.5, 5) == pytest.approx(TTestPower().power(1.5, 5, 0.05), abs=1e-6)


@pytest.mark.parametrize("difference", [0.0, 0.006])
def test_as_many_seeds_as_are_asked_for_decide_four_times_in_five(difference):
    """A pilot tells the variances; sweeps with that many seeds are then simulated, and tested as the report does."""
    rng, margin, crystals = np.random.default_rng(1), 0.005, 200

    def errors(seeds):
        return difference + seed_part(seeds) + crystal_part + 0.02 * rng.standard_normal((seeds, crystals))

    def seed_part(seeds):
        return 0.006 * rng.standard_normal((seeds, 1))

    crystal_part = 0.01 * rng.standard_normal(crystals)
    pilot = errors(200)
    pilot += difference - pilot.mean()
    few = pilot[:150]
    needed = seeds_to_decide(Repeats({0: pd.DataFrame(few - few.mean() + difference)}, 1 / 3), margin)
    assert needed == 151  # far more than needed: always more than there are, which did not decide
    small = pilot[:2]  # variances from a pilot of two would be luck: scale the large one's down to two seeds
    small = np.vstack([pilot.mean(axis=0)] * 2) + 0.006 * np.array([[1], [-1]]) / np.sqrt(2)
    small += difference - small.mean()
    needed = seeds_to_decide(Repeats({0: pd.DataFrame(small)}, 1 / 3), margin)
    assert 3 <= needed <= 60
    decided = 0
    for _ in range(200):
        crystal_part = 0.01 * rng.standard_normal(crystals)
        interval = seeds_and_crystals(errors(needed))
        upper = interval.mean + 1.66 * interval.error
        decided += interval.low > 0 or interval.high < 0 or upper < margin
    assert 0.6 < decided / 200 <= 1.0


def test_more_splits_and_more_comparisons_are_counted_as_what_they_are():
    rng = np.random.default_rng(3)
    frames = {split: pd.DataFrame(0.01 * rng.standard_normal((5, 30))) for split in range(3)}
    alone = {split: frame.mean(axis=0).to_frame().T for split, frame in frames.items()}
    assert seeds_to_decide(Repeats(frames, 0.01), 0.05) == seeds_to_decide(Repeats(alone, 0.01), 0.05) == 4
    of_seeds = 0.005 + 0.006 * np.linspace(-1, 1, 5)[:, None]
    few = Repeats({0: pd.DataFrame(of_seeds + np.zeros((5, 40)))}, 0.3)
    assert seeds_to_decide(few, 0.005) < seeds_to_decide(few, 0.005, family=12)


def test_more_seeds_do_not_decide_what_test_crystals_limit():
    rng = np.random.default_rng(0)
    errors = 0.001 + 0.05 * rng.standard_normal((1, 20)) + 1e-4 * rng.standard_normal((3, 20))
    assert seeds_to_decide(Repeats({0: pd.DataFrame(errors)}, 1 / 3), 0.005) is None
    assert seeds_to_decide(Repeats({0: pd.DataFrame(errors[:1])}, 1 / 3), 0.005) is None


def test_more_splits_do_not_decide_what_common_test_crystals_limit():
    """Splits by element or of lists test on the same crystals, which stay as they are."""
    rng = np.random.default_rng(0)
    crystals = 0.001 + 0.05 * rng.standard_normal(20)
    frames = {split: pd.DataFrame(crystals + 1e-4 * rng.standard_normal((2, 20))) for split in range(3)}
    assert seeds_to_decide(Repeats(frames, 0.3), 0.005) is None
    others = {split: frame.set_axis(range(20 * split, 20 * split + 20), axis=1) for split, frame in frames.items()}
    assert seeds_to_decide(Repeats(others, 0.3), 0.005) == 4
    same = dict.fromkeys(range(3), frames[0])
    assert seeds_to_decide(Repeats(same, 0.3), 0.005) is None
