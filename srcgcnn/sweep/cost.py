"""How long a trial takes, learnt from finished trials and from first steps: one formula for plan and progress."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from srcgcnn.data.graph import GAUSSIAN_COUNT
from srcgcnn.models.config import USUAL_WIDTH

if TYPE_CHECKING:
    from collections.abc import Iterable

    from srcgcnn.run.trial import TrialConfig
    from srcgcnn.run.trial_result import TrialResult

USUAL_NEIGHBOURS = 12
READOUT = 0.5  # of a trial's work: the readout and the evaluation, in convolutions; taken if one depth only is known


@dataclass(frozen=True)
class Timing:
    """What was measured once: a trial of this kind takes so many seconds per epoch, alone on its share of a worker.

    `rows` are those that it trains on; 0 if unknown.
    """

    trial: TrialConfig
    epoch_s: float
    rows: int = 0

    @classmethod
    def of(cls, result: TrialResult) -> Timing:
        """Return the timing of a finished trial."""
        return cls(result.config, result.cost.seconds / len(result.curves.val_error), result.rows[0])


@dataclass(frozen=True)
class CostModel:
    """Seconds per epoch: what was measured of the same shape, else scale * (base + step * depth), one line per family.

    A convolution costs the same at every depth and the readout is the rest: the work is a line in depth. The scale
    holds width, neighbours and size of the training set, relative to the usual ones and the whole set.

    Attributes:
        timings: what was measured, the newest last.
        least_rows: training rows that there are at least, if nothing was measured.
    """

    timings: tuple[Timing, ...]
    least_rows: int = 0

    @classmethod
    def fit(cls, results: Iterable[TrialResult], timings: Iterable[Timing] = (), least_rows: int = 0) -> CostModel:
        """Fit to finished trials of one data set, and to what is known from elsewhere."""
        finished = (Timing.of(result) for result in results if result.curves.val_error)
        return cls((*timings, *finished), least_rows)

    def with_timings(self, timings: Iterable[Timing]) -> CostModel:
        """Return a model that knows more."""
        return CostModel((*self.timings, *timings), self.least_rows)

    @cached_property
    def rows(self) -> int:
        """Rows of the largest training set; 0 if nothing is known of any."""
        return max((timing.rows for timing in self.timings), default=0) or self.least_rows

    @cached_property
    def timed(self) -> dict[object, float]:
        """Seconds per epoch of every shape that was measured, as they were measured last."""
        return {timing.trial.shape: timing.epoch_s for timing in self.timings}

    @cached_property
    def lines(self) -> dict[str, tuple[float, float]]:
        """Base and step of every family that was measured: seconds per epoch over the scale."""
        points: dict[str, list[tuple[int, float]]] = {}
        for timing in self.timings:
            model = timing.trial.model
            points.setdefault(model.family, []).append((model.depth, timing.epoch_s / scale(timing.trial, self.rows)))
        return {family: _line(found) for family, found in points.items()}

    def seconds(self, trial: TrialConfig) -> float | None:
        """Expected seconds on one worker; None if nothing is known."""
        if not self.lines:
            return None
        epoch_s = self.timed.get(trial.shape)
        if epoch_s is None:
            base, step = self.lines.get(trial.model.family) or next(iter(self.lines.values()))
            epoch_s = max(base + step * trial.model.depth, 0.0) * scale(trial, self.rows)
        return epoch_s * trial.training.epochs


def work(trial: TrialConfig, rows: int) -> float:
    """Return the work of a trial without a unit, for the order of trials that were not timed."""
    return trial.training.epochs * (READOUT + trial.model.depth) * scale(trial, rows)


def least_rows(trials: Iterable[TrialConfig]) -> int:
    """Return how many training rows there are at least; 0 if the trials name no number.

    A plan does not know how many are all: they are taken as twice the largest number that is named.
    """
    sizes = {trial.training.split.train_size for trial in trials}
    named = max((size for size in sizes if size), default=0)
    return 2 * named if None in sizes else named


def scale(trial: TrialConfig, rows: int) -> float:
    """Return the work of an epoch, relative to the usual width and graph on all `rows` (0: not known).

    Of limits of the graph only the number of neighbours counts, and a store's own number is taken as the usual one.
    """
    size, width = trial.training.split.train_size, trial.model.hidden_channels
    share = min(size / rows, 1.0) if size and rows else 1.0
    share *= (trial.training.graph.neighbours or USUAL_NEIGHBOURS) / USUAL_NEIGHBOURS
    return share * width * (2 * width + GAUSSIAN_COUNT) / (USUAL_WIDTH * (2 * USUAL_WIDTH + GAUSSIAN_COUNT))


def sweep_s(remaining_s: Iterable[float], workers: int) -> float:
    """Return how long groups take side by side: their work shared out, and no less than the longest of them."""
    times = list(remaining_s)
    return max(sum(times) / max(workers, 1), max(times, default=0.0))


def _line(points: list[tuple[int, float]]) -> tuple[float, float]:
    """Fit base and step; with one depth only, the readout is taken as half a step."""
    depths, seconds = np.array(points, dtype=float).T
    if len(set(depths)) == 1:
        step = float(np.median(seconds)) / (depths[0] + READOUT)
        return READOUT * step, step
    step, base = np.polyfit(depths, seconds, 1)
    return float(base), float(step)
