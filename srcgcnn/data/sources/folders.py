"""Folders with one file per crystal: as CGCNN has them (id_prop.csv and CIFs), or with any table next to the files."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from srcgcnn.data.columns import (
    ID_KEYS,
    all_numbers,
    choose_targets,
    error_row,
    file_source,
    find_key,
    hash_files,
    reading,
    refuse_words,
    row_identity,
)
from srcgcnn.data.source import RowError, Source, SourceError, SourceRow
from srcgcnn.data.sources.tables import record_fault, text_records
from srcgcnn.data.tensor_file import is_regular
from srcgcnn.data.text_input import csv_records, open_text, read_small

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from srcgcnn.data.limits import SourceLimits

FOLDER = "CGCNN folder"
FILES = "folder of crystals"
ID_PROP_FILE = "id_prop.csv"
FILE_KEYS = ("file", "filename", "cif_file", "path")
TABLE_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".xlsx")
POSCAR = "POSCAR_"
CRYSTAL_FORMS: dict[str, Literal["cif", "poscar"]] = {
    ".cif": "cif",
    ".mcif": "cif",
    ".vasp": "poscar",
    ".poscar": "poscar",
}


def open_crystal_folder(path: Path, targets: Sequence[str] | None, limits: SourceLimits) -> Source:
    """Open a folder with one file per crystal and a table of targets.

    Raises:
        SourceError: there is no table, more than one, or one that does not name the files.
    """
    if is_regular(path / ID_PROP_FILE):
        return open_cgcnn_folder(path, targets, limits)
    tables = tables_in(path)
    if len(tables) != 1:
        found = ", ".join(table.name for table in tables[:5]) or "none"
        raise SourceError(
            f"source {str(path)!r}: a folder without {ID_PROP_FILE} needs one table with a header (found: {found}): "
            f"a column {' or '.join((*ID_KEYS[:2], *FILE_KEYS))} that names the files, and columns of targets"
        )
    return _open_folder_with_table(path, tables[0], targets, limits)


def tables_in(folder: Path) -> list[Path]:
    """Return the tables of a folder that could name its crystals."""
    return [
        file for file in sorted(folder.iterdir()) if file.name.lower().endswith(TABLE_SUFFIXES) and is_regular(file)
    ]


def _open_folder_with_table(path: Path, table: Path, targets: Sequence[str] | None, limits: SourceLimits) -> Source:
    with reading(table, FILES):
        records = text_records(table, (*FILE_KEYS, *ID_KEYS), limits)
        columns = next(records) or []
        found = list(records)
    lines = [record or [] for record in found]
    faults = [record_fault(record, number, columns, limits) for number, record in enumerate(found)]
    key = find_key(columns, FILE_KEYS) or find_key(columns, ID_KEYS)
    if key is None:
        known = " or ".join((*FILE_KEYS, *ID_KEYS))
        raise SourceError(f"{table}: no column {known} that names the files; columns: {', '.join(columns)}")
    free = [name for name in columns if name not in (key, find_key(columns, ID_KEYS))]
    values = {name: [_cell(line, columns.index(name)) for line in lines] for name in free}
    numeric = [name for name in free if all_numbers(values[name])]
    chosen = choose_targets(str(table), targets, free, numeric)
    for target in chosen:
        refuse_words(str(table), target, values[target])
    named = [_cell(line, columns.index(key)) for line in lines]
    identity = find_key(columns, ID_KEYS) or key
    ids = [row_identity(_cell(line, columns.index(identity)), number) for number, line in enumerate(lines)]
    files = [table, *(file for name in named if (file := _file_of(path, name)) is not None)]
    return file_source(
        FILES,
        path.resolve(),
        chosen,
        count=len(lines),
        rows=partial(_table_rows, path, ids, named, faults, {name: values[name] for name in chosen}, limits),
        content_hash=hash_files(FILES, files),
    )


def _cell(line: Sequence[str], column: int) -> str:
    return line[column].strip() if column < len(line) else ""


def _table_rows(
    path: Path,
    ids: Sequence[str],
    names: Sequence[str],
    faults: Sequence[str],
    values: dict[str, list[str]],
    limits: SourceLimits,
) -> Iterator[SourceRow]:
    for number, (row_id, name, fault) in enumerate(zip(ids, names, faults, strict=True)):
        if fault:
            yield error_row(row_id, fault)
            continue
        targets = {target: column[number] for target, column in values.items()}
        file = _file_of(path, name)
        yield crystal_row(row_id, file, limits, targets) if file else _no_file(row_id, name, targets)


def _no_file(row_id: str, name: str, targets: dict[str, str]) -> SourceRow:
    endings = ", ".join(CRYSTAL_FORMS)
    tried = f"endings: {endings}; or {POSCAR}NAME; a column 'file' can hold any names"
    return error_row(row_id, f"{name[:80]!r} names no file in the folder ({tried})", targets)


def _file_of(folder: Path, name: str) -> Path | None:
    """Return the file that a name means, also without its ending or its `POSCAR_`; None if the folder has none."""
    for candidate in (name, *(f"{name}{ending}" for ending in CRYSTAL_FORMS), f"{POSCAR}{name}"):
        file = _inside(folder, candidate)
        if file is not None and form_of(file) and is_regular(file):
            return file
    return None


def form_of(file: Path) -> Literal["cif", "poscar"] | None:
    """Return the format that a file's name indicates; None if it is not a crystal."""
    if file.name.upper().startswith(("POSCAR", "CONTCAR")):
        return "poscar"
    return CRYSTAL_FORMS.get(file.suffix.lower())


def crystal_row(row_id: str, file: Path, limits: SourceLimits, targets: Mapping[str, Any] | None = None) -> SourceRow:
    """Return the crystal of one file as a row."""
    try:
        return SourceRow(row_id, form_of(file) or "cif", read_small(file, limits), targets or {})
    except RowError as error:
        return error_row(row_id, str(error), targets)


def open_cgcnn_folder(path: Path, targets: Sequence[str] | None, limits: SourceLimits) -> Source:
    """Open a folder as CGCNN has it: id_prop.csv without header (id, target, ...), and one CIF per id."""
    table = path / ID_PROP_FILE
    with reading(table, FOLDER):
        lines = _id_prop(table, limits)
    if not lines:
        raise SourceError(f"{table} is empty; it needs one line per crystal: id,target")
    names = _folder_targets(table, targets, columns=max(len(line) for line in lines) - 1)
    for column, name in enumerate(names if targets is not None else (), 1):
        refuse_words(str(table), name, [line[column] if len(line) > column else None for line in lines])
    files = [table, *(file for line in lines if (file := _inside(path, f"{line[0]}.cif")) is not None)]
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


def _inside(folder: Path, name: str) -> Path | None:
    """Return a file by its name, None if it would lie outside of the folder, also by a link."""
    try:
        file = (folder / name).resolve()
    except (ValueError, OSError, RuntimeError):  # a null byte, a name too long, links in a circle
        return None
    return file if file.is_relative_to(folder.resolve()) else None


def _folder_targets(table: Path, requested: Sequence[str] | None, columns: int) -> tuple[str, ...]:
    """Name the value columns, which have no header."""
    if columns < 1:
        raise SourceError(f"{table} has no value column; its lines must be: id,target")
    if requested and len(requested) != columns:
        raise SourceError(
            f"{table} has {columns} value columns without names; name each of them (got {list(requested)})"
        )
    default = ["target"] if columns == 1 else [f"target_{number + 1}" for number in range(columns)]
    return tuple(requested or default)


def _folder_rows(path: Path, targets: Sequence[str], limits: SourceLimits) -> Iterator[SourceRow]:
    for row_id, *values in _id_prop(path / ID_PROP_FILE, limits):
        named = dict(zip(targets, values, strict=False))  # a short line misses its last targets
        file = _inside(path, f"{row_id}.cif")
        if file is None:
            yield error_row(row_id, f"{row_id}.cif lies outside of the folder", named)
        else:
            yield crystal_row(row_id, file, limits, named)
