"""How long a trial takes, learnt from finished trials and from those that train: one formula for plan and progress."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from srcgcnn.data.graph import GAUSSIAN_COUNT
from srcgcnn.models.config import USUAL_WIDTH

if TYPE_CHECKING:
    from collections.abc import Iterable

    from srcgcnn.run.trial import TrialConfig, TrialResult

READOUT = 0.5  # of a trial's work: the readout and the evaluation, in convolutions; taken where one depth only is known


@dataclass(frozen=True)
class Timing:
    """What was measured once: a trial of this kind takes so many seconds per epoch, alone on its share of a worker."""

    trial: TrialConfig
    epoch_s: float


@dataclass(frozen=True)
class CostModel:
    """Seconds per epoch = scale * (base + step * depth), one line per family.

    A convolution costs the same at every depth and the readout is the rest: the work is a line in depth. The scale
    holds width and size of the training set, relative to the usual width and the whole set.

    Attributes:
        points: family -> depth and seconds per epoch over the scale, of everything that was measured.
        rows: of the largest training set; 0 where none is known.
    """

    points: dict[str, tuple[tuple[int, float], ...]]
    rows: int = 0

    @classmethod
    def fit(cls, results: Iterable[TrialResult]) -> CostModel:
        """Fit to finished trials of one data set."""
        found = [result for result in results if result.curves.val_error]
        rows = max((result.rows[0] for result in found), default=0)
        timings = [Timing(result.config, result.cost.seconds / len(result.curves.val_error)) for result in found]
        return cls({}, rows).with_timings(timings)

    def with_timings(self, timings: Iterable[Timing]) -> CostModel:
        """Return a model that knows more."""
        points = {family: list(known) for family, known in self.points.items()}
        for timing in timings:
            model = timing.trial.model
            points.setdefault(model.family, []).append((model.depth, timing.epoch_s / scale(timing.trial, self.rows)))
        return CostModel({family: tuple(known) for family, known in points.items()}, self.rows)

    @cached_property
    def lines(self) -> dict[str, tuple[float, float]]:
        """Base and step of every family that was measured."""
        return {family: _line(points) for family, points in self.points.items()}

    def seconds(self, trial: TrialConfig) -> float | None:
        """Expected seconds on one worker; None where nothing is known."""
        if not self.lines:
            return None
        base, step = self.lines.get(trial.model.family) or next(iter(self.lines.values()))
        return max(base + step * trial.model.depth, 0.0) * scale(trial, self.rows) * trial.training.epochs


def work(trial: TrialConfig) -> float:
    """Return the work of a trial without a unit, for the order of trials that nobody has timed."""
    return trial.training.epochs * (READOUT + trial.model.depth) * scale(trial, 0)


def scale(trial: TrialConfig, rows: int) -> float:
    """Return the work of an epoch, relative to a network of the usual width on all `rows` (0: not known)."""
    size, width = trial.training.split.train_size, trial.model.hidden_channels
    share = min(size / rows, 1.0) if size and rows else 1.0
    return share * width * (2 * width + GAUSSIAN_COUNT) / (USUAL_WIDTH * (2 * USUAL_WIDTH + GAUSSIAN_COUNT))


def sweep_seconds(remaining_s: Iterable[float], workers: int) -> float:
    """Return how long groups take side by side: their work shared out, and no less than the longest of them."""
    times = list(remaining_s)
    return max(sum(times) / max(workers, 1), max(times, default=0.0))


def _line(points: tuple[tuple[int, float], ...]) -> tuple[float, float]:
    """Fit base and step; with one depth only, the readout is taken as half a step."""
    depths, seconds = np.array(points, dtype=float).T
    if len(set(depths)) == 1:
        step = float(np.median(seconds)) / (depths[0] + READOUT)
        return READOUT * step, step
    step, base = np.polyfit(depths, seconds, 1)
    return float(base), float(step)
