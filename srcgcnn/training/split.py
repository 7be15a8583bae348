"""Rows to training, validation and test sets. Depends on the store's crystals, the split seed and nothing else.

Random rows flatter a network: most test crystals have a neighbour in composition or structure in the training set. The
kinds `element`, `prototype`, `cluster` and `size` hold out what a network has never seen (for their use see
Meredig et al., Mol. Syst. Des. Eng. 3, 819 (2018), and Li et al., npj Comput. Mater. 9, 55 (2023)).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from srcgcnn.data.store import GraphStore
    from srcgcnn.run.training_config import SplitConfig

KMEANS_ROUNDS = 100  # Lloyd's algorithm converges long before on compositions
ELEMENT_COUNT = re.compile(r"([A-Z][a-z]?)([0-9.]*)")
BRACKET = re.compile(r"\(([^()]*)\)([0-9.]*)")  # pymatgen nests none


class SplitError(ValueError):
    """The rows cannot be split as requested."""


@dataclass(frozen=True)
class Split:
    """Row numbers of the three sets, int64."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Crystals:
    """What a split may use of the rows of a store: their ids, reduced formulas and numbers of atoms in the cell."""

    ids: Sequence[str]
    formulas: Sequence[str]
    atoms: np.ndarray

    @classmethod
    def of(cls, store: GraphStore) -> Crystals:
        """Return the rows of a store."""
        return cls(store.ids, store.formulas, np.concatenate([np.diff(shard["offsets"]) for shard in store.shards]))


def split_rows(config: SplitConfig, seed: int, crystals: Crystals) -> Split:
    """Split all rows of a store.

    Raises:
        SplitError: a set would be empty, a listed id is not in the store, a held-out element is in no crystal, or there
            are fewer training rows than requested.
    """
    if config.kind == "lists":
        split = _by_lists(config, crystals.ids)
    elif config.kind in ("element", "size"):
        held_out = _with_elements(config, crystals) if config.kind == "element" else _largest(config, crystals)
        split = _without(config, seed, held_out)
    else:
        split = _by_units(config, seed, _units(config, seed, crystals))
    for name, rows in (("training", split.train), ("validation", split.val), ("test", split.test)):
        if len(rows) == 0:
            raise SplitError(f"the {name} set is empty: {len(crystals.ids)} rows are too few for split {config.kind!r}")
    if config.train_size is None:
        return split
    return Split(_first_rows(config.train_size, seed, split.train), split.val, split.test)


def _first_rows(size: int, seed: int, rows: np.ndarray) -> np.ndarray:
    """Shuffle the training rows, those that a split keeps together as well, and return the first ones."""
    if size > len(rows):
        raise SplitError(f"train_size={size}: the training set of this split has {len(rows)} rows")
    return np.random.default_rng(seed).permutation(rows)[:size]


def _units(config: SplitConfig, seed: int, crystals: Crystals) -> Sequence[object]:
    """Return, for each row, the unit that stays on one side of the split."""
    if config.kind == "formula":
        return crystals.formulas
    if config.kind == "prototype":
        anonymous = [anonymous_formula(formula) for formula in crystals.formulas]
        return list(zip(anonymous, crystals.atoms.tolist(), strict=True))
    if config.kind == "cluster":
        return cluster_compositions(crystals.formulas, config.clusters, seed).tolist()
    return range(len(crystals.ids))


def anonymous_formula(formula: str) -> str:
    """Return a reduced formula without its elements: CaTiO3 and BaZrO3 are both `1-1-3`.

    The formulas of a store are pymatgen's, which leaves some as chemists write them: O2, Na2O2.
    """
    amounts = sorted(_amounts(formula).values())
    divisor = math.gcd(*map(int, amounts)) if all(amount.is_integer() for amount in amounts) else 1
    return "-".join(f"{amount / divisor:g}" for amount in amounts)


def _amounts(formula: str) -> dict[str, float]:
    amounts: dict[str, float] = {}
    for part, factor in [(BRACKET.sub("", formula), ""), *BRACKET.findall(formula)]:
        for symbol, amount in ELEMENT_COUNT.findall(part):
            amounts[symbol] = amounts.get(symbol, 0.0) + float(amount or 1) * float(factor or 1)
    return amounts


def cluster_compositions(formulas: Sequence[str], clusters: int, seed: int) -> np.ndarray:
    """Cluster rows by their fractions of elements: int64 [R], k-means with starts drawn by k-means++.

    Equal compositions are always in one cluster. Fewer clusters come out if there are fewer compositions.
    """
    unique, inverse = np.unique(np.asarray(formulas), return_inverse=True)
    points, same = np.unique(element_fractions(unique.tolist()), axis=0, return_inverse=True)
    centres = _first_centres(points, min(clusters, len(points)), np.random.default_rng(seed))
    for _ in range(KMEANS_ROUNDS):
        nearest = _squared_distances(points, centres).argmin(axis=1)
        members = [points[nearest == cluster] for cluster in range(len(centres))]
        moved = np.stack([own.mean(axis=0) if len(own) else old for own, old in zip(members, centres, strict=True)])
        if np.array_equal(moved, centres):
            break
        centres = moved
    labels: np.ndarray = nearest[same.ravel()[inverse.ravel()]]
    return labels


def element_fractions(formulas: Sequence[str]) -> np.ndarray:
    """Return one row per formula with the share of every element that is in any of them."""
    amounts = [_amounts(str(formula)) for formula in formulas]
    column = {symbol: place for place, symbol in enumerate(sorted(set().union(*amounts)))}
    fractions = np.zeros((len(amounts), len(column)))
    for row, composition in enumerate(amounts):
        for symbol, amount in composition.items():
            fractions[row, column[symbol]] = amount / sum(composition.values())
    return fractions.round(9)  # so that equal compositions are equal points


def _first_centres(points: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    centres = points[generator.integers(len(points))][None]
    while len(centres) < count:
        distance = _squared_distances(points, centres).min(axis=1)
        chosen = generator.choice(len(points), p=distance / distance.sum())
        centres = np.concatenate([centres, points[chosen][None]])
    return centres


def _squared_distances(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return [P, C], rounded: ties are common (AB lies between A and B), and last bits differ between processors."""
    return np.stack([((points - centre) ** 2).sum(axis=1) for centre in centres], axis=1).round(9)


def _with_elements(config: SplitConfig, crystals: Crystals) -> np.ndarray:
    """Mark the crystals that contain a held-out element: bool [R].

    Raises:
        SplitError: no crystal has one of the elements.
    """
    elements = [set(_amounts(formula)) for formula in crystals.formulas]
    for symbol in config.held_out:
        if not any(symbol in contained for contained in elements):
            known = ", ".join(sorted(set().union(*elements)))
            raise SplitError(f"held_out={symbol!r} is in no crystal of the store; its elements: {known}")
    return np.array([not contained.isdisjoint(config.held_out) for contained in elements])


def _largest(config: SplitConfig, crystals: Crystals) -> np.ndarray:
    """Mark the crystals with the most atoms: bool [R]. Crystals of one size stay together, near the requested share."""
    sizes, counts = np.unique(crystals.atoms, return_counts=True)
    held_out = np.cumsum(counts[::-1])[::-1]  # rows with at least this many atoms
    smallest = sizes[np.abs(held_out - config.fractions[2] * len(crystals.atoms)).argmin()]
    marked: np.ndarray = crystals.atoms >= smallest
    return marked


def _without(config: SplitConfig, seed: int, held_out: np.ndarray) -> Split:
    """Test on the marked rows; divide the others at random, in the proportion of the shares."""
    others = np.random.default_rng(seed).permutation(np.flatnonzero(~held_out))
    train, val, _ = config.fractions
    cut = round(len(others) * train / (train + val))
    return Split(others[:cut], others[cut:], np.flatnonzero(held_out))


def _by_units(config: SplitConfig, seed: int, units: Sequence[object]) -> Split:
    """Shuffle what must stay together, then cut the row count at the requested shares."""
    rows_of: dict[object, list[int]] = {}
    for row, unit in enumerate(units):
        rows_of.setdefault(unit, []).append(row)
    groups = list(rows_of.values())
    order = np.random.default_rng(seed).permutation(len(groups))
    sizes = np.array([len(groups[index]) for index in order])
    middle = np.cumsum(sizes) - sizes / 2  # a group goes where its middle row falls
    borders = _borders(config, len(units))
    part = np.searchsorted(borders, middle, side="right")

    def rows(parts: tuple[int, ...]) -> np.ndarray:
        chosen = [row for place, index in enumerate(order) if part[place] in parts for row in groups[index]]
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
        raise SplitError("an id is in two of the listed sets, or twice in one: test errors would be wrong")
    return Split(train, val, test)
