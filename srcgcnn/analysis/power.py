"""How many seeds a difference needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from srcgcnn.analysis.intervals import ROUNDING, degrees_of_sum, over_common_crystals
from srcgcnn.analysis.student import t_quantile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from srcgcnn.analysis.intervals import Repeats
    from srcgcnn.run.trial_result import TrialResult

SIGNIFICANCE = 0.05
POWER = 0.8
MOST_SEEDS = 10_000
MOST_MORE = 200  # more seeds than anybody would add
MOST_ERRORS = 1000.0  # a difference of so many standard errors is always found; beyond it scipy's nct overflows


def seed_deviation(results: Iterable[TrialResult]) -> tuple[float, int] | None:
    """Return the deviation of the validation error over seeds, pooled over variants, and its degrees of freedom."""
    from statistics import variance

    groups: dict[object, list[float]] = {}
    for result in results:
        config = result.config
        groups.setdefault((config.variant, config.seeds.split), []).append(result.val_error)
    repeated = [errors for errors in groups.values() if len(errors) > 1]
    degrees = sum(len(errors) - 1 for errors in repeated)
    if not degrees:
        return None
    pooled = sum((len(errors) - 1) * variance(errors) for errors in repeated) / degrees
    return math.sqrt(pooled), degrees


@dataclass(frozen=True)
class Noise:
    """What makes the mean difference of two variants uncertain, as the interval counts it, and what more seeds shrink.

    Attributes:
        of_seeds: variance that one seed of each adds; it shrinks with the seeds.
        of_crystals: variance that the test crystals add, however many seeds there are.
        of_both: variance, of the crystals as well, that shrinks with the seeds.
        crystals: number of test crystals; 1 if only means are known.
    """

    of_seeds: float
    of_crystals: float = 0.0
    of_both: float = 0.0
    crystals: int = 1

    def error(self, seeds: int) -> tuple[float, float]:
        """Return the standard error of the mean with so many seeds, and its degrees of freedom."""
        parts = self.of_seeds / seeds, self.of_crystals + self.of_both / seeds
        if self.crystals < 2:
            return math.sqrt(parts[0]), seeds - 1
        degrees = degrees_of_sum(zip(parts, (seeds - 1, self.crystals - 1), strict=True), seeds - 1)
        return math.sqrt(sum(parts)), degrees

    def power(self, difference: float, seeds: int) -> float:
        """Return the probability that so many seeds find a difference (two-sided t test, 5 %)."""
        from scipy.stats import nct

        error, degrees = self.error(seeds)
        if not error:
            return 1.0
        found = nct.sf(t_quantile(1 - SIGNIFICANCE / 2, degrees), degrees, min(difference / error, MOST_ERRORS))
        return float(found)

    @classmethod
    def of(cls, differences: Repeats) -> Noise | None:
        """Return the noise of the differences of one split; None if one seed is not enough.

        The variances of the interval (`intervals.seeds_and_crystals`), with what seeds and crystals add together taken
        out of that of the crystals, since it shrinks with the seeds.
        """
        (frame,) = differences.by_split.values()
        errors = frame.to_numpy(dtype=float)
        seeds, crystals = errors.shape
        if seeds < 2:
            return None
        of_seeds = float(errors.mean(axis=1).var(ddof=1))
        if crystals < 2:
            return cls(of_seeds)
        left = errors - errors.mean(axis=1, keepdims=True) - errors.mean(axis=0) + errors.mean()
        both = float((left**2).sum()) / ((seeds - 1) * (crystals - 1))
        of_crystals = max(float(errors.mean(axis=0).var(ddof=1)) - both / seeds, 0.0)
        return cls(of_seeds, of_crystals / crystals, both / crystals, crystals)


def noise_of_pairs(pairs: Iterable[Repeats], deviation: float) -> Noise:
    """Return the noise of a typical difference: seeds from the deviation over seeds, crystals from these differences.

    Differences of several splits, and of one seed, say nothing about crystals here; without any others, seeds alone
    count.
    """
    known = [Noise.of(pair) for pair in pairs if len(pair.by_split) == 1]
    found = [one for one in known if one is not None and one.crystals > 1]
    if not found:
        return Noise(pair_variance(deviation))
    return Noise(
        pair_variance(deviation),
        float(np.mean([one.of_crystals for one in found])),
        float(np.mean([one.of_both for one in found])),
        min(one.crystals for one in found),
    )


def pair_variance(deviation: float) -> float:
    """Variance of the difference of two independent trials: equal seeds of two networks do not start alike."""
    return 2 * deviation**2


def detectable(noise: Noise, seeds: int) -> float:
    """Return the smallest difference of two variants that so many seeds each find (80 % power, 5 %, two-sided)."""
    from scipy.optimize import brentq

    if seeds < 2:
        return math.inf
    error, _ = noise.error(seeds)
    if not error:
        return 0.0
    return float(brentq(lambda difference: noise.power(difference, seeds) - POWER, 0.0, MOST_ERRORS * error))


def seeds_needed(noise: Noise, difference: float) -> int:
    """Return how many seeds of each variant find a difference (80 % power, 5 %, two-sided).

    Raises:
        ValueError: more than 10,000 would be needed, or the difference is not positive.
    """
    if difference <= 0:
        raise ValueError(f"difference={difference} must be positive")
    seeds = 2
    while noise.power(difference, seeds) < POWER:
        seeds += 1 if seeds < 200 else 50
        if seeds > MOST_SEEDS:
            cause = "" if noise.crystals < 2 else f" on {noise.crystals} test crystals; more of these would help"
            raise ValueError(
                f"a difference of {difference:g} needs more than {MOST_SEEDS:,} seeds{cause}: it cannot be resolved"
            )
    return seeds


def power_line(results: Iterable[TrialResult], seeds: int) -> str | None:
    """Say in one line what the seeds of a plan can resolve, from earlier results of its data; None without any.

    None, too, where results are of several splits: what splits add to an error is not known from its seeds.
    """
    results = list(results)
    found = seed_deviation(results)
    if found is None or not found[0]:  # error rates of a small set may be equal
        return None
    if len({result.config.seeds.split for result in results}) > 1:
        return None
    deviation, degrees = found
    unit = results[0].config.data.unit if results[0].metrics.val_mae is not None else "of the error rate"
    line = f"seeds: the error spreads by {deviation:.4f} {unit} over seeds ({degrees} degrees of freedom); "
    if seeds < 2:
        return line + "one seed cannot resolve any difference"
    noise = Noise(pair_variance(deviation))
    half = detectable(noise, seeds) / 2
    return (
        line + f"{seeds} seeds of each variant reliably detect only differences above {2 * half:.4f} {unit}; half of "
        f"that, {half:.4f}, needs {seeds_needed(noise, half)} seeds (80 % power, t test over seeds at 5 %; what the "
        "test crystals add is not counted here)"
    )


def seeds_to_decide(differences: Repeats, margin: float, family: int = 1) -> int | None:
    """Return how many seeds of both variants decide, if the true difference is the observed one.

    Decided is that the difference is not zero (two-sided, 5 % divided by the number of comparisons), or that it is
    below the margin (one-sided, 5 %), with 80 % power. More seeds shrink what seeds add to the error of the mean; what
    test crystals add stays. Of several splits it is the number of splits. Always more than there are; None if 200 do
    not decide.

    Args:
        differences: of two variants, on the same seeds and crystals.
        margin: of non-inferiority, in the unit of the errors.
        family: comparisons of the table that this one is in.
    """
    several = len(differences.by_split) > 1
    noise = None if several else Noise.of(differences)
    means = np.array([float(frame.to_numpy().mean()) for frame in differences.by_split.values()])
    if noise is None and np.ptp(means) <= ROUNDING * np.abs(means).max():  # one seed, or the same split several times
        return None
    errors = noise.error if noise else _error_of_splits(differences)
    mean = float(means.mean())
    present = len(differences.by_split) if several else len(differences.seed_means)
    for count in range(present + 1, MOST_MORE + 1):
        error, degrees = errors(count)
        power = t_quantile(POWER, degrees)
        differs = abs(mean) >= (t_quantile(1 - SIGNIFICANCE / family / 2, degrees) + power) * error
        within = margin - mean >= (t_quantile(1 - SIGNIFICANCE, degrees) + power) * error
        if differs or within:
            return count
    return None


def _error_of_splits(differences: Repeats) -> Callable[[int], tuple[float, float]]:
    """Standard error and degrees of freedom of the mean, by the number of splits (`intervals.interval_of`)."""
    frames = list(differences.by_split.values())
    variance = np.array([float(frame.to_numpy().mean()) for frame in frames]).var(ddof=1)
    common, crystals, of_crystals = over_common_crystals(frames), len(frames[0].columns), 0.0
    if common is not None and crystals > 1:
        of_crystals = float(common.mean(axis=0).var(ddof=1)) / crystals

    def error(count: int) -> tuple[float, float]:
        of_splits = variance * (1 / count + differences.test_share)
        degrees = degrees_of_sum([(of_splits, count - 1), (of_crystals, crystals - 1)], count - 1)
        return math.sqrt(of_splits + of_crystals), degrees

    return error
