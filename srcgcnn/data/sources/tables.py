"""Tables with one crystal per row: `.csv`, `.csv.gz`, `.xlsx` and `.parquet`.

A crystal is the text of a CIF, or pymatgen's dict as JSON or, in Parquet, as a group of columns.
"""

from __future__ import annotations

import csv
import json
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from srcgcnn.data.columns import (
    ID_KEYS,
    all_numbers,
    choose_targets,
    error_row,
    file_source,
    find_key,
    reading,
    refuse_words,
    row_identity,
)
from srcgcnn.data.excel import EXCEL, excel_records
from srcgcnn.data.source import Source, SourceError, SourceRow
from srcgcnn.data.text_input import csv_records, open_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa

    from srcgcnn.data.limits import SourceLimits

CSV = "csv table"
PARQUET = "parquet table"
CRYSTAL_KEYS = ("cif", "structure")
DELIMITERS = (",", ";", "\t")
ROWS_PER_BLOCK = 1024  # a CIF is a few kB: some MB at a time


def open_csv(path: Path, targets: Sequence[str] | None, limits: SourceLimits) -> Source:
    """Open a table of text or of Excel; values stay text until the build checks them."""
    with reading(path, CSV):
        table = text_records(path, CRYSTAL_KEYS, limits)
        columns = next(table)
        if columns is None:
            raise SourceError(f"{path}: the header is longer than {limits.text_mib:g} MiB")
        rest = [number for number, name in enumerate(columns) if name != _cif_column(path, columns)]
        values: dict[str, list[str]] = {columns[number]: [] for number in rest}
        count = 0
        for record in table:
            count += 1
            if record is not None and len(record) <= len(columns):
                for number in rest:
                    values[columns[number]].append(record[number] if number < len(record) else "")
    chosen = _choose(path, targets, columns, [name for name in values if all_numbers(values[name])])
    for target in chosen:
        refuse_words(str(path), target, values[target])
    return file_source(CSV, path, chosen, count=count, rows=partial(_csv_rows, path, chosen, limits))


def text_records(path: Path, keys: Sequence[str], limits: SourceLimits) -> Iterator[list[str] | None]:
    """Yield the header, with no name twice, and the records; None for one beyond the limit.

    Args:
        path: a table with commas, semicolons or tabs.
        keys: columns one of which it should have; they tell what separates the cells.
        limits: of a record.
    """
    if path.name.lower().endswith(EXCEL):
        rows = excel_records(path, limits)
        yield _distinct(next(rows, []))
        yield from rows
        return
    with open_text(path, limits, newline="") as stream:
        records = csv_records(stream, _delimiter(path, keys, limits), limits)
        header = next(records, [])
        yield None if header is None else _distinct(header)
        yield from records


def record_fault(cells: Sequence[str] | None, number: int, columns: Sequence[str], limits: SourceLimits) -> str:
    """Return why a record of `text_records`, counted from 0, cannot be used; empty if it can."""
    if cells is None:
        return f"row {number + 1} is longer than the limit of {limits.text_mib:g} MiB"
    return f"has {len(cells)} cells, the header {len(columns)}" if len(cells) > len(columns) else ""


def _delimiter(path: Path, keys: Sequence[str], limits: SourceLimits) -> str:
    """Return what separates the cells of the header: the one with which there is a known column."""
    with open_text(path, limits, newline="") as stream:
        header = stream.readline(limits.text_characters)
    names = {delimiter: next(csv.reader([header], delimiter=delimiter), []) for delimiter in DELIMITERS}
    return next((delimiter for delimiter in DELIMITERS if find_key(names[delimiter], keys)), DELIMITERS[0])


def _distinct(names: Sequence[str]) -> list[str]:
    """Number repeated names, as pandas does."""
    taken, found = set(names), []
    for name in names:
        free = name
        if name in found:
            free = next(numbered for number in count(1) if (numbered := f"{name}.{number}") not in taken)
        taken.add(free)
        found.append(free)
    return found


def open_parquet(path: Path, targets: Sequence[str] | None, limits: SourceLimits) -> Source:
    """Open a parquet table."""
    import pyarrow.parquet as pq

    with reading(path, PARQUET):
        table = pq.ParquetFile(path)
        schema, count = table.schema_arrow, table.metadata.num_rows
        unpacked = sum(table.metadata.row_group(group).total_byte_size for group in range(table.num_row_groups))
        if unpacked > limits.unpacked_bytes:
            raise SourceError(f"{path} unpacks to {unpacked / 2**30:.0f} GiB, the limit is {limits.unpacked_gib:g}")
    numeric = _numeric_fields(schema)
    chosen = _choose(path, targets, schema.names, numeric)
    for target in set(chosen) - set(numeric):
        refuse_words(str(path), target, table.read(columns=[target])[target].to_pylist())
    rows = partial(_parquet_rows, path, schema.names, chosen, limits)
    return file_source(PARQUET, path, chosen, count=count, rows=rows)


def _numeric_fields(schema: pa.Schema) -> list[str]:
    from pyarrow import types

    tests = (types.is_integer, types.is_floating, types.is_decimal)
    return [field.name for field in schema if any(test(field.type) for test in tests)]


def _cif_column(path: Path, columns: Sequence[str]) -> str:
    cif = find_key(columns, CRYSTAL_KEYS)
    if cif is None:
        raise SourceError(
            f"{path}: no column 'cif' with the text of a CIF, nor 'structure' with pymatgen's dict; columns: "
            f"{', '.join(columns)}. If crystals are files, put this table into their folder and name the folder; "
            "columns are separated by commas, semicolons or tabs"
        )
    return cif


def _choose(
    path: Path, requested: Sequence[str] | None, columns: Sequence[str], numeric: Sequence[str]
) -> tuple[str, ...]:
    taken = {_cif_column(path, columns), find_key(columns, ID_KEYS)}
    free = [[name for name in names if name not in taken] for names in (columns, numeric)]
    return choose_targets(str(path), requested, *free)


def _csv_rows(path: Path, targets: Sequence[str], limits: SourceLimits) -> Iterator[SourceRow]:
    with reading(path, CSV):
        table = text_records(path, CRYSTAL_KEYS, limits)
        columns = next(table) or []
        cif, identity = _cif_column(path, columns), find_key(columns, ID_KEYS)
        for number, cells in enumerate(table):
            record = dict(zip(columns, cells or (), strict=False))
            row_id = row_identity(record.get(identity) if identity else None, number)
            if fault := record_fault(cells, number, columns, limits):
                yield error_row(row_id, fault)
            else:
                yield _row(row_id, cif, record.get(cif), {target: record.get(target) for target in targets}, limits)


def _parquet_rows(
    path: Path, columns: Sequence[str], targets: Sequence[str], limits: SourceLimits
) -> Iterator[SourceRow]:
    import pyarrow.parquet as pq
    from pyarrow.types import is_struct

    cif, identity = _cif_column(path, columns), find_key(columns, ID_KEYS)
    # a dictionary keeps a long text that is repeated a million times once; a group of columns cannot have one
    with reading(path, PARQUET):
        grouped = is_struct(pq.read_schema(path).field(cif).type)
    with reading(path, PARQUET), pq.ParquetFile(path, read_dictionary=None if grouped else [cif]) as table:
        number = 0
        for block in table.iter_batches(batch_size=ROWS_PER_BLOCK, columns=_needed(path, columns, targets)):
            others = block.drop_columns([cif]).to_pylist()
            for crystal, record in zip(block[cif], others, strict=True):
                row_id = row_identity(record[identity] if identity else None, number)
                yield _row(row_id, cif, crystal.as_py(), {target: record[target] for target in targets}, limits)
                number += 1


def _needed(path: Path, columns: Sequence[str], targets: Sequence[str]) -> list[str]:
    needed = {_cif_column(path, columns), find_key(columns, ID_KEYS), *targets}
    return [column for column in columns if column in needed]


def _row(row_id: str, column: str, crystal: Any, values: dict[str, Any], limits: SourceLimits) -> SourceRow:
    if isinstance(crystal, dict):
        return SourceRow(row_id, "dict", crystal, values)
    if isinstance(crystal, str) and crystal.lstrip().startswith("{"):
        return _json_row(row_id, column, crystal, values, limits)
    if isinstance(crystal, str) and crystal.strip():
        return SourceRow(row_id, "cif", crystal, values)
    return error_row(row_id, f"column {column!r} is empty")


def _json_row(row_id: str, column: str, text: str, values: dict[str, Any], limits: SourceLimits) -> SourceRow:
    """Return a row whose crystal is JSON: pymatgen's `Structure.to_json`."""
    if len(text) > limits.text_characters:
        return error_row(row_id, f"column {column!r} is longer than the limit of {limits.text_mib:g} MiB", values)
    try:
        crystal = json.loads(text)
    except (ValueError, RecursionError) as error:
        return error_row(row_id, f"column {column!r} is not JSON: {error}", values)
    return SourceRow(row_id, "dict", crystal, values)
