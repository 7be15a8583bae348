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
    from srcgcnn.sweep.record import SweepRecord
    from srcgcnn.sweep.spec import SweepSpec

ARCHIVED_MANIFEST, ARCHIVED_IDS = "store.json", "ids.txt"


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
        ArchiveError: the folder is that of a sweep, or has another result of the same trial, or one for other data.
    """
    record, target, run = read_record(paths), RunPaths(folder), open_run(paths)
    results = run.results  # damaged ones are named, and count for nothing
    if folder.resolve() == paths.out.resolve() or (target.spec.exists() and not read_record(target).archived):
        raise ArchiveError(f"{folder} is the folder of a sweep: give one for the archive alone")
    for found in (run, open_run(target)):
        _refuse_other_data(found, record)
    new = [result for result in results if not _is_there(target.result(result.key), result)]
    _archive_predictions(run, target)
    for result in new:
        anonymous = replace(result, provenance=replace(result.provenance, hostname=""))
        write_text(target.result(result.key), result_text(anonymous, indent=None))
    for path in sorted(paths.baselines.glob("*.json")):
        write_bytes(target.baseline(path.stem), path.read_bytes())
    write_record(target, replace(record, spec=_without_folders(record.spec), store="", command=""))
    _archive_ids(paths.out if record.archived else Path(record.store), folder)
    size_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return Archived(len(new), len(results) - len(new), size_bytes)


def _refuse_other_data(run: Run, record: SweepRecord) -> None:
    """Refuse a folder with data other than those of the record: an archive keeps one target for each crystal."""
    paths, expected = run.paths, record.data.data_hash
    found = {paths.result(result.key): result.config.data.data_hash for result in run.results}
    if paths.spec.exists():
        found[paths.spec] = read_record(paths).data.data_hash
    for path, data_hash in found.items():
        if data_hash != expected:
            raise ArchiveError(
                f"{path} is of other data ({data_hash}) than the sweep ({expected}): archive each data set into a "
                "folder of its own"
            )


def _without_folders(spec: SweepSpec) -> SweepSpec:
    """Keep the names of files, and not where they are on the machine that trained."""
    data = replace(spec.data, source=Path(spec.data.source).name, ids=spec.data.ids and Path(spec.data.ids).name)
    start = spec.start and replace(spec.start, model=Path(spec.start.model).name)
    return replace(spec, data=data, start=start)


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
    """Write which crystals these are: the manifest of their store, and their ids in its order, or copy both."""
    for name in (ARCHIVED_MANIFEST, ARCHIVED_IDS):
        if (store / name).exists():
            write_bytes(folder / name, (store / name).read_bytes())
    if not (store / MANIFEST_FILE).exists():  # the store has gone; an earlier call may have written them
        return
    opened = GraphStore(store)
    write_text(folder / ARCHIVED_MANIFEST, json.dumps(as_dict(opened.manifest), indent=1) + "\n")
    write_text(folder / ARCHIVED_IDS, "".join(f"{crystal}\n" for crystal in opened.ids))
