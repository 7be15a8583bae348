"""Two variants on the same test crystals and seeds: difference, interval, test, effect size, non-inferiority."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from srcgcnn.analysis.intervals import Interval, interval_of
from srcgcnn.analysis.student import t_below, t_quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from srcgcnn.analysis.intervals import Repeats
    from srcgcnn.analysis.study import Study

SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Comparison:
    """Error of `variant` minus error of `reference`, paired by crystal and seed; positive is worse.

    Attributes:
        difference: with its interval, in the unit of the errors; NaN if the two have no trial in common.
        effect: Hedges' g of the differences over trials: mean over deviation, corrected for few; NaN below three.
        p_value: two-sided t test of no difference; NaN if nothing was repeated.
        p_corrected: the same after Holm's correction for all comparisons of the table.
        seeds: trials on each side that form pairs; 0 if they share no split, seed and test crystal.
    """

    variant: str
    reference: str
    difference: Interval
    effect: float
    p_value: float
    p_corrected: float
    seeds: int

    @property
    def verdict(self) -> str:
        """`worse`, `better`, `not distinguishable`, or `untested` (nothing shared, one seed, or no spread)."""
        if not self.difference.known:
            return "untested"
        if self.p_corrected >= SIGNIFICANCE:
            return "not distinguishable"
        return "worse" if self.difference.mean > 0 else "better"

    def checked(self) -> Comparison:
        """Return this comparison.

        Raises:
            ValueError: the two have nothing in common.
        """
        if not self.seeds:
            pair = f"{self.variant} and {self.reference}"
            raise ValueError(f"{pair} share no split, seed and test crystal: train both on the same")
        return self


@dataclass(frozen=True)
class NonInferiority:
    """One-sided test that the error of a variant exceeds that of the reference by less than a margin.

    Attributes:
        upper: one-sided 95 % upper limit of the difference; the claim holds if it lies below the margin.
    """

    comparison: Comparison
    margin: float
    upper: float
    p_value: float

    @property
    def holds(self) -> bool:
        """Whether the claim is shown at the 5 % level."""
        return self.p_value < SIGNIFICANCE

    def sentence(self, unit: str) -> str:
        """Return the result in words."""
        who, whom = self.comparison.variant, self.comparison.reference
        if not self.comparison.seeds:
            return f"{who} against {whom}: they share no split, seed and test crystal, so nothing can be tested."
        difference = f"difference {self.comparison.difference.mean:+.4f} {unit}"
        if not self.comparison.difference.known:
            why = "from one seed; without repeats" if self.comparison.seeds < 2 else "in every pair of trials; so"
            return f"{who} against {whom}: {difference} {why} nothing can be tested."
        numbers = f"{difference}, one-sided 95 % upper limit {self.upper:+.4f}, {p_phrase(self.p_value)}"
        if self.holds:
            return f"{who} keeps the accuracy of {whom} within {self.margin:g} {unit}: {numbers}."
        if self.comparison.difference.low > self.margin:
            interval = self.comparison.difference
            limits = f"95 % interval {interval.low:+.4f} to {interval.high:+.4f}"
            return f"{who} is worse than {whom} by more than {self.margin:g} {unit}: {difference}, {limits}."
        return f"It is not shown that {who} keeps the accuracy of {whom} within {self.margin:g} {unit}: {numbers}."


def compare(study: Study, variant: str, reference: str) -> Comparison:
    """Compare two variants.

    Raises:
        ValueError: a variant is unknown, or compared with itself.
    """
    if variant == reference:
        raise ValueError(f"{variant} is compared with itself; give two variants")
    return paired(variant, study.repeats(variant), reference, study.repeats(reference))


def paired(variant: str, mine: Repeats, reference: str, theirs: Repeats) -> Comparison:
    """Compare the errors of two variants on what both have: splits, seeds and crystals."""
    differences = mine.minus(theirs)
    if not differences.by_split:
        nothing = Interval(math.nan, math.nan, math.nan, math.nan, math.nan, "nothing")
        return Comparison(variant, reference, nothing, math.nan, math.nan, math.nan, 0)
    difference = interval_of(differences)
    means = differences.seed_means
    effect = _hedges(means.tolist()) if difference.known else math.nan
    p_value = p_of(difference)
    return Comparison(variant, reference, difference, effect, p_value, p_value, len(means))


def p_of(difference: Interval) -> float:
    """Return the two-sided p value of no difference; NaN if nothing was repeated."""
    if not difference.known:
        return math.nan
    if not difference.mean:
        return 1.0
    ratio = abs(difference.mean) / difference.error if difference.error else math.inf
    return 2 * t_below(-ratio, difference.degrees)


def p_worse_of(difference: Interval) -> float:
    """Return the one-sided p value of `not worse`."""
    p_value = p_of(difference)
    return p_value / 2 if difference.mean > 0 else 1 - p_value / 2


def corrected(p_values: Sequence[float]) -> list[float]:
    """Return p values after Holm's correction."""
    if not p_values:
        return []
    from statsmodels.stats.multitest import multipletests

    return [float(value) for value in multipletests(list(p_values), method="holm")[1]]


def _hedges(means: Sequence[float]) -> float:
    from statistics import fmean, stdev

    count = len(means)
    if count < 3 or not stdev(means):  # the factor below is 0 for two seeds: their deviation is meaningless
        return math.nan
    return fmean(means) / stdev(means) * (1 - 3 / (4 * count - 5))  # Hedges 1981, n - 1 degrees of freedom


def holm(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Correct the p values of a family of comparisons."""
    p_values = iter(corrected([one.p_value for one in comparisons if one.difference.known]))
    return [replace(one, p_corrected=next(p_values)) if one.difference.known else one for one in comparisons]


def against(study: Study, reference: str) -> list[Comparison]:
    """Compare every other variant with a reference, Holm-corrected."""
    return holm([compare(study, name, reference) for name in study.variants["variant"] if name != reference])


def check_margin(margin: float) -> None:
    """Refuse a margin of non-inferiority that is not positive.

    Raises:
        ValueError: naming it.
    """
    if not 0 < margin < math.inf:
        raise ValueError(f"margin={margin} must be positive, in the unit of the errors")


def non_inferior(comparison: Comparison, margin: float) -> NonInferiority:
    """Test `difference < margin`.

    Raises:
        ValueError: the margin is not positive.
    """
    check_margin(margin)
    difference = comparison.difference
    if not difference.known:
        return NonInferiority(comparison, margin, math.nan, math.nan)
    upper = difference.mean + t_quantile(1 - SIGNIFICANCE, difference.degrees) * difference.error
    gap = difference.mean - margin
    score = gap / difference.error if difference.error else math.copysign(math.inf, gap)
    return NonInferiority(comparison, margin, upper, t_below(score, difference.degrees))


def p_phrase(value: float) -> str:
    """Write a p value in a sentence: `p = 0.040`, `p < 0.001`."""
    text = p_text(value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def effect_text(value: float) -> str:
    """Write an effect size."""
    return "–" if math.isnan(value) else f"{value:+.1f}"


def p_text(value: float) -> str:
    """Write a p value."""
    if math.isnan(value):
        return "–"
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"
