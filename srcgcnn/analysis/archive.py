"""A sweep as a folder to publish: everything that a reader needs to check its answer, and nothing that trains.

The folder holds the result files, the predictions for validation and test crystals, the baselines, the request,
and the ids of the crystals. It is itself the folder of a sweep: `srcgcnn results`, `compare` and `report` read it like
any other. Structures and learned weights stay out; so do host names and the paths of the machine that trained.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcgcnn.data.manifest import MANIFEST_FILE
from srcgcnn.data.store import GraphStore
from srcgcnn.files import write_bytes, write_text
from srcgcnn.records import as_dict
from srcgcnn.run.folder import open_run
from srcgcnn.run.paths import RunPaths
from srcgcnn.run.predictions import target_columns
from srcgcnn.run.results import find_result, result_text
from srcgcnn.sweep.record import read_record, write_record

if TYPE_CHECKING:
    import pandas as pd

    from srcgcnn.run.folder import Run
    from srcgcnn.run.trial_result import TrialResult


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
        folder: where to; created if missing, otherwise extended. Other files in it, such as a README, stay.

    Raises:
        ArchiveError: the folder has another result of the same trial, or one for other data.
    """
    record, target, run = read_record(paths), RunPaths(folder), open_run(paths)
    results = run.results  # damaged ones are named, and count for nothing
    for result in results:
        if result.config.data.data_hash != record.data.data_hash:
            raise ArchiveError(
                f"{paths.result(result.key)} is of other data ({result.config.data.data_hash}) than {paths.spec} "
                f"({record.data.data_hash}): archive each data set into a folder of its own"
            )
    new = [result for result in results if not _is_there(target.result(result.key), result)]
    _archive_predictions(run, target)
    for result in new:
        anonymous = replace(result, provenance=replace(result.provenance, hostname=""))
        write_text(target.result(result.key), result_text(anonymous, indent=None))
    for path in sorted(paths.baselines.glob("*.json")):
        write_bytes(target.baseline(path.stem), path.read_bytes())
    spec = replace(record.spec, data=replace(record.spec.data, source=Path(record.spec.data.source).name))
    write_record(target, replace(record, spec=spec, store="", command=""))
    _archive_ids(Path(record.store), folder)
    size_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return Archived(len(new), len(results) - len(new), size_bytes)


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
            f"{path} has different errors from the same trial of the sweep: find out which is right, "
            "and remove the other"
        )
    return True


def _archive_predictions(run: Run, target: RunPaths) -> None:
    """Keep every prediction as it is, and what all trials say of a crystal once: a third of the size."""
    import pandas as pd

    tables = {}
    found = [pd.read_parquet(target.crystals).set_index("id")] if target.crystals.exists() else []
    for result in run.results:
        table = run.predictions(result.key)
        if table is not None:
            names = target_columns(result.config.data)
            tables[result.key] = table.drop(columns=["formula", *names]).astype({"set": str})
            found.append(table.set_index("id")[["formula", *names]].rename(columns=names))
    if found:
        crystals = reduce(pd.DataFrame.combine_first, found)
        _write_table(target.crystals, crystals[["formula", *crystals.columns.drop("formula")]].reset_index())
    for key, table in tables.items():
        _write_table(target.predictions(key), table)


def _write_table(path: Path, table: pd.DataFrame) -> None:
    buffer = io.BytesIO()
    options: dict[str, Any] = {"compression_level": 19, "use_dictionary": ["set"], "store_schema": False}
    table.astype({"id": str}).to_parquet(buffer, index=False, compression="zstd", **options)
    write_bytes(path, buffer.getvalue())


def _archive_ids(store: Path, folder: Path) -> None:
    """Write which crystals these are: the manifest of their store, and their ids in its order."""
    if not (store / MANIFEST_FILE).exists():  # the store has gone; an earlier call may have written them
        return
    opened = GraphStore(store)
    write_text(folder / "store.json", json.dumps(as_dict(opened.manifest), indent=1) + "\n")
    write_text(folder / "ids.txt", "".join(f"{crystal}\n" for crystal in opened.ids))
