"""Pareto fronts: which variants no other beats in both error and cost."""

from __future__ import annotations

import numpy as np


def on_front(costs: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return which points are not dominated, bool [V].

    A point is dominated where another is no worse in both and better in one. Equal points stand together.
    """
    costs, errors = np.asarray(costs, dtype=float), np.asarray(errors, dtype=float)
    no_worse = (costs[:, None] <= costs[None]) & (errors[:, None] <= errors[None])  # [by, of]
    better = (costs[:, None] < costs[None]) | (errors[:, None] < errors[None])
    dominated = np.any(no_worse & better, axis=0)
    return np.logical_not(np.asarray(dominated))
