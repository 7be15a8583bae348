"""From the spread of seeds to an interval: split conformal prediction on the validation set.

The spread s of a few seeds says where a model is unsure, but not by how much: seeds share their mistakes. So the
residuals of the validation crystals, divided by the scale sqrt(s^2 + floor^2), are sorted, and the k-th smallest of n,
k = ceil((n + 1) 0.9), is the factor by which a scale is multiplied to give the half width (Vovk, Gammerman and Shafer
2005; the locally weighted form of Lei et al., JASA 113, 1094 (2018)). The floor is the root mean square
spread on the validation set: three seeds often agree by chance, and a scale near zero would promise too much.

For exchangeable crystals the interval covers 90 % of new ones on average, whatever the errors look like. Two things are
not quite exchangeable here: the validation set also chose the epoch of the weights, and it set the floor. Both are
small with hundreds of crystals (docs/predictions.md has the coverage found on a test set). Crystals unlike the training
set have no promise at all, which is what the warning is for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

COVERAGE = 0.9


@dataclass(frozen=True)
class Calibration:
    """How spread becomes an interval.

    Attributes:
        factor: half width divided by scale.
        floor: least scale, in the target's unit; 1 for a single model, whose half width is then the factor.
        crystals: validation crystals it rests on.
    """

    factor: float
    floor: float
    crystals: int

    def half_width(self, spread: np.ndarray) -> np.ndarray:
        """Return half widths in the target's unit, for spreads of the seeds [R]."""
        return self.factor * np.sqrt(spread**2 + self.floor**2)


def spread_of(predictions: np.ndarray) -> np.ndarray:
    """Return the standard deviation over seeds, [M, R] to [R]; zero for one model."""
    return predictions.std(axis=0, ddof=1) if len(predictions) > 1 else np.zeros(predictions.shape[1])


def calibrate(targets: np.ndarray, predictions: np.ndarray) -> Calibration | None:
    """Calibrate on validation crystals: targets [R], predictions of the members [M, R].

    Returns:
        None if there are too few crystals for the coverage (below 9).
    """
    count = len(targets)
    rank = math.ceil((count + 1) * COVERAGE)
    if rank > count:
        return None
    spread = spread_of(predictions)
    floor = float(np.sqrt(np.mean(spread**2))) or 1.0
    scores = np.abs(targets - predictions.mean(axis=0)) / np.sqrt(spread**2 + floor**2)
    return Calibration(float(np.sort(scores)[rank - 1]), floor, count)
