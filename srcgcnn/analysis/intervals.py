"""Intervals of a mean error: over seeds, over seeds and crystals, over splits. What each covers is in docs/report.md.

Seeds and test crystals are crossed: every seed predicts every crystal. The interval used everywhere treats both as
random (the analysis of several readers and cases in diagnostics: Dorfman, Berbaum and Metz 1992; degrees of freedom
after Satterthwaite 1946). A bootstrap over 3 seeds would be too narrow (`benchmarks/interval_coverage.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from srcgcnn.analysis.student import t_quantile

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd

LEVEL = 0.95
ROUNDING = 1e-12  # of the largest number; those that differ by less are equal
MEAN = "mean over all crystals"  # the column of frames without single crystals


@dataclass(frozen=True)
class Repeats:
    """Errors of one variant, or differences of two.

    Attributes:
        by_split: split seed -> frame [S seeds, C crystals]; of means, if predictions are missing, the column is `MEAN`.
        test_share: test rows per training row, for the correction of overlapping splits.
        test_set: what decides the test crystals besides the split seed; means over different ones are not paired.
    """

    by_split: dict[int, pd.DataFrame]
    test_share: float
    test_set: object = None

    def paired_with(self, other: Repeats) -> dict[int, tuple[pd.DataFrame, pd.DataFrame]]:
        """Return both errors on the splits, seeds and crystals that both have."""
        pairs = {}
        for split in sorted(self.by_split.keys() & other.by_split.keys()):
            mine, theirs = self.by_split[split], other.by_split[split]
            if MEAN in mine or MEAN in theirs:  # no predictions on one side: compare the means
                if self.test_set != other.test_set:
                    continue
                mine, theirs = (frame.mean(axis=1).to_frame(MEAN) for frame in (mine, theirs))
            mine, theirs = mine.align(theirs, join="inner")
            if mine.size:
                pairs[split] = mine, theirs
        return pairs

    def minus(self, other: Repeats) -> Repeats:
        """Return the differences on the splits, seeds and crystals that both have."""
        pairs = self.paired_with(other)
        differences = {split: mine - theirs for split, (mine, theirs) in pairs.items()}
        return Repeats(differences, self.test_share, self.test_set)

    @property
    def seed_means(self) -> np.ndarray:
        """Mean over crystals of every split and seed, float64 [trials]."""
        return np.concatenate([frame.to_numpy().mean(axis=1) for frame in self.by_split.values()])


@dataclass(frozen=True)
class Interval:
    """A mean with its two-sided 95 % interval.

    Attributes:
        error: standard error; NaN if nothing was repeated, or all repeats gave the same number: two equal numbers say
            nothing of the next one.
        degrees: degrees of freedom of Student's t.
        repeats: what was treated as random: `seeds`, `seeds and crystals`, `splits`, `splits and crystals`, `nothing`.
    """

    mean: float
    low: float
    high: float
    error: float
    degrees: float
    repeats: str

    def __str__(self) -> str:
        """Write as `0.1234 ± 0.0056`, or the mean alone if nothing was repeated."""
        return f"{self.mean:.4f} ± {self.half_width:.4f}" if self.known else f"{self.mean:.4f}"

    @property
    def known(self) -> bool:
        """Whether there is an interval at all."""
        return math.isfinite(self.error)

    @property
    def half_width(self) -> float:
        """Half of its width; NaN if there is none."""
        return (self.high - self.low) / 2


def interval_of(repeats: Repeats) -> Interval:
    """Return the interval that this project uses: what is repeated decides which.

    Several splits: Student t over the means of the splits, with the variance of overlapping training sets corrected
    (Nadeau and Bengio 2003). If they all test on the same crystals, these are random as well, as they are for one
    split: there, seeds and crystals are. One seed: no interval.
    """
    frames = list(repeats.by_split.values())
    if not frames:
        raise ValueError("nothing to average: no common split, seed or crystal")
    if len(frames) == 1:
        return seeds_and_crystals(frames[0].to_numpy(dtype=float))
    means = np.array([frame.to_numpy(dtype=float).mean() for frame in frames])
    if np.ptp(means) <= ROUNDING * np.abs(means).max():  # lists of rows are the same for every split seed
        return seeds_and_crystals(frames[0].to_numpy(dtype=float))
    variance = means.var(ddof=1) * (1 / len(means) + repeats.test_share)
    common = over_common_crystals(frames)
    if common is not None:
        return _crossed(common, variance, "splits")
    return _student(means, variance, len(means) - 1, "splits")


def over_common_crystals(frames: Sequence[pd.DataFrame]) -> np.ndarray | None:
    """Return the mean errors of splits by crystal, [splits, C], if all test on the same crystals; else None."""
    crystals = frames[0].columns
    if any(set(frame.columns) != set(crystals) for frame in frames):
        return None
    return np.array([frame[crystals].mean(axis="index") for frame in frames])


def degrees_of_sum(parts: Iterable[tuple[float, float]], otherwise: float) -> float:
    """Return the degrees of freedom of a sum of variances, each with its own (Satterthwaite 1946).

    Args:
        parts: variances with their degrees of freedom.
        otherwise: what they are if all variances are 0.
    """
    known = [(variance, degrees) for variance, degrees in parts if variance]
    spread = sum(variance**2 / degrees for variance, degrees in known)
    return sum(variance for variance, _ in known) ** 2 / spread if spread else otherwise


def seeds_and_crystals(errors: np.ndarray) -> Interval:
    """Interval for new seeds and new crystals, from errors [S, C].

    Var(mean) = s2(seed means)/S + s2(crystal means)/C, Student t with the degrees of freedom of Satterthwaite. What is
    special to a seed and a crystal is in both terms. Subtracted once, intervals of a difference covered 92 to 93 % with
    2 to 5 seeds; left in, 94 % (benchmarks/interval_coverage.py), so it stays.
    """
    if len(errors) < 2:
        return _unknown(errors, "nothing")
    return _crossed(errors, errors.mean(axis=1).var(ddof=1) / len(errors), "seeds")


def _crossed(errors: np.ndarray, variance: float, repeats: str) -> Interval:
    """Interval of errors [R, C] whose rows add a known variance to the mean; the crystals add theirs."""
    rows, crystals = errors.shape
    if crystals < 2:
        return _student(errors, variance, rows - 1, repeats)
    of_crystals = errors.mean(axis=0).var(ddof=1) / crystals
    degrees = degrees_of_sum([(variance, rows - 1), (of_crystals, crystals - 1)], rows - 1)
    return _student(errors, variance + of_crystals, degrees, f"{repeats} and crystals")


def over_repeats(values: np.ndarray) -> Interval:
    """Student t over independent numbers: seeds on the same crystals, or crystals of one group."""
    return seeds_and_crystals(np.asarray(values, dtype=float)[:, None])


def _student(values: np.ndarray, variance: float, degrees: float, repeats: str) -> Interval:
    mean, error = float(values.mean()), math.sqrt(variance)
    if error <= ROUNDING * np.abs(values).max():
        return _unknown(values, repeats)
    half = t_quantile((1 + LEVEL) / 2, degrees) * error
    return Interval(mean, mean - half, mean + half, error, float(degrees), repeats)


def _unknown(values: np.ndarray, repeats: str) -> Interval:
    return Interval(float(values.mean()), math.nan, math.nan, math.nan, math.nan, repeats)
