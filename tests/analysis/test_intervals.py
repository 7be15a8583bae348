"""Intervals and tests: against known values, and on simulated sweeps with known truth."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from interval_coverage import World, coverage, coverage_over_splits, false_positives, saturations

from srcgcnn.analysis.intervals import (
    MEAN,
    Repeats,
    interval_of,
    over_repeats,
    seeds_and_crystals,
)
from srcgcnn.analysis.pareto import on_front

finite = st.floats(-10, 10, allow_nan=False).map(lambda value: round(value, 4))


def repeats_of(errors, split=0):
    return Repeats({split: pd.DataFrame(np.asarray(errors, dtype=float))}, 1 / 3)


def test_without_crystals_it_is_student_over_repeats():
    values = [0.10, 0.14, 0.12]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (over_repeats(values).low, over_repeats(values).high) == pytest.approx((low, high))


def test_equal_seeds_leave_student_over_crystals():
    crystals = np.random.default_rng(0).exponential(size=50)
    low, high = stats.t.interval(0.95, 49, crystals.mean(), stats.sem(crystals))
    found = interval_of(repeats_of([crystals, crystals, crystals]))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_splits_are_corrected_for_their_overlap():
    frames = {split: pd.DataFrame([[value]]) for split, value in enumerate([0.10, 0.14, 0.12])}
    found = interval_of(Repeats(frames, 0.5))
    assert found.error == pytest.approx(0.02 * math.sqrt(1 / 3 + 0.5))  # Nadeau and Bengio, equation 9
    assert found.repeats == "splits"


def test_splits_that_test_on_the_same_crystals_leave_these_random():
    rng = np.random.default_rng(4)
    hard, names = rng.exponential(size=20), [f"c{number}" for number in range(20)]
    frames = {split: pd.DataFrame(hard + 0.01 * rng.standard_normal((2, 20)), columns=names) for split in range(3)}
    frames[1] = frames[1][names[::-1]]
    found = interval_of(Repeats(frames, 0.3))
    assert found.repeats == "splits and crystals"
    assert found.error == pytest.approx(hard.std(ddof=1) / math.sqrt(20), rel=0.02)
    other = {split: frame.add_prefix(f"{split} ") for split, frame in frames.items()}
    assert interval_of(Repeats(other, 0.3)).error < 0.1 * found.error


def test_lists_of_rows_are_one_split_whatever_the_split_seed():
    errors = pd.DataFrame(np.random.default_rng(5).exponential(size=(3, 20)))
    assert interval_of(Repeats({0: errors, 1: errors}, 0.3)) == seeds_and_crystals(errors.to_numpy())


def test_means_are_paired_on_one_test_set_only():
    means = pd.DataFrame({MEAN: [0.2, 0.3]})
    crystals = pd.DataFrame({"a": [0.1, 0.2], "b": [0.1, 0.2]})
    mine, theirs = Repeats({0: means}, 1 / 3, "random"), Repeats({0: crystals}, 1 / 3, "random")
    assert mine.minus(theirs).by_split[0][MEAN].tolist() == pytest.approx([0.1, 0.1])
    assert not mine.minus(replace(theirs, test_set="by formula")).by_split
    lone = Repeats({0: pd.DataFrame({"z": [9.0, 9.0]})}, 1 / 3, "random")
    assert not lone.minus(theirs).by_split  # one crystal is not a mean


def test_seeds_of_several_splits_are_not_counted_as_independent():
    errors = {0: pd.DataFrame([[1.0], [1.1]]), 1: pd.DataFrame([[2.0], [2.1]])}
    several, one = interval_of(Repeats(errors, 0.3)), interval_of(Repeats({0: errors[0]}, 0.3))
    assert (several.mean, several.degrees, several.repeats) == (pytest.approx(1.55), 1, "splits")
    assert (one.mean, one.degrees, one.repeats) == (pytest.approx(1.05), 1, "seeds")


def test_one_seed_has_no_interval():
    assert not interval_of(repeats_of([[0.1, 0.2, 0.3]])).known


@pytest.mark.parametrize("error", [0.0, 0.1833])
def test_repeats_that_are_all_equal_have_no_interval(error):
    assert not interval_of(repeats_of(np.full((3, 11), error))).known
    assert str(over_repeats([error, error])) == f"{error:.4f}"


def test_a_difference_pairs_seeds_and_crystals():
    one = Repeats({0: pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}, index=[0, 1])}, 1 / 3)
    other = Repeats({0: pd.DataFrame({"b": [1.0, 1.0, 9.0], "c": 5.0}, index=[1, 0, 2])}, 1 / 3)
    assert one.minus(other).by_split[0].to_dict() == {"b": {0: 2.0, 1: 3.0}}


@given(arrays(float, st.tuples(st.integers(2, 5), st.integers(2, 8)), elements=finite), st.randoms())
@settings(max_examples=30, deadline=None)
def test_the_order_of_seeds_and_crystals_does_not_matter(errors, random):
    rows, columns = list(range(errors.shape[0])), list(range(errors.shape[1]))
    random.shuffle(rows)
    random.shuffle(columns)
    first, second = interval_of(repeats_of(errors)), interval_of(repeats_of(errors[rows][:, columns]))
    assert (first.low, first.high) == pytest.approx((second.low, second.high), abs=1e-7, nan_ok=True)
    assert first.low <= first.mean <= first.high or not first.known


@given(arrays(float, st.tuples(st.integers(1, 12), st.just(2)), elements=finite))
def test_the_front_is_not_dominated_and_complete(points):
    front = on_front(points[:, 0], points[:, 1])
    assert front.any()
    for point, kept in zip(points, front, strict=True):
        beaten = ((points <= point).all(axis=1) & (points < point).any(axis=1)).any()
        assert kept == (not beaten)


@pytest.mark.full
def test_intervals_cover_and_the_bootstrap_over_three_seeds_does_not():
    shares = coverage(World(), 3, 100, 250)
    assert shares["error: seeds and crystals, t"] > 0.91
    assert shares["difference: seeds and crystals, t"] > 0.91
    assert shares["difference: bootstrap over seeds"] < 0.85


@pytest.mark.full
def test_seed_noise_alone_is_covered_too():
    shares = coverage(replace(World(), crystal=0.001, own=0.001, both=0.001), 3, 40, 250)
    assert shares["error: seeds and crystals, t"] > 0.91


@pytest.mark.full
def test_the_printed_interval_over_splits_covers_and_that_of_independent_splits_does_not():
    shares = coverage_over_splits(5, 2, 300)
    assert shares["printed"] > 0.91
    assert shares["as if splits were independent"] < 0.91


@pytest.mark.full
def test_equal_variants_are_rarely_told_apart():
    _, after_holm = false_positives(World(), 5, 3, 60, 80)
    assert after_holm < 0.125  # 3 standard errors above 5 %


@pytest.mark.full
def test_the_planted_saturation_depth_is_found():
    shares = saturations(World(), {1: 0.24, 2: 0.19, 3: 0.14, 5: 0.14}, 4, 200, 40)
    assert shares[3] > 0.85
