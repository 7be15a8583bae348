"""Pareto fronts: which variants no other beats in both error and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from srcgcnn.analysis.comparison import SIGNIFICANCE, compare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from srcgcnn.analysis.study import Study


def on_front(costs: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return which points are not dominated, bool [V].

    A point is dominated if another is no worse in both and better in one. Equal points do not dominate each other.
    """
    costs, errors = np.asarray(costs, dtype=float), np.asarray(errors, dtype=float)
    no_worse = (costs[:, None] <= costs[None]) & (errors[:, None] <= errors[None])  # [by, of]
    better = (costs[:, None] < costs[None]) | (errors[:, None] < errors[None])
    dominated = np.any(no_worse & better, axis=0)
    return np.logical_not(np.asarray(dominated))


def shown_front(study: Study, names: Sequence[str], costs: Sequence[float]) -> list[str]:
    """Return the front that the trials show, from the cheapest variant on; a single one is not a front.

    Means alone make a front of noise. Here every variant is significantly better than the one before it: paired tests
    at 5 %, divided by the number of steps that a front of all variants would have, since the same errors chose which
    are tested.

    Args:
        study: comparable trials.
        names: variants of it.
        costs: one per variant.
    """
    errors = [study.interval(name).mean for name in names]
    chosen = np.flatnonzero(on_front(np.asarray(costs), np.asarray(errors))).tolist()
    cheapest_first = sorted(chosen, key=lambda place: (costs[place], errors[place]))
    front = [names[place] for place in cheapest_first[:1]]
    for place in cheapest_first[1:]:
        step = compare(study, names[place], front[-1])
        if step.difference.mean < 0 and step.p_value < SIGNIFICANCE / (len(names) - 1):
            front.append(names[place])
    return front
