"""How variants are chosen: all of them (grid), or proposals of a search. No Optuna here: a plan needs none."""

from __future__ import annotations

import math
from dataclasses import field
from typing import Literal

from srcgcnn.records import record

Method = Literal["grid", "random", "tpe", "nsga2"]
Objective = Literal["val_error", "conv_params", "total_params", "seconds"]  # never the test error


@record
class Range:
    """Real numbers.

    Attributes:
        low: lowest.
        high: highest.
        log: whether they are drawn evenly in their logarithm, not in the number.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        """Refuse empty ranges, and logarithms of zero."""
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"low={self.low} must be below high={self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low={self.low} must be positive in a range with log = true")

    def __contains__(self, value: float) -> bool:
        """Whether a number lies in the range, its ends included."""
        return self.low <= value <= self.high


@record
class SearchRanges:
    """What a search varies besides the axes of the sweep; without it a value stays as the sweep has it.

    Attributes:
        learning_rate: a range, such as `{low = 3e-4, high = 1e-2, log = true}`.
        weight_decay: a range, too.
        hidden_channels: widths to choose from.
    """

    learning_rate: Range | None = None
    weight_decay: Range | None = None
    hidden_channels: tuple[int, ...] = ()


@record
class SearchSpec:
    """A search over the axes of a sweep. One proposal is one variant, trained over all seeds and splits.

    Attributes:
        method: `grid` trains every combination and ignores the rest; `random`, `tpe` (tree-structured Parzen
            estimator) and `nsga2` (genetic, for several objectives) propose.
        proposals: how many variants are proposed in total; a finished one counts and costs nothing.
        objectives: what is minimised: `val_error` (mean over seeds of the validation MAE, or error rate),
            `conv_params`, `total_params`, `seconds`. Several give a Pareto front.
        seed: proposals are a function of it and of what is known.
        startup: proposals drawn at random before the algorithm learns; the population size of nsga2.
        parallel: proposals in training at a time. Proposal n is made when 0 .. n - parallel have ended.
        ranges: more that is varied.
    """

    method: Method = "grid"
    proposals: int = 20
    objectives: tuple[Objective, ...] = ("val_error",)
    seed: int = 0
    startup: int = 8
    parallel: int = 4
    ranges: SearchRanges = field(default_factory=SearchRanges)

    def __post_init__(self) -> None:
        """Refuse numbers with which nothing would be proposed."""
        for name in ("proposals", "startup", "parallel"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.seed < 0:
            raise ValueError(f"seed={self.seed} must not be negative")
        if self.method == "nsga2" and self.startup < 2:
            raise ValueError(f"startup={self.startup} is the population size of nsga2: at least 2")
        if not self.objectives or len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"objectives={list(self.objectives)} must name each objective once, and at least one")

    @property
    def proposes(self) -> bool:
        """Whether an algorithm proposes variants, instead of the grid of all."""
        return self.method != "grid"
