"""A sweep as a folder to publish: everything that a reader needs to check its answer, and nothing that trains.

The folder holds the result files, the predictions for validation and test crystals, the baselines, what was asked for,
and the ids of the crystals. It is itself the folder of a sweep: `srcgcnn results`, `compare` and `report` read it like
any other. Structures and learned weights stay out; so do host names and the paths of the machine that trained.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from srcgcnn.data.store import GraphStore
from srcgcnn.files import write_bytes, write_text
from srcgcnn.records import as_dict
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.results import find_result, result_text
from srcgcnn.sweep.record import read_record, write_record

if TYPE_CHECKING:
    from srcgcnn.run.trial import TrialResult


class ArchiveError(ValueError):
    """A sweep cannot be added to a folder; the message says why."""


@dataclass(frozen=True)
class Archived:
    """What was added to the folder.

    Attributes:
        added: results that were not there before.
        kept: results that were there already, with the same errors.
        size_bytes: of the whole folder.
    """

    added: int
    kept: int
    size_bytes: int


def archive_sweep(paths: RunPaths, folder: Path) -> Archived:
    """Add the finished trials of a sweep to a folder.

    Args:
        paths: the sweep.
        folder: where to; made if absent, extended otherwise. Other files in it, such as a README, stay.

    Raises:
        ArchiveError: the folder has another result of the same trial, or one of other data.
    """
    record, target = read_record(paths), RunPaths(folder)
    added = kept = 0
    for path in sorted(paths.results.glob("*.json")):
        result = find_result(path)
        if result is None:  # damaged: it was named, and is no evidence
            continue
        result = replace(result, provenance=replace(result.provenance, hostname=""))
        if result.config.data.data_hash != record.data.data_hash:
            raise ArchiveError(
                f"{path} is of other data ({result.config.data.data_hash}) than {paths.spec} "
                f"({record.data.data_hash}): archive each data set into a folder of its own"
            )
        if _is_there(target.result(result.key), result):
            kept += 1
            continue
        _archive_predictions(paths.predictions(result.key), target.predictions(result.key))
        write_text(target.result(result.key), result_text(result, indent=None))
        added += 1
    for path in sorted(paths.baselines.glob("*.json")):
        write_bytes(target.baseline(path.stem), path.read_bytes())
    spec = replace(record.spec, data=replace(record.spec.data, source=Path(record.spec.data.source).name))
    write_record(target, replace(record, spec=spec, store="", command=""))
    _archive_ids(Path(record.store), folder)
    return Archived(added, kept, sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()))


def _is_there(path: Path, result: TrialResult) -> bool:
    """Whether the folder has this result.

    Raises:
        ArchiveError: it has another one of the same trial: a trial that is trained twice ends with the same numbers.
    """
    there = find_result(path)
    if there is None:
        return False
    if there.metrics != result.metrics:
        raise ArchiveError(
            f"{path} has other errors than the same trial of the sweep: find out which is right, and remove the other"
        )
    return True


def _archive_predictions(source: Path, target: Path) -> None:
    """Keep all predictions, with ids and formulas as dictionaries, so that every interval comes out the same."""
    import pandas as pd

    if not source.exists():
        return
    table = pd.read_parquet(source)
    if "set" not in table:  # of older versions, which kept the test set only
        table = table.assign(set="test")
    table = table.astype({"id": "category", "formula": "category", "set": "category"})
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False, compression="zstd")
    write_bytes(target, buffer.getvalue())


def _archive_ids(store: Path, folder: Path) -> None:
    """Write which crystals these are: the manifest of their store, and their ids in its order."""
    if not store.is_dir():  # the store has gone; an earlier call may have written them
        return
    opened = GraphStore(store)
    write_text(folder / "store.json", json.dumps(as_dict(opened.manifest), indent=1) + "\n")
    write_text(folder / "ids.txt", "".join(f"{crystal}\n" for crystal in opened.ids))
