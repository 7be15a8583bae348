"""JSON with pymatgen structures: matbench/matminer files (orient="split") and files with one object per line.

Both are read as streams: matbench's largest set is over a gigabyte of text, and several times that as Python objects.
"""

from __future__ import annotations

import json
import re
from functools import partial
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

from srcgcnn.data.columns import (
    ID_KEYS,
    LOOK_AHEAD_ROWS,
    choose_targets,
    error_row,
    file_source,
    find_key,
    numeric_keys,
    reading,
    refuse_words,
    row_identity,
)
from srcgcnn.data.source import Source, SourceError, SourceRow
from srcgcnn.data.text_input import lines_of, open_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from srcgcnn.data.limits import SourceLimits

SPLIT = "matbench json"
LINES = "json lines"
CRYSTAL_KEYS = ("structure", "cif")
BLOCK_CHARACTERS = 1 << 20
MOST_HEADER_CHARACTERS = 1 << 28  # ids of ten million rows
MARK = re.compile(r'["\[\]{}]')
QUOTED_MARK = re.compile(r'["\\]')
DATA_START = re.compile(r'"data"\s*:\s*\[')


def open_split_json(path: Path, targets: Sequence[str] | None, limits: SourceLimits) -> Source:
    """Open {"index": [...], "columns": [...], "data": [[...], ...]} with a column `structure`."""
    with reading(path, SPLIT), open_text(path, limits) as stream:
        header, rest = _split_header(path, stream)
        columns, index = header["columns"], header.get("index")
        found = islice(_items(stream, rest, limits), LOOK_AHEAD_ROWS)
        first = [dict(zip(columns, row, strict=True)) for row in found if _fits(row, columns)]
    chosen = _choose(path, targets, columns, first)
    count = len(index) if index else None
    return file_source(SPLIT, path, chosen, count=count, rows=partial(_split_rows, path, chosen, limits))


def open_json_lines(path: Path, targets: Sequence[str] | None, limits: SourceLimits) -> Source:
    """Open a file with one object per line: an id, a `structure` dict or a `cif` text, and targets."""
    with reading(path, LINES), open_text(path, limits) as stream:
        parsed = [_parsed_line(line) for line in islice(lines_of(stream, limits), LOOK_AHEAD_ROWS)]
    first = [record for record in parsed if isinstance(record, dict)]
    columns = list(dict.fromkeys(key for record in first for key in record))
    chosen = _choose(path, targets, columns, first)
    return file_source(LINES, path, chosen, count=None, rows=partial(_line_rows, path, chosen, limits))


def _choose(
    path: Path, requested: Sequence[str] | None, columns: Sequence[str], first: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    if find_key(columns, CRYSTAL_KEYS) is None:
        raise SourceError(f"{path}: no 'structure' (pymatgen dict) or 'cif' (text); found: {', '.join(columns)}")
    free = [key for key in columns if key.lower() not in CRYSTAL_KEYS and key != find_key(columns, ID_KEYS)]
    chosen = choose_targets(str(path), requested, free, [key for key in numeric_keys(first) if key in free])
    for target in chosen:
        refuse_words(str(path), target, [record.get(target) for record in first])
    return chosen


def _split_rows(path: Path, targets: Sequence[str], limits: SourceLimits) -> Iterator[SourceRow]:
    with reading(path, SPLIT), open_text(path, limits) as stream:
        header, rest = _split_header(path, stream)
        index = header.get("index") or []
        for number, values in enumerate(_items(stream, rest, limits)):
            row_id = index[number] if number < len(index) else None
            if _fits(values, header["columns"]):
                yield _row(dict(zip(header["columns"], values, strict=True)), row_id, number, targets)
            else:
                reason = f"is not a list of {len(header['columns'])} values of at most {limits.text_mib:g} MiB"
                yield error_row(row_identity(row_id, number), reason)


def _fits(values: Any, columns: Sequence[str]) -> bool:
    return isinstance(values, list) and len(values) == len(columns)


def _line_rows(path: Path, targets: Sequence[str], limits: SourceLimits) -> Iterator[SourceRow]:
    with reading(path, LINES), open_text(path, limits) as stream:
        for number, line in enumerate(lines_of(stream, limits)):
            if line is None:
                reason = f"line {number + 1} is longer than the limit of {limits.text_mib:g} MiB"
                yield error_row(f"row-{number}", reason)
                continue
            if not line.strip():
                continue
            record = _parsed_line(line)
            if isinstance(record, dict):
                yield _row(record, None, number, targets)
            else:
                yield error_row(f"row-{number}", f"line {number + 1} {record}")


def _parsed_line(line: str | None) -> dict[str, Any] | str:
    """Return the object, or what is wrong with the line."""
    try:
        record = json.loads(line or "")
    except (ValueError, RecursionError) as error:
        return f"is not JSON: {error}"
    return record if isinstance(record, dict) else "is not a JSON object"


def _row(record: Mapping[str, Any], index: Any, number: int, targets: Sequence[str]) -> SourceRow:
    """Return one row; its own id, if it has one, goes before the index of the table."""
    key = find_key(record, ID_KEYS)
    row_id = row_identity(record[key] if key else index, number)
    values = {target: record.get(target) for target in targets}
    crystal_key = find_key(record, CRYSTAL_KEYS)
    crystal = record[crystal_key] if crystal_key else None
    if isinstance(crystal, dict):
        return SourceRow(row_id, "dict", crystal, values)
    if isinstance(crystal, str):
        return SourceRow(row_id, "cif", crystal, values)
    return error_row(row_id, "no 'structure' (pymatgen dict) and no 'cif' (text)", values)


def _split_header(path: Path, stream: IO[str]) -> tuple[dict[str, Any], str]:
    """Return what stands before the array `data`, and the text already read after its opening bracket."""
    text = ""
    while len(text) < MOST_HEADER_CHARACTERS and (block := stream.read(BLOCK_CHARACTERS)):
        text += block
        if start := DATA_START.search(text):
            header = json.loads(text[: start.start()].rstrip().rstrip(",") + "}")
            if isinstance(header.get("columns"), list) and isinstance(header.get("index") or [], list):
                return header, text[start.end() :]
            break
    raise SourceError(
        f'{path}: not matbench\'s layout {{"index", "columns", "data"}}, in which data comes last; '
        'write it with pandas: table.to_json(path, orient="split")'
    )


def _items(stream: IO[str], text: str, limits: SourceLimits) -> Iterator[Any]:
    """Yield the items of a JSON array from a stream, one at a time; `text` is what follows the opening bracket.

    An item beyond the limit, or nested too deeply, is passed over and yielded as None.
    """
    decoder, position = json.JSONDecoder(), 0
    while True:
        position = _skip_separators(text, position)
        try:
            item, end = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            if text[position : position + 1] == "]":
                return
            if len(text) - position > limits.text_characters:
                yield None
                text, position = _after_item(stream, text[position:]), 0
                continue
            block = stream.read(BLOCK_CHARACTERS)
            # an item cut by the end of the block fails at that end, or at the start of a long string; one that fails
            # long before is wrong
            cut = error.msg.startswith("Unterminated string") or len(text) - error.pos <= BLOCK_CHARACTERS
            if not block or not cut:
                raise
            text, position = text[position:] + block, 0
        except RecursionError:
            yield None
            text, position = _after_item(stream, text[position:]), 0
        else:
            yield item if end - position <= limits.text_characters else None
            position = end


def _after_item(stream: IO[str], text: str) -> str:
    """Return the text after an item that begins `text`, keeping only a block of it in memory."""
    depth, position, quoted = 0, 0, False
    while True:
        mark = (QUOTED_MARK if quoted else MARK).search(text, position)
        if mark is None:
            text, position = stream.read(BLOCK_CHARACTERS), 0
            if not text:
                raise SourceError("the file ends inside an item")
            continue
        position = mark.end()
        if mark[0] == '"':
            quoted = not quoted
        elif mark[0] in "[{":
            depth += 1
        elif mark[0] in "]}":
            depth -= 1
            if depth == 0:
                return text[position:]
        elif position == len(text):  # a backslash: the next character is not a delimiter
            text, position = stream.read(BLOCK_CHARACTERS), 1
        else:
            position += 1


def _skip_separators(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n,":
        position += 1
    return position
