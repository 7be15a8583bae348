"""From what a user writes on the command line to a source of crystals.

Here is the dispatcher; each kind of source has its module. A row that a source cannot produce becomes an `error` row:
the build lists it and continues.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from srcgcnn.data.alloys import alloys_source
from srcgcnn.data.columns import choose_targets
from srcgcnn.data.demo import demo_source
from srcgcnn.data.limits import SourceLimits
from srcgcnn.data.manifest import MANIFEST_FILE
from srcgcnn.data.materials_project.snapshot import is_snapshot, open_snapshot
from srcgcnn.data.source import Source, SourceError, units_given
from srcgcnn.data.sources.atoms import open_atoms
from srcgcnn.data.sources.collections import open_jarvis, open_matbench
from srcgcnn.data.sources.folders import form_of, open_crystal_folder, tables_in
from srcgcnn.data.sources.structures_json import open_json_lines, open_split_json
from srcgcnn.data.sources.tables import open_csv, open_parquet
from srcgcnn.data.tensor_file import is_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SUPPORTED = (
    "demo and alloys (built in), a snapshot of the Materials Project (srcgcnn data fetch mp), jarvis:NAME, "
    "matbench:NAME, a CGCNN folder (id_prop.csv and <id>.cif), "
    "a folder that holds CIF or POSCAR files and a table of targets, "
    ".csv, .tsv (also .gz), .xlsx or .parquet with a column 'cif' or 'structure', "
    "matbench .json or .json.gz, .jsonl or .jsonl.gz, and ASE's .extxyz, .xyz, .traj or .db"
)


def open_source(
    text: str, targets: Sequence[str] | None = (), unit: str | None = None, limits: SourceLimits | None = None
) -> Source:
    """Open the source that a user named.

    Args:
        text: `demo`, `alloys`, `jarvis:NAME`, `matbench:NAME`, or the path of a folder or file.
        targets: columns to read; default the only numeric one; None reads no targets.
        unit: unit of the targets, or one per target separated by commas; default a guess from their names.
        limits: what a row may cost; one beyond them is a bad row.

    Raises:
        SourceError: nothing readable there; the message lists what is.
    """
    limits = limits or SourceLimits()
    source = replace(_open(text, targets, limits), limits=limits)
    return source if unit is None else replace(source, units=units_given(unit, source.targets))


def _open(text: str, targets: Sequence[str] | None, limits: SourceLimits) -> Source:
    if text in BUILT_IN:
        return _open_built_in(text, targets)
    if text == "mp":
        raise SourceError(
            "'mp' must be fetched first: srcgcnn data fetch mp --target TARGET --out SNAPSHOT; then name SNAPSHOT here"
        )
    collection, colon, name = text.partition(":")
    if colon and collection in COLLECTIONS:
        return COLLECTIONS[collection](name, targets, limits)
    path = Path(text).expanduser()
    if not path.exists():
        raise SourceError(f"source {text!r}: no such file or folder; supported: {SUPPORTED}")
    if path.is_dir():
        return _open_folder(path, targets, limits)
    if not is_regular(path):
        raise SourceError(f"source {text!r} is not a regular file")
    if form_of(path):
        raise SourceError(
            f"source {text!r} is one crystal without a target: put the files and a table (id,target) into one folder "
            "and name that, or give it to `srcgcnn predict`"
        )
    return _open_file(path, targets, limits)


def _open_file(path: Path, targets: Sequence[str] | None, limits: SourceLimits) -> Source:
    if path.name.lower().endswith(PICKLES):
        raise SourceError(
            f"source {str(path)!r} is a pickle, and reading one runs whatever is in it. If you trust it, convert it "
            f"once: import pandas; frame = pandas.read_pickle({path.name!r}); frame['structure'] = "
            "[crystal.to_json() for crystal in frame['structure']]; frame.to_parquet('table.parquet')"
        )
    for suffix, reader in READERS.items():
        if path.name.lower().endswith(suffix):
            return reader(path, targets, limits)
    raise SourceError(f"source {str(path)!r}: unknown kind of file; supported: {SUPPORTED}")


def _open_built_in(name: str, targets: Sequence[str] | None) -> Source:
    source = BUILT_IN[name]()
    choose_targets(name, targets, source.targets, source.targets)
    return source


def _open_folder(path: Path, targets: Sequence[str] | None, limits: SourceLimits) -> Source:
    if (path / MANIFEST_FILE).is_file():
        raise SourceError(
            f"source {str(path)!r} is a graph store already: give it to --data as it is, or look at it with "
            f"`srcgcnn data info {path}`; graphs do not hold the structures that they were made of"
        )
    if is_snapshot(path):
        return open_snapshot(path, targets)
    if not tables_in(path):
        raise SourceError(
            f"source {str(path)!r}: a folder without a table of targets; put one into it, next to the crystals "
            f"(id,target); supported: {SUPPORTED}"
        )
    return open_crystal_folder(path, targets, limits)


BUILT_IN: dict[str, Callable[[], Source]] = {"demo": demo_source, "alloys": alloys_source}
READERS: dict[str, Callable[[Path, Sequence[str] | None, SourceLimits], Source]] = {
    ".csv": open_csv,
    ".csv.gz": open_csv,
    ".tsv": open_csv,
    ".tsv.gz": open_csv,
    ".xlsx": open_csv,
    ".parquet": open_parquet,
    ".json": open_split_json,
    ".json.gz": open_split_json,
    ".jsonl": open_json_lines,
    ".jsonl.gz": open_json_lines,
    ".extxyz": open_atoms,
    ".xyz": open_atoms,
    ".traj": open_atoms,
    ".db": open_atoms,
}
PICKLES = (".pkl", ".pickle", ".pkl.gz", ".pickle.gz", ".p")
COLLECTIONS: dict[str, Callable[[str, Sequence[str] | None, SourceLimits], Source]] = {
    "jarvis": open_jarvis,
    "matbench": open_matbench,
}
