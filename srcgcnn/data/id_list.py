"""Exactly these crystals: a file of ids, and a source with no other rows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from srcgcnn.data.columns import ID_KEYS, error_row
from srcgcnn.data.source import Source, SourceError
from srcgcnn.data.tensor_file import is_regular
from srcgcnn.records import digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from srcgcnn.data.source import SourceRow

SEPARATORS = ",;\t"
NOT_THERE = "listed by --ids, but the source has no such id"


def read_ids(path: Path) -> tuple[str, ...]:
    """Read a list of ids: one per line, or the first cell of each line of a table; each id once, in order.

    Empty lines and lines that begin with # are left out, and a first line that names the column (`id`, ...).

    Raises:
        SourceError: there is no such file, or no id in it.
    """
    if not path.exists():
        raise SourceError(f"--ids {path}: no such file")
    if not is_regular(path):
        raise SourceError(f"--ids {path} is not a regular file")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise SourceError(f"--ids {path}: not UTF-8 text; write one id per line") from None
    found = [_first_cell(line) for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if found and found[0].lower() in ID_KEYS:
        found = found[1:]
    ids = tuple(dict.fromkeys(one for one in found if one))
    if not ids:
        raise SourceError(f"--ids {path}: no id in it; write one per line")
    return ids


def _first_cell(line: str) -> str:
    for separator in SEPARATORS:
        line = line.partition(separator)[0]
    return line.strip().strip('"')


def only(source: Source, ids: Sequence[str]) -> Source:
    """Return these rows of a source, in its order; those that it does not have are bad rows at the end."""
    listed = frozenset(ids)

    def rows() -> Iterator[SourceRow]:
        found = set()
        for row in source.rows():
            if row.row_id in listed:
                found.add(row.row_id)
                yield row
        for row_id in ids:
            if row_id not in found:
                yield error_row(row_id, NOT_THERE)

    return replace(
        source,
        content_hash=digest([source.content_hash, "ids", sorted(listed)]),
        provenance=f"{source.provenance}; {len(listed):,} listed ids of it",
        count=len(listed),
        rows=rows,
    )
