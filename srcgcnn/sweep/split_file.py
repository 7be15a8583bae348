"""A split of one's own: a csv table with the columns id and set, and the check that a store has its ids."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from srcgcnn.records import RecordError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from srcgcnn.run.training_config import SplitConfig

SETS = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}


def read_split_file(path: Path) -> list[list[str]]:
    """Return the ids of the training, validation and test set, in the order of the file.

    Raises:
        RecordError: a column or a name of a set is wrong, or an id appears twice; the message names the line.
    """
    where = f"--split {path}"
    with path.open(newline="", encoding="utf-8-sig") as stream:
        table = csv.DictReader(stream)
        columns = table.fieldnames or []
        if not {"id", "set"} <= set(columns):
            raise RecordError(f"{where}: needs the columns id and set; it has {', '.join(columns) or 'none'}")
        parts: list[list[str]] = [[], [], []]
        first: dict[str, int] = {}
        for row in table:
            row_id, name = (row["id"] or "").strip(), (row["set"] or "").strip().lower()
            if name not in SETS:
                raise RecordError(f"{where}, line {table.line_num}: set {name!r}; known: train, validation, test")
            if row_id in first:
                raise RecordError(f"{where}, line {table.line_num}: {row_id!r} is also in line {first[row_id]}")
            first[row_id] = table.line_num
            parts[SETS[name]].append(row_id)
    for name, part in zip(("train", "validation", "test"), parts, strict=True):
        if not part:
            raise RecordError(f"{where}: no row of set {name!r}")
    return parts


def refuse_unknown_ids(split: SplitConfig, known: Iterable[str]) -> None:
    """Refuse a split with ids that the store does not have, before anything is started.

    Raises:
        RecordError: some are not there; the first are named.
    """
    if split.lists is None:
        return
    there = set(known)
    missing = [row_id for part in split.lists for row_id in part if row_id not in there]
    if missing:
        shown = ", ".join(map(repr, missing[:3])) + (" ..." if len(missing) > 3 else "")
        raise RecordError(f"the split lists {len(missing):,} ids that the graph store does not have: {shown}")
