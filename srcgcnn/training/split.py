"""Rows to training, validation and test sets. Depends on the store's row order, the split seed and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from srcgcnn.run.trial import SplitConfig


class SplitError(ValueError):
    """The rows cannot be split as asked."""


@dataclass(frozen=True)
class Split:
    """Row numbers of the three sets, int64."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def split_rows(config: SplitConfig, seed: int, ids: Sequence[str], formulas: Sequence[str]) -> Split:
    """Split all rows of a store.

    Raises:
        SplitError: a set would be empty, or a listed id is not in the store.
    """
    if config.kind == "lists":
        split = _by_lists(config, ids)
    else:
        units = list(formulas) if config.kind == "formula" else list(range(len(ids)))
        split = _by_units(config, seed, units)
    for name, rows in (("training", split.train), ("validation", split.val), ("test", split.test)):
        if len(rows) == 0:
            raise SplitError(f"the {name} set is empty: {len(ids)} rows are too few for split {config.kind!r}")
    return split


def _by_units(config: SplitConfig, seed: int, units: Sequence[object]) -> Split:
    """Shuffle what must stay together, then cut the row count at the wanted shares."""
    rows_of: dict[object, list[int]] = {}
    for row, unit in enumerate(units):
        rows_of.setdefault(unit, []).append(row)
    groups = list(rows_of.values())
    order = np.random.default_rng(seed).permutation(len(groups))
    sizes = np.array([len(groups[index]) for index in order])
    middle = np.cumsum(sizes) - sizes / 2  # a group goes where its middle row falls
    borders = _borders(config, len(units))
    part = np.searchsorted(borders, middle, side="right")

    def rows(wanted: tuple[int, ...]) -> np.ndarray:
        chosen = [row for place, index in enumerate(order) if part[place] in wanted for row in groups[index]]
        return np.array(chosen, dtype=np.int64)

    if config.kind == "kfold":
        val = (config.fold + 1) % config.folds
        others = tuple(fold for fold in range(config.folds) if fold not in (config.fold, val))
        return Split(rows(others), rows((val,)), rows((config.fold,)))
    return Split(rows((0,)), rows((1,)), rows((2,)))


def _borders(config: SplitConfig, count: int) -> np.ndarray:
    """Cuts in row numbers. Shares round down as in the original code (int(0.6 N)); rows past the last are unused."""
    if config.kind == "kfold":
        return np.round(np.arange(1, config.folds) * count / config.folds)
    sizes = [int(share * count + 1e-9) for share in config.fractions]
    used = sum(config.fractions) > 1 - 1e-9
    borders = np.cumsum(sizes[:2] if used else sizes)
    return borders.astype(float)


def _by_lists(config: SplitConfig, ids: Sequence[str]) -> Split:
    row_of = {row_id: row for row, row_id in enumerate(ids)}
    parts = []
    for listed in config.lists or ():
        missing = [row_id for row_id in listed if row_id not in row_of]
        if missing:
            raise SplitError(f"{len(missing)} listed ids are not in the store, the first is {missing[0]!r}")
        parts.append(np.array([row_of[row_id] for row_id in listed], dtype=np.int64))
    train, val, test = parts
    if len(set(np.concatenate(parts).tolist())) < sum(map(len, parts)):
        raise SplitError("an id stands in two of the listed sets, or twice in one: test errors would be false")
    return Split(train, val, test)
