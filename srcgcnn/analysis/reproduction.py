"""Published numbers as targets: is a claim reproduced, not reproduced, or undecided by these trials?

A claim is a number with a tolerance, and the tolerance has a reason. The verdict compares the 95 % interval of our own
trials with the band of the claim: inside it the claim is reproduced, outside it is not, and an interval that crosses a
border of the band decides nothing. So few seeds never reproduce anything by their width (an equivalence test:
Schuirmann, J. Pharmacokinet. Biopharm. 15, 657 (1987)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import pandas as pd

from srcgcnn.analysis.intervals import Interval, Repeats, interval_of
from srcgcnn.records import parse, read_toml, record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from srcgcnn.analysis.study import Study

Verdict = Literal["reproduced", "not reproduced", "cannot tell"]
FOLDS = 5  # of matbench
TEST_SHARE = 1 / 3  # test rows per training row: 20 % of all against 60 %


@record
class Claim:
    """One published number.

    Attributes:
        variant: label of the variant that it is about.
        value: the number: a test error in the target's unit, or a ratio of two test errors.
        tolerance: how far ours may lie from it, in the same unit.
        reason: why that far.
        against: label of the variant in the denominator; without it the number is an error.
        target: of an error, the target that it is about; other targets cannot decide.
        unit: of an error, the target's unit.
    """

    variant: str
    value: float
    tolerance: float
    reason: str
    against: str | None = None
    target: str | None = None
    unit: str | None = None

    def __post_init__(self) -> None:
        """Refuse a tolerance that nothing meets, and an error without a unit."""
        if not 0 < self.tolerance < math.inf:
            raise ValueError(f"tolerance={self.tolerance} must be positive")
        if self.against is None and (self.target is None or self.unit is None):
            raise ValueError(
                f"the error of {self.variant} needs target and unit: numbers of other targets cannot be compared"
            )

    @property
    def name(self) -> str:
        """What is claimed, in readable form."""
        return f"error of {self.variant}" + (f" / error of {self.against}" if self.against else "")


@record
class FoldsClaim:
    """Published errors of one network on the five folds of a matbench task.

    Attributes:
        variant: label of the network.
        task: of matbench.
        unit: of its target.
        values: MAE of `fold_0` to `fold_4`.
        tolerance: how far our mean may lie from theirs, in the same unit.
        reason: why that far.
    """

    variant: str
    task: str
    unit: str
    values: tuple[float, ...]
    tolerance: float
    reason: str

    def __post_init__(self) -> None:
        """Refuse a tolerance that nothing meets, and a wrong number of folds."""
        if not 0 < self.tolerance < math.inf:
            raise ValueError(f"tolerance={self.tolerance} must be positive")
        if len(self.values) != FOLDS:
            raise ValueError(f"values of {self.task}: {len(self.values)}, matbench has {FOLDS} folds")

    @property
    def value(self) -> float:
        """Mean of the folds: the number of matbench's table."""
        return math.fsum(self.values) / len(self.values)

    @property
    def name(self) -> str:
        """What is claimed, in readable form."""
        return f"error of {self.variant} on {self.task}"


@record
class Publication:
    """Contents of `sweeps/published/NAME.toml`.

    Attributes:
        source: where the numbers were published.
        sweep: the sweep definition that trains what is needed: NAME of `sweeps/NAME.toml`.
        claims: the numbers.
        folds: numbers for matbench's folds; `sweep` is then the recipe that `srcgcnn matbench` takes.
    """

    source: str
    sweep: str
    claims: tuple[Claim, ...] = ()
    folds: tuple[FoldsClaim, ...] = ()


@dataclass(frozen=True)
class Reproduction:
    """The verdict of our trials on one claim; `reason` says why they cannot decide, or is empty."""

    claim: Claim | FoldsClaim
    ours: Interval | None
    verdict: Verdict
    reason: str = ""


def read_publication(path: Path) -> Publication:
    """Read a file of published numbers.

    Raises:
        RecordError: it is missing, not TOML, or has an unknown key.
    """
    return parse(Publication, read_toml(path, "publication"), str(path))


def judge(publication: Publication, study: Study) -> list[Reproduction]:
    """Compare every claim with the trials of a study."""
    return [_judge(claim, study) for claim in publication.claims]


def _judge(claim: Claim, study: Study) -> Reproduction:
    known = set(study.variants["variant"])
    if missing := [name for name in (claim.variant, claim.against) if name is not None and name not in known]:
        return Reproduction(claim, None, "cannot tell", f"{' and '.join(missing)} was not trained")
    data = study.results[0].config.data
    if claim.against is None and (data.target, data.unit) != (claim.target, claim.unit):
        reason = f"it is about {claim.target} [{claim.unit}], these trials about {data.target} [{data.unit}]"
        return Reproduction(claim, None, "cannot tell", reason)
    ours = study.repeats(claim.variant)
    try:
        interval = interval_of(ours) if claim.against is None else ratio_of(ours, study.repeats(claim.against))
    except ValueError as error:
        return Reproduction(claim, None, "cannot tell", str(error))
    if not interval.known:
        return Reproduction(claim, interval, "cannot tell", "there are no repeats that differ: train more seeds")
    return _verdict(claim, interval, advice=": train more seeds")


def judge_folds(claim: FoldsClaim, errors: Sequence[float]) -> Reproduction:
    """Compare published errors with ours on the same five folds, paired: folds differ more than networks do.

    Args:
        claim: what was published.
        errors: our MAE on `fold_0`, `fold_1` ...
    """
    if len(errors) != FOLDS:
        return Reproduction(claim, None, "cannot tell", f"{len(errors)} of {FOLDS} folds are recorded")
    differences = {
        fold: pd.DataFrame([[mine - theirs]])
        for fold, (mine, theirs) in enumerate(zip(errors, claim.values, strict=True))
    }
    interval = interval_of(Repeats(differences, TEST_SHARE))
    if not interval.known:  # the same difference on all folds
        interval = replace(interval, low=interval.mean, high=interval.mean)
    low, high = claim.value + interval.low, claim.value + interval.high
    return _verdict(claim, replace(interval, mean=claim.value + interval.mean, low=low, high=high))


def _verdict(claim: Claim | FoldsClaim, interval: Interval, advice: str = "") -> Reproduction:
    low, high = claim.value - claim.tolerance, claim.value + claim.tolerance
    if low <= interval.low and interval.high <= high:
        return Reproduction(claim, interval, "reproduced")
    if interval.high < low or interval.low > high:
        return Reproduction(claim, interval, "not reproduced")
    return Reproduction(claim, interval, "cannot tell", f"the interval crosses a limit of the tolerance{advice}")


def ratio_of(errors: Repeats, others: Repeats) -> Interval:
    """Return the ratio of two mean errors with its interval, paired by split, seed and crystal.

    By the delta method: the interval of `errors - ratio * others`, whose mean is zero, divided by the mean of `others`.

    Raises:
        ValueError: they share no split, seed and crystal.
    """
    pairs = list(errors.paired_with(others).values())
    if not pairs:
        raise ValueError("the two variants share no split, seed and test crystal: train both on the same")
    mean = sum(float(theirs.to_numpy().mean()) for _, theirs in pairs) / len(pairs)
    ratio = sum(float(mine.to_numpy().mean()) for mine, _ in pairs) / len(pairs) / mean
    rest = interval_of(
        Repeats({number: mine - ratio * theirs for number, (mine, theirs) in enumerate(pairs)}, errors.test_share)
    )
    return Interval(
        ratio, ratio + rest.low / mean, ratio + rest.high / mean, rest.error / mean, rest.degrees, rest.repeats
    )
