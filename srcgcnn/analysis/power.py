"""How many seeds a difference needs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from srcgcnn.run.trial import TrialResult

SIGNIFICANCE = 0.05
POWER = 0.8
MOST_SEEDS = 10_000


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
            raise ValueError(f"a difference of {difference:g} needs more than {MOST_SEEDS:,} seeds: it is not resolved")
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
        return line + "one seed resolves nothing"
    half = detectable(deviation, seeds) / 2
    return (
        line + f"with {seeds} seeds only differences above {2 * half:.4f} are found reliably; for {half:.4f} plan "
        f"{seeds_needed(deviation, half)} seeds (80 % power, paired t test over seeds at 5 %; tests that "
        "pair the test crystals, too, may resolve smaller ones)"
    )
