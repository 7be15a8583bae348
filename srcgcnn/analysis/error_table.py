"""The statistics of this project for any table of errors: other networks, other programs (docs/statistics.md).

errors = ErrorTable(pandas.read_csv("errors.csv"))  # columns variant, seed, item, error
errors.intervals()
errors.compare("mine", "baseline")
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from srcgcnn.analysis.comparison import Comparison, NonInferiority, holm, non_inferior, paired
from srcgcnn.analysis.intervals import MEAN, Interval, Repeats, interval_of
from srcgcnn.analysis.power import Noise, detectable, noise_of_pairs, seeds_needed

NEEDED = ("variant", "seed", "error")


@dataclass(frozen=True, eq=False)
class ErrorTable:
    """Errors of several variants, trained with several seeds, on test items that they share.

    Attributes:
        frame: one row per error. Columns `variant`, `seed`, `error`; `item` (what was predicted: without it an error is
            the mean of a whole test set); `split` if training and test sets were drawn several times. Others are
            left alone.
        test_share: test rows per training row; needed with several splits, since their training sets overlap.
    """

    frame: pd.DataFrame
    test_share: float | None = None

    def __post_init__(self) -> None:
        """Refuse tables with too little information, or with duplicates.

        Raises:
            TypeError: it is no table.
            ValueError: a column is missing, an error is not a number or negative, or a row appears twice.
        """
        if not isinstance(self.frame, pd.DataFrame):
            what = repr(str(self.frame)) if isinstance(self.frame, str | Path) else f"a {type(self.frame).__name__}"
            raise TypeError(f"ErrorTable takes a pandas table, not {what}; a file: ErrorTable(pandas.read_csv(path))")
        missing = [name for name in NEEDED if name not in self.frame]
        if missing:
            known = ", ".join(map(str, self.frame.columns))
            raise ValueError(f"the table has no column {', '.join(missing)}; it has {known}")
        for name in [name for name in ("variant", "seed", "split", "item") if name in self.frame]:
            empty = self.frame[name].isna().to_numpy()
            if empty.any():
                raise ValueError(
                    f"{empty.sum()} rows have no {name}, the first is row {empty.argmax()} (counted from 0): fill it "
                    "in (a model without random numbers may have seed 0), or leave the rows out"
                )
        numbers = pd.to_numeric(self.frame["error"], errors="coerce")
        bad = ~np.isfinite(numbers.to_numpy(dtype=float))
        if bad.any():
            found = self.frame["error"][bad].iloc[0]
            raise ValueError(f"{bad.sum()} errors are not finite numbers, the first is {found!r}: leave these rows out")
        negative = self.frame[(numbers < 0).to_numpy()]
        if len(negative):
            first = negative.iloc[0]
            where = f"variant {first['variant']!r}" + (f", item {first['item']!r}" if "item" in negative else "")
            raise ValueError(
                f"{len(negative)} errors are negative, the first is {first['error']} ({where}): give absolute errors"
            )
        columns = {
            "variant": self.frame["variant"].astype(str),
            "seed": self.frame["seed"],
            "split": pd.factorize(self.frame["split"])[0] if "split" in self.frame else 0,
            "item": self.frame.get("item", MEAN),
            "error": numbers.astype(float),
        }
        frame = pd.DataFrame(columns)
        twice = frame.duplicated(["variant", "seed", "split", "item"])
        if twice.any():
            first = frame[twice].iloc[0]
            raise ValueError(
                f"{twice.sum()} rows appear twice, the first is variant {first['variant']!r}, seed "
                f"{first['seed']}, item {first['item']!r}: give one error for each"
            )
        if frame["split"].nunique() > 1 and not (self.test_share and 0 < self.test_share < math.inf):
            raise ValueError(
                f"test_share={self.test_share}: with several splits give test rows per training row (0.33)"
            )
        object.__setattr__(self, "frame", frame)

    @property
    def variants(self) -> tuple[str, ...]:
        """Names, in the order of the table."""
        return tuple(dict.fromkeys(self.frame["variant"]))

    def repeats(self, variant: str) -> Repeats:
        """Return the errors of a variant by split, seed and item; items that not all of its seeds have are left out.

        Raises:
            ValueError: there is no such variant, or its seeds have no item in common.
        """
        rows = self.frame[self.frame["variant"] == variant]
        if rows.empty:
            raise ValueError(f"no variant {variant!r}; available: {', '.join(self.variants)}")
        by_split = {}
        for split, part in rows.groupby("split"):
            found = part.pivot_table(index="seed", columns="item", values="error").dropna(axis="columns")
            if not found.size:
                raise ValueError(f"the seeds of {variant!r} have no item in common")
            by_split[cast("int", split)] = found
        return Repeats(by_split, self.test_share or 0.0)

    def interval(self, variant: str) -> Interval:
        """Return the mean error of a variant with its 95 % interval, for new seeds and new items."""
        return interval_of(self.repeats(variant))

    def intervals(self) -> pd.DataFrame:
        """Return one row per variant: mean, low and high end of its 95 % interval, and over what; seeds and items."""
        rows = []
        for name in self.variants:
            repeats, found = self.repeats(name), self.interval(name)
            seeds = sum(len(part) for part in repeats.by_split.values())
            items = max(len(part.columns) for part in repeats.by_split.values())
            rows.append((name, found.mean, found.low, found.high, found.repeats, seeds, items))
        return pd.DataFrame(rows, columns=["variant", "mean", "low", "high", "over", "trials", "items"])

    def compare(self, variant: str, reference: str) -> Comparison:
        """Return the error of a variant minus that of a reference, paired by item, seed and split.

        Raises:
            ValueError: a name is unknown, or they share nothing.
        """
        if variant == reference:
            raise ValueError(f"{variant} is compared with itself; give two variants")
        return paired(variant, self.repeats(variant), reference, self.repeats(reference)).checked()

    def against(self, reference: str) -> list[Comparison]:
        """Compare all others with a reference, with p values corrected for their number (Holm).

        Raises:
            ValueError: the name is unknown, or one of the others shares nothing with it.
        """
        return holm([self.compare(name, reference) for name in self.variants if name != reference])

    def non_inferior(self, variant: str, reference: str, margin: float) -> NonInferiority:
        """Test that the error of a variant exceeds that of a reference by less than a margin, in the unit of errors."""
        return non_inferior(self.compare(variant, reference), margin)

    def seed_deviation(self) -> float:
        """Return the deviation of a trial's mean error over seeds, pooled over variants and splits.

        Raises:
            ValueError: nothing was repeated.
        """
        parts = [part.mean(axis=1) for name in self.variants for part in self.repeats(name).by_split.values()]
        degrees = sum(len(part) - 1 for part in parts)
        if not degrees:
            raise ValueError("no variant has two seeds: how much seeds differ is unknown")
        return math.sqrt(sum((len(part) - 1) * float(part.var()) for part in parts if len(part) > 1) / degrees)

    def seeds_for(self, difference: float) -> int:
        """Return how many seeds of each variant find a difference (80 % power, 5 %, two-sided), as `compare` tests it.

        Raises:
            ValueError: nothing was repeated, or no number of seeds is enough, perhaps because the items are too few.
        """
        return seeds_needed(self._noise(), difference)

    def detectable(self, seeds: int) -> float:
        """Return the smallest difference that so many seeds of each variant find, in the unit of the errors."""
        return detectable(self._noise(), seeds)

    def _noise(self) -> Noise:
        """What blurs a typical difference of two variants: seeds, and the items of one split."""
        pairs = combinations([self.repeats(name) for name in self.variants], 2)
        differences = (mine.minus(theirs) for mine, theirs in pairs)
        return noise_of_pairs(differences, self.seed_deviation())
