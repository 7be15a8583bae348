"""Saturation depth: the smallest T that the trials cannot tell from the best."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from srcgcnn.analysis.comparison import SIGNIFICANCE, Comparison, compare, non_inferior

if TYPE_CHECKING:
    from srcgcnn.analysis.study import Study


@dataclass(frozen=True)
class Saturation:
    """What one line of variants says.

    Attributes:
        best_depth: T of lowest mean validation error.
        depth: smallest T that is not significantly worse than it (one-sided paired t tests on test errors,
            Holm-corrected over the shallower T); None where one seed tests nothing.
        safe_depth: smallest T shown to be within the margin of the best (non-inferiority; the same correction).
        comparisons: the shallower T against the best; `p_corrected` is one-sided here.
    """

    line: str
    best_depth: int
    depth: int | None
    safe_depth: int | None
    margin: float
    comparisons: tuple[Comparison, ...]

    def sentence(self, unit: str) -> str:
        """Say it in words."""
        best = f"{self.line}: lowest validation error at T = {self.best_depth}"
        if self.depth is None:
            return f"{best}; one seed per depth, so no saturation depth can be stated."
        if self.depth == self.best_depth:
            shallower = " and every shallower T is significantly worse" if self.comparisons else ""
            return f"{best}{shallower}: no saturation below it in these trials."
        safe = f"T = {self.safe_depth}" if self.safe_depth != self.best_depth else "no shallower T"
        return (
            f"{best}; the smallest T not distinguishable from it is T = {self.depth}; "
            f"{safe} is shown to be within {self.margin:.4g} {unit} of it."
        )


def saturation_of(study: Study, line: str, margin: float) -> Saturation | None:
    """Find the saturation depth of a line; None with fewer than two depths."""
    from statsmodels.stats.multitest import multipletests

    table = study.line_of(line)
    if len(table) < 2:
        return None
    best = table.loc[table["val_error"].idxmin()]
    shallower = table[table["depth"] < best["depth"]]
    comparisons = [compare(study, name, str(best["variant"])) for name in shallower["variant"]]
    if any(not one.difference.known for one in comparisons) or not study.trials["seed"].nunique() > 1:
        return Saturation(line, int(best["depth"]), None, None, margin, tuple(comparisons))
    if not comparisons:
        return Saturation(line, int(best["depth"]), int(best["depth"]), int(best["depth"]), margin, ())
    worse = multipletests([one.p_worse() for one in comparisons], method="holm")[1]
    within = multipletests([non_inferior(one, margin).p_value for one in comparisons], method="holm")[1]
    depths = [*(int(depth) for depth in shallower["depth"]), int(best["depth"])]
    return Saturation(
        line,
        int(best["depth"]),
        depths[_first([p >= SIGNIFICANCE for p in worse])],
        depths[_first([p < SIGNIFICANCE for p in within])],
        margin,
        tuple(replace(one, p_corrected=float(p)) for one, p in zip(comparisons, worse, strict=True)),
    )


def _first(flags: list[bool]) -> int:
    """Return the index of the first True, or one past the end: the best depth itself."""
    return flags.index(True) if True in flags else len(flags)
