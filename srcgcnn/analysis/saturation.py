"""Saturation depth: the smallest T that the trials cannot distinguish from the best."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from srcgcnn.analysis.comparison import SIGNIFICANCE, Comparison, compare, corrected, non_inferior, p_worse_of

if TYPE_CHECKING:
    from srcgcnn.analysis.intervals import Interval
    from srcgcnn.analysis.study import Study


@dataclass(frozen=True)
class Saturation:
    """The result for one line of variants.

    Attributes:
        best_depth: T of lowest mean validation error.
        depth: smallest T that is not significantly worse than it (one-sided paired t tests on test errors,
            Holm-corrected over the shallower T); None if one of them cannot be tested.
        safe_depth: smallest T shown to be within the margin of the best (non-inferiority; the same correction).
        comparisons: the shallower T against the best, not corrected.
        letter: what the depth counts, `T` or `L`.
    """

    line: str
    best_depth: int
    depth: int | None
    safe_depth: int | None
    margin: float
    comparisons: tuple[Comparison, ...]
    letter: str = "T"

    def sentence(self, unit: str) -> str:
        """Return the result in words."""
        letter = self.letter
        best = f"{self.line}: lowest validation error at {letter} = {self.best_depth}"
        if not self.comparisons:
            return f"{best}; no shallower {letter} was trained."
        if self.depth is None:
            untested = ", ".join(one.variant for one in self.comparisons if not one.difference.known)
            return (
                f"{best}; no saturation depth can be stated, since these cannot be tested against it (one seed, none "
                f"in common, or the same difference in all pairs): {untested}."
            )
        found = f"the smallest {letter} not distinguishable from it is {letter} = {self.depth}"
        if self.depth == self.best_depth:
            found = f"every shallower {letter} is significantly worse"
        safe = f"{letter} = {self.safe_depth}" if self.safe_depth != self.best_depth else f"no shallower {letter}"
        return f"{best}; {found}; {safe} is shown to be within {self.margin:.4g} {unit} of it."


def saturation_of(study: Study, line: str, margin: float) -> Saturation | None:
    """Find the saturation depth of a line; None with fewer than two depths."""
    table = study.line_of(line)
    if len(table) < 2:
        return None
    best = table.loc[table["val_error"].idxmin()]
    shallower = table[table["depth"] < best["depth"]]
    pairs = {int(row.depth): compare(study, row.variant, str(best["variant"])) for row in shallower.itertuples()}
    found = Saturation(line, int(best["depth"]), None, None, margin, tuple(pairs.values()), study.depth_letter(line))
    if any(not pair.difference.known for pair in pairs.values()):
        return found
    within = corrected([non_inferior(pair, margin).p_value for pair in pairs.values()])
    safe = (depth for depth, p_value in zip(pairs, within, strict=True) if p_value < SIGNIFICANCE)
    depth = saturation_depth({depth: pair.difference for depth, pair in pairs.items()}, found.best_depth)
    return replace(found, depth=depth, safe_depth=next(safe, found.best_depth))


def saturation_depth(shallower: dict[int, Interval], best: int) -> int:
    """Return the smallest depth that is not significantly worse than the best.

    Args:
        shallower: depth -> test error minus that of the best, for the depths below it, in rising order.
        best: the best depth; returned if all others are worse.
    """
    p_values = corrected([p_worse_of(difference) for difference in shallower.values()])
    alike = (depth for depth, p_value in zip(shallower, p_values, strict=True) if p_value >= SIGNIFICANCE)
    return next(alike, best)
