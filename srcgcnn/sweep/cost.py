"""How long a trial takes, learnt from finished trials on the same data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from srcgcnn.run.trial import TrialConfig, TrialResult


@dataclass(frozen=True)
class CostModel:
    """Seconds per epoch = base + step * depth, one line per family; None where nothing is known.

    A convolution costs the same at every depth and the readout is the rest: the work is a line in depth.
    """

    base: dict[str, float]
    step: dict[str, float]

    @classmethod
    def fit(cls, results: Iterable[TrialResult]) -> CostModel:
        """Fit to finished trials of one data set."""
        points: dict[str, list[tuple[int, float]]] = {}
        for result in results:
            epochs = len(result.curves.train_loss)
            if epochs:
                model = result.config.model
                points.setdefault(model.family, []).append((model.depth, result.cost.seconds / epochs))
        lines = {family: _line(found) for family, found in points.items()}
        return cls({family: line[0] for family, line in lines.items()}, {f: line[1] for f, line in lines.items()})

    def seconds(self, trial: TrialConfig) -> float | None:
        """Expected seconds on one worker."""
        if not self.base:
            return None
        family = trial.model.family if trial.model.family in self.base else next(iter(self.base))
        per_epoch = self.base[family] + self.step[family] * trial.model.depth
        return max(per_epoch, 0.0) * trial.training.epochs


def _line(points: list[tuple[int, float]]) -> tuple[float, float]:
    """Fit base and step; with one depth only, the readout is taken as half a step."""
    depths, seconds = np.array(points, dtype=float).T
    if len(set(depths)) == 1:
        step = float(np.median(seconds)) / (depths[0] + 0.5)
        return 0.5 * step, step
    step, base = np.polyfit(depths, seconds, 1)
    return float(base), float(step)
