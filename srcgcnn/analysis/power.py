"""How many seeds a difference needs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from srcgcnn.analysis.student import t_quantile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from srcgcnn.analysis.intervals import Repeats
    from srcgcnn.run.trial_result import TrialResult

SIGNIFICANCE = 0.05
POWER = 0.8
MOST_SEEDS = 10_000
MOST_MORE = 200  # more seeds than anybody would add


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


def detectable(deviation: float, seeds: int) -> float:
    """Return the smallest difference of two variants that so many seeds each resolve (80 % power, 5 %, two-sided)."""
    from statsmodels.stats.power import TTestPower

    if seeds < 2:
        return math.inf
    effect = TTestPower().solve_power(nobs=seeds, alpha=SIGNIFICANCE, power=POWER)
    return float(effect) * pair_deviation(deviation)


def seeds_needed(deviation: float, difference: float) -> int:
    """Return how many seeds of each variant resolve a difference (80 % power, paired t test, 5 %, two-sided).

    Raises:
        ValueError: more than 10,000 would be needed, or the difference is not positive.
    """
    from statsmodels.stats.power import TTestPower

    if difference <= 0:
        raise ValueError(f"difference={difference} must be positive")
    effect = difference / pair_deviation(deviation) if deviation else math.inf
    seeds, test = 2, TTestPower()
    while test.power(min(effect, 50.0), seeds, SIGNIFICANCE) < POWER:  # stepping: solve_power fails below 2
        seeds += 1 if seeds < 200 else 50
        if seeds > MOST_SEEDS:
            raise ValueError(
                f"a difference of {difference:g} needs more than {MOST_SEEDS:,} seeds: it cannot be resolved"
            )
    return seeds


def pair_deviation(deviation: float) -> float:
    """Deviation of the difference of two independent trials: equal seeds of two networks do not start alike."""
    return math.sqrt(2) * deviation


def power_line(results: Iterable[TrialResult], seeds: int) -> str | None:
    """Say in one line what the seeds of a plan can resolve, from earlier results of its data; None without any."""
    results = list(results)
    found = seed_deviation(results)
    if found is None or not found[0]:  # error rates of a small set may be equal
        return None
    deviation, degrees = found
    unit = results[0].config.data.unit if results[0].metrics.val_mae is not None else "of the error rate"
    line = f"seeds: the error spreads by {deviation:.4f} {unit} over seeds ({degrees} degrees of freedom); "
    if seeds < 2:
        return line + "one seed cannot resolve any difference"
    half = detectable(deviation, seeds) / 2
    return (
        line + f"{seeds} seeds of each variant reliably detect only differences above {2 * half:.4f} {unit}; half of "
        f"that, {half:.4f}, needs {seeds_needed(deviation, half)} seeds (80 % power, paired t test over seeds at 5 %; "
        "tests that also pair the test crystals may detect smaller differences)"
    )


def seeds_to_decide(differences: Repeats, margin: float) -> int | None:
    """Return how many seeds of both variants decide, if the true difference is the observed one.

    Decided is that the difference is not zero (two-sided, 5 %), or that it is below the margin (one-sided, 5 %), with
    80 % power. More seeds shrink what seeds add to the error of the mean; what test crystals add stays. Of several
    splits it is the number of splits. None if 200 do not decide.

    Args:
        differences: of two variants, on the same seeds and crystals.
        margin: of non-inferiority, in the unit of the errors.
    """
    errors = _error_of_splits(differences) if len(differences.by_split) > 1 else _error_of_seeds(differences)
    mean = float(np.mean([frame.to_numpy().mean() for frame in differences.by_split.values()]))
    if errors is None:
        return None
    for count in range(max(2, len(differences.seed_means)), MOST_MORE + 1):
        error, degrees = errors(count)
        power = t_quantile(POWER, degrees)
        differs = abs(mean) >= (t_quantile(1 - SIGNIFICANCE / 2, degrees) + power) * error
        within = margin - mean >= (t_quantile(1 - SIGNIFICANCE, degrees) + power) * error
        if differs or within:
            return count
    return None


def _error_of_splits(differences: Repeats) -> Callable[[int], tuple[float, float]]:
    """Standard error and degrees of freedom of the mean, by the number of splits."""
    means = np.array([float(frame.to_numpy().mean()) for frame in differences.by_split.values()])
    variance = means.var(ddof=1)
    return lambda count: (math.sqrt(variance * (1 / count + differences.test_share)), count - 1)


def _error_of_seeds(differences: Repeats) -> Callable[[int], tuple[float, float]] | None:
    """Standard error and degrees of freedom of the mean, by the number of seeds; None if one seed is not enough.

    The variances of the interval (`intervals.seeds_and_crystals`), with what seeds and crystals add together taken out
    of that of the crystals, since it shrinks with the seeds.
    """
    (frame,) = differences.by_split.values()
    errors = frame.to_numpy(dtype=float)
    seeds, crystals = errors.shape
    if seeds < 2:
        return None
    of_seeds = errors.mean(axis=1).var(ddof=1)
    if crystals < 2:
        return lambda count: (math.sqrt(of_seeds / count), count - 1)
    left = errors - errors.mean(axis=1, keepdims=True) - errors.mean(axis=0) + errors.mean()
    both = float((left**2).sum()) / ((seeds - 1) * (crystals - 1))
    of_crystals = max(errors.mean(axis=0).var(ddof=1) - both / seeds, 0.0)

    def error(count: int) -> tuple[float, float]:
        parts = of_seeds / count, (of_crystals + both / count) / crystals
        spread = parts[0] ** 2 / (count - 1) + parts[1] ** 2 / (crystals - 1)
        return math.sqrt(sum(parts)), sum(parts) ** 2 / spread if spread else count - 1

    return error
