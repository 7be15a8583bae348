"""Targets far outside the range of the others: a placeholder such as -999, a wrong unit, a calculation that failed.

A single one spoils the mean and the deviation by which all targets are scaled. They are reported, not removed: the
largest band gap of a database is an outlier, too.
"""

from __future__ import annotations

import numpy as np

# In standard deviations of a normal distribution, estimated by the median absolute deviation, which outliers do not
# move (Leys et al., J. Exp. Soc. Psychol. 49, 764 (2013)). They advise 3 for discarding; targets are skewed, and this
# is for mistakes: of 36,562 formation energies and 34,637 band gaps of the Materials Project, 10 names one, solid He.
FAR = 10.0
NORMAL_DEVIATIONS_PER_MEDIAN = 1.4826  # deviation of a normal distribution in median absolute deviations


def far_outside(values: np.ndarray) -> np.ndarray:
    """Return the rows of the values [G] that lie far from the median, the farthest first.

    Values equal to the median do not count in the median absolute deviation: half of all band gaps are 0, which would
    make every other one an outlier.
    """
    distance = np.abs(values - np.median(values))
    if not distance.any():
        return np.array([], dtype=np.int64)
    scale = NORMAL_DEVIATIONS_PER_MEDIAN * np.median(distance[distance > 0])
    order = np.argsort(-distance, kind="stable")
    return order[distance[order] > FAR * scale]
