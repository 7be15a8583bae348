"""Tables with one crystal per row, its CIF in a column: `.csv`, `.csv.gz` and `.parquet`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from srcgcnn.data.columns import (
    ID_KEYS,
    MISSING,
    choose_targets,
    error_row,
    file_source,
    find_key,
    reading,
    refuse_words,
    row_identity,
)
from srcgcnn.data.source import Source, SourceError, SourceRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import pandas as pd
    import pyarrow as pa

CSV = "csv table"
PARQUET = "parquet table"
CIF_KEYS = ("cif",)
ROWS_PER_BLOCK = 1024  # a CIF is a few kB: some MB at a time


def open_csv(path: Path, targets: Sequence[str] | None) -> Source:
    """Open a csv table; values are kept as text, so that nothing is lost before the build checks them."""
    with reading(path, CSV):
        columns = list(_csv(path, nrows=0).columns)
        cif = _cif_column(path, columns)
        rest = [column for column in columns if column != cif]
        values = _csv(path, usecols=rest)
    chosen = _choose(path, targets, columns, [name for name in rest if _all_numbers(values[name])])
    for target in chosen:
        refuse_words(str(path), target, values[target])
    rows = partial(_csv_rows, path, columns, chosen)
    return file_source(CSV, path, chosen, count=len(values), rows=rows)


def open_parquet(path: Path, targets: Sequence[str] | None) -> Source:
    """Open a parquet table."""
    import pyarrow.parquet as pq

    with reading(path, PARQUET):
        table = pq.ParquetFile(path)
        schema, count = table.schema_arrow, table.metadata.num_rows
    numeric = _numeric_fields(schema)
    chosen = _choose(path, targets, schema.names, numeric)
    for target in set(chosen) - set(numeric):
        refuse_words(str(path), target, table.read(columns=[target])[target].to_pylist())
    rows = partial(_parquet_rows, path, schema.names, chosen)
    return file_source(PARQUET, path, chosen, count=count, rows=rows)


def _csv(path: Path, **options: Any) -> pd.DataFrame:
    import pandas as pd

    return pd.read_csv(path, dtype=str, keep_default_na=False, **options)


def _all_numbers(values: pd.Series) -> bool:
    """Whether every value that is there is a number, and one is."""
    import pandas as pd

    text = values.fillna("").str.strip().str.lower()
    filled = text[~text.isin(MISSING)]
    return len(filled) > 0 and bool(pd.to_numeric(filled, errors="coerce").notna().all())


def _numeric_fields(schema: pa.Schema) -> list[str]:
    from pyarrow import types

    tests = (types.is_integer, types.is_floating, types.is_decimal)
    return [field.name for field in schema if any(test(field.type) for test in tests)]


def _cif_column(path: Path, columns: Sequence[str]) -> str:
    cif = find_key(columns, CIF_KEYS)
    if cif is None:
        raise SourceError(f"{path}: no column 'cif' with the text of a CIF; columns: {', '.join(columns)}")
    return cif


def _choose(
    path: Path, wanted: Sequence[str] | None, columns: Sequence[str], numeric: Sequence[str]
) -> tuple[str, ...]:
    taken = {_cif_column(path, columns), find_key(columns, ID_KEYS)}
    free = [[name for name in names if name not in taken] for names in (columns, numeric)]
    return choose_targets(str(path), wanted, *free)


def _csv_rows(path: Path, columns: Sequence[str], targets: Sequence[str]) -> Iterator[SourceRow]:
    needed = _needed(path, columns, targets)
    with reading(path, CSV), _csv(path, usecols=needed, chunksize=ROWS_PER_BLOCK) as blocks:
        records = (record for block in blocks for record in block.to_dict("records"))
        yield from _rows(path, columns, targets, records)


def _parquet_rows(path: Path, columns: Sequence[str], targets: Sequence[str]) -> Iterator[SourceRow]:
    import pyarrow.parquet as pq

    needed = _needed(path, columns, targets)
    with reading(path, PARQUET), pq.ParquetFile(path) as table:
        blocks = table.iter_batches(batch_size=ROWS_PER_BLOCK, columns=needed)
        yield from _rows(path, columns, targets, (record for block in blocks for record in block.to_pylist()))


def _needed(path: Path, columns: Sequence[str], targets: Sequence[str]) -> list[str]:
    wanted = {_cif_column(path, columns), find_key(columns, ID_KEYS), *targets}
    return [column for column in columns if column in wanted]


def _rows(
    path: Path, columns: Sequence[str], targets: Sequence[str], records: Iterable[dict[str, Any]]
) -> Iterator[SourceRow]:
    cif, identity = _cif_column(path, columns), find_key(columns, ID_KEYS)
    for number, record in enumerate(records):
        row_id = row_identity(record[identity] if identity else None, number)
        values = {target: record[target] for target in targets}
        if isinstance(record[cif], str) and record[cif].strip():
            yield SourceRow(row_id, "cif", record[cif], values)
        else:
            yield error_row(row_id, f"column {cif!r} is empty", values)
