"""From what a user writes on the command line to a source of crystals.

Here are the dispatcher and CGCNN folders; each other kind of file has its module. A row that a source cannot produce
becomes an `error` row: the build lists it and goes on.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from srcgcnn.data.columns import choose_targets, error_row, file_source, hash_files, reading, refuse_words
from srcgcnn.data.demo import demo_source
from srcgcnn.data.limits import SourceLimits
from srcgcnn.data.manifest import MANIFEST_FILE
from srcgcnn.data.materials_project.snapshot import is_snapshot, open_snapshot
from srcgcnn.data.source import RowError, Source, SourceError, SourceRow
from srcgcnn.data.sources.atoms import open_atoms
from srcgcnn.data.sources.collections import open_jarvis, open_matbench
from srcgcnn.data.sources.structures_json import open_json_lines, open_split_json
from srcgcnn.data.sources.tables import open_csv, open_parquet
from srcgcnn.data.tensor_file import is_regular
from srcgcnn.data.text_input import csv_records, open_text, read_small

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

FOLDER = "CGCNN folder"
ID_PROP_FILE = "id_prop.csv"
SUPPORTED = (
    "demo (built in), a snapshot of the Materials Project (srcgcnn data fetch mp), jarvis:NAME, matbench:NAME, "
    "a CGCNN folder (id_prop.csv and <id>.cif), .csv, .csv.gz or .parquet with a column 'cif', "
    "matbench .json or .json.gz, .jsonl or .jsonl.gz, and ASE's .extxyz, .xyz, .traj or .db"
)


def open_source(
    text: str, targets: Sequence[str] | None = (), unit: str | None = None, limits: SourceLimits | None = None
) -> Source:
    """Open the source that a user named.

    Args:
        text: `demo`, `jarvis:NAME`, `matbench:NAME`, or the path of a folder or file.
        targets: columns to read; default the only numeric one; None reads no targets.
        unit: unit of the targets, or one per target separated by commas; default a guess from their names.
        limits: what a row may cost; one beyond them is a bad row.

    Raises:
        SourceError: nothing readable there; the message lists what is.
    """
    limits = limits or SourceLimits()
    source = replace(_open(text, targets, limits), limits=limits)
    return source if unit is None else replace(source, units=_units(unit, source.targets))


def _open(text: str, targets: Sequence[str] | None, limits: SourceLimits) -> Source:
    if text == "demo":
        return _open_demo(targets)
    if text == "mp":
        raise SourceError(
            "'mp' must be fetched first: srcgcnn data fetch mp --target TARGET --out SNAPSHOT; then name SNAPSHOT here"
        )
    collection, colon, name = text.partition(":")
    if colon and collection in COLLECTIONS:
        return COLLECTIONS[collection](name, targets, limits)
    path = Path(text).expanduser()
    if not path.exists():
        raise SourceError(f"source {text!r}: no such file or folder; supported are: {SUPPORTED}")
    if path.is_dir():
        return _open_folder(path, targets, limits)
    if not is_regular(path):
        raise SourceError(f"source {text!r} is not a regular file")
    for suffix, reader in READERS.items():
        if path.name.lower().endswith(suffix):
            return reader(path, targets, limits)
    raise SourceError(f"source {text!r}: unknown kind of file; supported are: {SUPPORTED}")


def _units(unit: str, targets: Sequence[str]) -> tuple[str, ...]:
    given = tuple(part.strip() for part in unit.split(","))
    if len(given) == 1:
        return given * len(targets)
    if len(given) != len(targets):
        raise SourceError(f"unit={unit!r} has {len(given)} parts for {len(targets)} targets: {', '.join(targets)}")
    return given


def _open_demo(targets: Sequence[str] | None) -> Source:
    source = demo_source()
    choose_targets("demo", targets, source.targets, source.targets)
    return source


def _open_folder(path: Path, targets: Sequence[str] | None, limits: SourceLimits) -> Source:
    if (path / MANIFEST_FILE).is_file():
        raise SourceError(
            f"source {str(path)!r} is a graph store already: give it to --data as it is, or look at it with "
            f"`srcgcnn data info {path}`; graphs do not hold the structures that they were made of"
        )
    return open_snapshot(path, targets) if is_snapshot(path) else open_cgcnn_folder(path, targets, limits)


def open_cgcnn_folder(path: Path, targets: Sequence[str] | None, limits: SourceLimits) -> Source:
    """Open a folder as CGCNN has it: id_prop.csv without header (id, target, ...), and one CIF per id."""
    table = path / ID_PROP_FILE
    if not is_regular(table):
        raise SourceError(f"source {str(path)!r}: a folder without {ID_PROP_FILE}; supported are: {SUPPORTED}")
    with reading(table, FOLDER):
        lines = _id_prop(table, limits)
    if not lines:
        raise SourceError(f"{table} is empty; it needs one line per crystal: id,target")
    names = _folder_targets(table, targets, columns=max(len(line) for line in lines) - 1)
    for column, name in enumerate(names if targets is not None else (), 1):
        refuse_words(str(table), name, [line[column] if len(line) > column else None for line in lines])
    files = [table, *(file for line in lines if (file := _inside(path, line[0])) is not None)]
    return file_source(
        FOLDER,
        path.resolve(),  # "." has no name
        names,
        count=len(lines),
        rows=partial(_folder_rows, path, names, limits),
        content_hash=hash_files(FOLDER, files),
    )


def _id_prop(table: Path, limits: SourceLimits) -> list[list[str]]:
    with open_text(table, limits, newline="") as stream:
        lines = [[cell.strip() for cell in line] for line in csv_records(stream, ",", limits) if line is not None]
    return [line for line in lines if any(line)]


def _inside(folder: Path, row_id: str) -> Path | None:
    """Return the CIF of an id, None where it would lie outside of the folder, also by a link."""
    try:
        file = (folder / f"{row_id}.cif").resolve()
    except (ValueError, OSError, RuntimeError):  # a null byte, a name too long, links in a circle
        return None
    return file if file.is_relative_to(folder.resolve()) else None


def _folder_targets(table: Path, wanted: Sequence[str] | None, columns: int) -> tuple[str, ...]:
    """Name the value columns, which have no header."""
    if columns < 1:
        raise SourceError(f"{table} has no value column; its lines must be: id,target")
    if wanted and len(wanted) != columns:
        raise SourceError(f"{table} has {columns} value columns without names; name each of them (got {list(wanted)})")
    default = ["target"] if columns == 1 else [f"target_{number + 1}" for number in range(columns)]
    return tuple(wanted or default)


def _folder_rows(path: Path, targets: Sequence[str], limits: SourceLimits) -> Iterator[SourceRow]:
    for row_id, *values in _id_prop(path / ID_PROP_FILE, limits):
        named = dict(zip(targets, values, strict=False))  # a short line misses its last targets
        file = _inside(path, row_id)
        try:
            if file is None:
                raise RowError(f"{row_id}.cif lies outside of the folder")
            yield SourceRow(row_id, "cif", read_small(file, limits), named)
        except RowError as error:
            yield error_row(row_id, str(error), named)


READERS: dict[str, Callable[[Path, Sequence[str] | None, SourceLimits], Source]] = {
    ".csv": open_csv,
    ".csv.gz": open_csv,
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
COLLECTIONS: dict[str, Callable[[str, Sequence[str] | None, SourceLimits], Source]] = {
    "jarvis": open_jarvis,
    "matbench": open_matbench,
}
